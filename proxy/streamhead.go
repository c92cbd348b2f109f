package proxy

import (
	"net/http"
	"strings"
)

// This file turns the heads of HTTP/2 and HTTP/3 into those of HTTP/1.1 and back.

// appendStreamHead appends the head of a request as HTTP/1.1 has it. The libraries have refused names and values that
// would not keep to their lines; the head is judged afterwards all the same.
func appendStreamHead(dst []byte, r *http.Request) []byte {
	dst = append(append(dst, r.Method...), ' ')
	dst = append(append(dst, r.RequestURI...), " HTTP/1.1\r\n"...)
	if r.Host != "" {
		dst = append(append(append(dst, "Host: "...), r.Host...), "\r\n"...)
	}
	dst = appendHeaderLines(dst, r.Header)
	if r.ContentLength < 0 {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	if len(r.Trailer) > 0 && r.ContentLength < 0 {
		dst = append(dst, "Trailer: "...)
		for name := range r.Trailer {
			dst = append(append(dst, name...), ", "...)
		}
		dst = append(dst[:len(dst)-len(", ")], "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// appendHeaderLines appends the fields of a header map, in no certain order; equal names keep theirs.
func appendHeaderLines(dst []byte, h http.Header) []byte {
	for name, values := range h {
		for _, v := range values {
			dst = append(append(dst, name...), ": "...)
			dst = append(append(dst, v...), "\r\n"...)
		}
	}
	return dst
}

// cutLine cuts the first line off field lines and splits it. Heads were judged when they were read: a line without a
// name is none of theirs.
func cutLine(lines string) (name, value, rest string) {
	line, rest, _ := strings.Cut(lines, "\n")
	line = strings.TrimSuffix(line, "\r")
	name, value, found := strings.Cut(line, ":")
	if !found {
		return "", "", rest
	}
	return name, strings.Trim(value, " \t"), rest
}
