package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/internal/backendtest"
)

// webSocketHost is the name that sluice routes to the echoing backend.
const webSocketHost = "ws.load.test"

// messageBytes is the payload of one WebSocket message: long enough for a length of two bytes.
const messageBytes = 128

// startEcho starts the WebSocket backend, in this process: no contestant's account pays for it.
func (s *site) startEcho() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start WebSocket backend: %w", err)
	}
	small := bytes.Repeat([]byte("x"), smallBytes)
	mux := http.NewServeMux()
	mux.Handle("/echo", backendtest.WebSocketEcho())
	mux.HandleFunc("/small", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(small) // A client that left needs no answer.
	})
	s.echoes = &http.Server{Handler: mux, ReadHeaderTimeout: answerTimeout}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	if s.echoPort, err = strconv.Atoi(port); err != nil {
		return err
	}
	s.frame = maskedFrame(bytes.Repeat([]byte("m"), messageBytes))
	go func() { _ = s.echoes.Serve(ln) }() // It returns when it is closed.
	return nil
}

// RFC 6455 §5.2: the first bytes of frames.
const (
	finalBinary  = 0x82
	masked       = 0x80
	length16Bits = 126
	frameHead    = 4 // opcode, length of two bytes
)

// maskedFrame is a client's binary message in one frame.
func maskedFrame(payload []byte) []byte {
	frame := []byte{finalBinary, masked | length16Bits}
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	mask := [4]byte{1, 2, 3, 4}
	frame = append(frame, mask[:]...)
	for i, b := range payload {
		frame = append(frame, b^mask[i%len(mask)])
	}
	return frame
}

// upgrade asks for /echo and reads the answer's head, which must be a 101.
func upgrade(conn net.Conn, r *bufio.Reader, host string) error {
	_, err := fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
	if err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d, X-Sluice-Error %q; want 101", resp.StatusCode, resp.Header.Get("X-Sluice-Error"))
	}
	return nil
}

// echo sends a frame made by maskedFrame and reads the message that comes back. It returns how long
// that took.
func echo(conn net.Conn, r *bufio.Reader, frame []byte) (time.Duration, error) {
	start := time.Now()
	if _, err := conn.Write(frame); err != nil {
		return 0, err
	}
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	if head[0] != finalBinary || head[1] != length16Bits || binary.BigEndian.Uint16(head[2:]) != messageBytes {
		return 0, fmt.Errorf("a frame begins with % x, want a binary message of %d bytes", head, messageBytes)
	}
	if n, err := r.Discard(messageBytes); err != nil || n != messageBytes {
		return 0, fmt.Errorf("read message: %w", err)
	}
	return time.Since(start), nil
}

// runWebSocket sends messages over the given number of tunnels, one at a time on each, and reports
// them as wrk reports requests.
func runWebSocket(ctx context.Context, s *site, to string, connections int, duration time.Duration) (report, error) {
	where, err := url.Parse(to)
	if err != nil {
		return report{}, err
	}
	running, stop := context.WithTimeout(ctx, duration)
	defer stop()
	var (
		all       sync.WaitGroup
		mu        sync.Mutex
		errs      []error
		histogram = newHistogram()
		start     = time.Now()
	)
	for range connections {
		all.Go(func() {
			own := newHistogram()
			err := talkUntil(running, s, where.Host, own)
			mu.Lock()
			defer mu.Unlock()
			histogram.Merge(own)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return report{}, ctx.Err()
	}
	if histogram.TotalCount() == 0 {
		return report{}, fmt.Errorf("run WebSockets: no message came back: %w", errors.Join(errs...))
	}
	r := reportOf(histogram, time.Since(start))
	r.Errors.Read = int64(len(errs))
	return r, nil
}

// talkUntil has messages echoed over one tunnel until ctx ends.
func talkUntil(ctx context.Context, s *site, addr string, latencies *hdrhistogram.Histogram) error {
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline.Add(answerTimeout)); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	if err := upgrade(conn, r, hostName(0)); err != nil {
		return err
	}
	for ctx.Err() == nil {
		took, err := echo(conn, r, s.frame)
		if err != nil {
			return err
		}
		count(latencies, took)
	}
	return nil
}
