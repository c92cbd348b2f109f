package proxy

import (
	"strconv"
	"time"
)

// appendDebug appends the X-Debug-* fields of an answer that came from a backend (Hipache: lib/worker.js).
func (x *exchange) appendDebug(dst []byte) []byte {
	dst = appendText(dst, "X-Debug-Version-Hipache: ", x.cfg.Version)
	dst = appendText(dst, "X-Debug-Backend-Url: ", x.backend.URL)
	dst = append(dst, "X-Debug-Backend-Id: "...)
	dst = strconv.AppendInt(dst, int64(x.index), 10)
	dst = append(dst, "\r\n"...)
	dst = appendText(dst, "X-Debug-Vhost: ", x.vhost())
	dst = appendText(dst, "X-Debug-Frontend-Key: ", string(x.host))
	dst = appendMillis(dst, "X-Debug-Time-Total: ", x.start.until(now()))
	return appendMillis(dst, "X-Debug-Time-Backend: ", x.backendTime)
}

// appendErrorDebug appends the X-Debug-* fields of an error answer of our own.
func (x *exchange) appendErrorDebug(dst []byte, message string) []byte {
	dst = appendText(dst, "X-Debug-Error: ", message)
	return appendText(dst, "X-Debug-Version-Hipache: ", x.cfg.Version)
}

// appendText appends a field line. Redis may hold anything: what can't be a field value becomes `?`.
func appendText(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < 0x20 || c == 0x7f {
			dst = append(dst, '?')
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, "\r\n"...)
}

func appendMillis(dst []byte, name string, d time.Duration) []byte {
	dst = append(dst, name...)
	dst = strconv.AppendInt(dst, d.Milliseconds(), 10)
	return append(dst, "\r\n"...)
}
