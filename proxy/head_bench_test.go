package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// browserRequest is a request as browsers send it: 14 fields, 700 bytes.
const browserRequest = "GET /assets/app.js?v=12345 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n" +
	"Accept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n" +
	"Referer: https://www.example.com/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; _ga=GA1.1.1234567890.1234567890\r\n\r\n"

const usualAnswer = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 5120\r\nConnection: keep-alive\r\nVary: Accept-Encoding\r\nETag: \"5f5a1c2b-1400\"\r\n" +
	"Cache-Control: public, max-age=3600\r\nSet-Cookie: session=0123456789abcdef; Path=/; HttpOnly\r\n\r\n"

// BenchmarkRequestHead reads a request's head, beside what net/http and fasthttp do for the same bytes.
func BenchmarkRequestHead(b *testing.B) {
	raw := []byte(browserRequest)
	b.Run("impl=sluice", func(b *testing.B) {
		var r request
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			r.reset()
			if n, bad := r.scan(raw, &strictRules); n != len(raw) || bad != KindNone || r.judge() != KindNone {
				b.Fatal("refused")
			}
		}
	})
	b.Run("impl=fasthttp", func(b *testing.B) {
		var h fasthttp.RequestHeader
		src := bytes.NewReader(raw)
		br := bufio.NewReader(src)
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(raw)
			br.Reset(src)
			if err := h.Read(br); err != nil || len(h.Host()) == 0 {
				b.Fatal(err)
			}
		}
	})
	b.Run("impl=net_http", func(b *testing.B) {
		src := bytes.NewReader(raw)
		br := bufio.NewReader(src)
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(raw)
			br.Reset(src)
			if _, err := http.ReadRequest(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkResponseHead reads an answer's head.
func BenchmarkResponseHead(b *testing.B) {
	raw := []byte(usualAnswer)
	b.Run("impl=sluice", func(b *testing.B) {
		var r response
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			r.reset()
			if n, bad := r.scan(raw, &lenientRules); n != len(raw) || bad != KindNone || !r.judge(false) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("impl=fasthttp", func(b *testing.B) {
		var h fasthttp.ResponseHeader
		src := bytes.NewReader(raw)
		br := bufio.NewReader(src)
		b.SetBytes(int64(len(raw)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(raw)
			br.Reset(src)
			if err := h.Read(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkForwardHead writes the heads that are passed on, in either direction.
func BenchmarkForwardHead(b *testing.B) {
	x := newExchange(b, browserRequest, false)
	options := newExchange(b, strings.Replace(browserRequest, "keep-alive", "keep-alive, x-a", 1), true)
	r, _ := judgeResponse(usualAnswer, false)
	mended, _ := judgeResponse(strings.ReplaceAll(usualAnswer, "\r\n", "\n"), false)
	dst := make([]byte, 0, smallBuffer)
	for _, c := range []struct {
		name  string
		write func()
	}{
		{"message=request", func() { dst = x.appendRequestHead(dst[:0], false) }},
		{"message=request_with_options", func() { dst = options.appendRequestHead(dst[:0], false) }},
		{"message=answer", func() { dst = x.appendResponseFields(dst[:0], r) }},
		{"message=mended_answer", func() { dst = x.appendResponseFields(dst[:0], mended) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.write()
			}
		})
	}
}

// BenchmarkClassify finds the kinds of the names of a browser's request, beside a map of lower-cased names.
func BenchmarkClassify(b *testing.B) {
	h, _, _ := scanWhole(browserRequest, &strictRules)
	var names [][]byte
	for i := range h.fields {
		names = append(names, h.fields[i].name.of(h.b))
	}
	b.Run("impl=table", func(b *testing.B) {
		for b.Loop() {
			for _, name := range names {
				_ = classify(name)
			}
		}
	})
	b.Run("impl=map", func(b *testing.B) {
		for b.Loop() {
			for _, name := range names {
				_ = knownFields[string(bytes.ToLower(name))]
			}
		}
	})
}

// BenchmarkValidValue checks a value of 128 bytes, beside the loop over its bytes.
func BenchmarkValidValue(b *testing.B) {
	value := bytes.Repeat([]byte("a"), 128)
	b.Run("impl=words", func(b *testing.B) {
		b.SetBytes(int64(len(value)))
		for b.Loop() {
			if !validValue(value) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("impl=bytes", func(b *testing.B) {
		b.SetBytes(int64(len(value)))
		for b.Loop() {
			for _, c := range value {
				if c < 0x20 && c != '\t' || c == 0x7f {
					b.Fatal("refused")
				}
			}
		}
	})
}

// BenchmarkChunkedBody decodes a body, beside net/http's decoder.
func BenchmarkChunkedBody(b *testing.B) {
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"chunk=16", []byte(strings.Repeat("10\r\n0123456789abcdef\r\n", 100) + "0\r\n\r\n")},
		{"chunk=2048", []byte("800\r\n" + strings.Repeat("x", 2048) + "\r\n0\r\n\r\n")},
	} {
		b.Run(c.name+"/impl=sluice", func(b *testing.B) {
			src, body := &source{}, &body{}
			src.buf.acquire(smallBuffer)
			b.SetBytes(int64(len(c.raw)))
			b.ReportAllocs()
			for b.Loop() {
				src.r, src.w = 0, copy(src.buf.b, c.raw)
				body.start(src, framingChunked, 0)
				var err error
				for err == nil {
					_, err = body.ready()
				}
				if err != io.EOF {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/impl=net_http", func(b *testing.B) {
			src, buf := bytes.NewReader(nil), make([]byte, smallBuffer)
			b.SetBytes(int64(len(c.raw)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(c.raw)
				r := httputil.NewChunkedReader(src)
				var err error
				for err == nil {
					_, err = r.Read(buf)
				}
				if err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
}
