package backendtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
)

// Field is one header or trailer line as it stood on the wire, the value without outer blanks.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Request is a request as it reached a backend: nothing joined, sorted or re-cased.
type Request struct {
	Method   string
	Target   string
	Proto    string
	Fields   []Field
	Head     string // the bytes of the head, empty line included
	Body     []byte // set by Conn.ReadRequest only
	Trailers []Field
}

// Values are the values of all fields called name, in any case, in their order.
func (r *Request) Values(name string) []string { return values(r.Fields, name) }

// Value is the first of Values, or "".
func (r *Request) Value(name string) string { return first(r.Values(name)) }

// keepAlive tells whether another request may follow on the connection.
func (r *Request) keepAlive() bool {
	connection := strings.ToLower(strings.Join(r.Values("Connection"), ","))
	if strings.Contains(connection, "close") {
		return false
	}
	return r.Proto == "HTTP/1.1" || strings.Contains(connection, "keep-alive")
}

func values(fields []Field, name string) []string {
	var list []string
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			list = append(list, f.Value)
		}
	}
	return list
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// readHead reads one request head. It is strict where a proxy must never be sloppy: lines end in
// CRLF and hold a name, a colon right behind it, and a value.
func readHead(r *bufio.Reader) (*Request, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	words := strings.Split(line, " ")
	if len(words) != 3 || slices.Contains(words, "") {
		return nil, fmt.Errorf("read request line %q: want three words", line)
	}
	q := &Request{Method: words[0], Target: words[1], Proto: words[2]}
	q.Fields, q.Head, err = readFields(r)
	q.Head = line + "\r\n" + q.Head
	return q, err
}

// readFields reads header or trailer lines up to and with the empty line, which it returns raw too.
func readFields(r *bufio.Reader) (fields []Field, raw string, err error) {
	var b strings.Builder
	for {
		line, err := readLine(r)
		if err != nil {
			return fields, b.String(), unexpectedEOF(err)
		}
		b.WriteString(line)
		b.WriteString("\r\n")
		if line == "" {
			return fields, b.String(), nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return fields, b.String(), fmt.Errorf("read field line %q: no name and colon", line)
		}
		fields = append(fields, Field{name, strings.Trim(value, " \t")})
	}
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		if line != "" {
			err = unexpectedEOF(err)
		}
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") {
		return "", fmt.Errorf("read line %q: bare LF", line)
	}
	return line[:len(line)-2], nil
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// body returns the body that follows the head in from. The trailers are set when it has been
// read to its end.
func (r *Request) body(from *bufio.Reader) (io.Reader, error) {
	codings, lengths := r.Values("Transfer-Encoding"), r.Values("Content-Length")
	switch {
	case len(codings) > 0 && len(lengths) > 0:
		return nil, fmt.Errorf("frame body: both Transfer-Encoding %q and Content-Length %q", codings, lengths)
	case len(codings) > 0:
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") {
			return nil, fmt.Errorf("frame body: Transfer-Encoding %q", codings)
		}
		return &chunked{body: httputil.NewChunkedReader(from), from: from, request: r}, nil
	case len(lengths) > 1:
		return nil, fmt.Errorf("frame body: Content-Length %q", lengths)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil {
			return nil, fmt.Errorf("frame body: Content-Length %q", lengths[0])
		}
		return &sized{from: from, left: int64(n)}, nil
	}
	return strings.NewReader(""), nil
}

// chunked is a chunked body; it reads the trailers behind the last chunk.
type chunked struct {
	body    io.Reader
	from    *bufio.Reader
	request *Request
	done    bool
}

// Read implements io.Reader.
func (c *chunked) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	n, err := c.body.Read(p)
	if errors.Is(err, io.EOF) {
		c.done = true
		fields, _, trailerErr := readFields(c.from)
		if c.request.Trailers = fields; trailerErr != nil {
			err = trailerErr
		}
	}
	return n, err
}

// sized is a body of known length; an early end is an error.
type sized struct {
	from io.Reader
	left int64
}

// Read implements io.Reader.
func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.from.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, unexpectedEOF(err)
}
