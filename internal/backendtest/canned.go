package backendtest

import (
	"bytes"
	"strconv"
)

// Canned answers every request with the same raw bytes and reads bodies of a stated length. It does
// as little as a backend can, so that a benchmark measures the proxy in front of it.
func Canned(t T, response string) *Backend {
	t.Helper()
	answer := []byte(response)
	return Raw(t, func(c *Conn) {
		for {
			if err := skipRequest(c); err != nil {
				return
			}
			c.backend.requests.Add(1)
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
}

// skipRequest reads one request and forgets it.
func skipRequest(c *Conn) error {
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= len("\r\n") {
			break
		}
		const name = "Content-Length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			// The compiler keeps this conversion off the heap.
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	_, err := c.r.Discard(length)
	return err
}
