package backendtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Echoed is the answer of an Echo backend, sent as JSON: what reached it, byte for byte where JSON
// can say it.
type Echoed struct {
	Name       string  `json:"name"`    // of the backend
	Conn       int     `json:"conn"`    // index of the connection, from 0
	Request    int     `json:"request"` // index of the request on that connection, from 0
	Method     string  `json:"method"`
	Target     string  `json:"target"`
	Proto      string  `json:"proto"`
	Fields     []Field `json:"fields"`
	BodyBytes  int64   `json:"body_bytes"`
	BodySHA256 string  `json:"body_sha256"`
	Trailers   []Field `json:"trailers"`
}

// Values are the values of all fields called name, in any case, in their order.
func (e *Echoed) Values(name string) []string { return values(e.Fields, name) }

// Value is the first of Values, or "".
func (e *Echoed) Value(name string) string { return first(e.Values(name)) }

// ParseEcho decodes the body of an Echo backend's answer.
func ParseEcho(body []byte) (*Echoed, error) {
	e := &Echoed{}
	if err := json.Unmarshal(body, e); err != nil {
		return nil, fmt.Errorf("parse echo %.80q: %w", body, err)
	}
	return e, nil
}

// Echo answers every request with 200, its own name in X-Backend, and an Echoed. It keeps
// connections alive, and answers a malformed request with 400 and its fault, and closes.
func Echo(t T, name string) *Backend {
	t.Helper()
	return Raw(t, func(c *Conn) {
		for i := 0; ; i++ {
			e, keepAlive, err := echoOne(c)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				text := err.Error()
				fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
					len(text), text)
				return
			}
			e.Name, e.Conn, e.Request = name, c.Index, i
			if err := answerEcho(c, e); err != nil || !keepAlive {
				return
			}
		}
	})
}

func echoOne(c *Conn) (e *Echoed, keepAlive bool, err error) {
	q, err := c.ReadHead()
	if err != nil {
		return nil, false, err
	}
	body, err := c.Body(q)
	if err != nil {
		return nil, false, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	if err != nil {
		return nil, false, fmt.Errorf("read body: %w", err)
	}
	return &Echoed{
		Method: q.Method, Target: q.Target, Proto: q.Proto, Fields: q.Fields, Trailers: q.Trailers,
		BodyBytes: n, BodySHA256: hex.EncodeToString(sum.Sum(nil)),
	}, q.keepAlive(), nil
}

func answerEcho(c *Conn, e *Echoed) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Backend: %s\r\nContent-Length: %d\r\n\r\n",
		e.Name, len(body))
	if e.Method != http.MethodHead {
		b.Write(body)
	}
	_, err = c.Write(b.Bytes())
	return err
}
