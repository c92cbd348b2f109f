package proxy

import (
	"bytes"
	"strconv"
)

// What Config.AltSvc may say beside a field's value.
const (
	AltSvcAuto = "auto" // HTTP/3 is announced where it is served
	AltSvcNone = "none" // nothing is
)

const altSvcField = "Alt-Svc"

// altSvcAge is how long, in seconds, clients keep what an answer announced. It is what RFC 7838 §3.1 has for those that
// say nothing.
const altSvcAge = 86400

// announcement returns the field line that announces HTTP/3 on a port, "" for none.
func (b *Bind) announcement(port int) string {
	if b.TLS == nil || !b.HTTP3 || port == 0 {
		return ""
	}
	return altSvcField + `: h3=":` + strconv.Itoa(port) + `"; ma=` + strconv.Itoa(altSvcAge) + "\r\n"
}

// appendAltSvc appends the announcement of HTTP/3 to an answer over TLS (RFC 7838 §3). r is the backend's head, whose
// own field counts instead; nil for an answer of ours. Who came by HTTP/3 knows already, and one who is about to stop
// announces nothing.
func (x *exchange) appendAltSvc(dst []byte, r *response) []byte {
	own := x.cfg.AltSvc
	if x.peer.altSvc == "" && own == AltSvcAuto || x.peer.proto != "https" || x.req.major == 3 {
		return dst // Fast path.
	}
	if r != nil {
		if r.status < 200 {
			return dst
		}
		for i := range r.fields {
			if name := r.fields[i].name.of(r.b); len(name) == len(altSvcField) && bytes.EqualFold(name, []byte(altSvcField)) {
				return dst
			}
		}
	}
	switch own {
	case "", AltSvcNone:
		return dst
	case AltSvcAuto:
		if x.srv.closing.Load() {
			return dst
		}
		return append(dst, x.peer.altSvc...)
	}
	return appendText(dst, altSvcField+": ", own)
}
