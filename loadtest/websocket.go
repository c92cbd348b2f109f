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
	"time"

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

// tunnel is one WebSocket and its reader.
type tunnel struct {
	conn net.Conn
	r    *bufio.Reader
}

// openTunnel opens a WebSocket that lasts until a while after end.
func openTunnel(addr string, end time.Time) (*tunnel, error) {
	conn, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		return nil, err
	}
	t := &tunnel{conn, bufio.NewReader(conn)}
	if err := errors.Join(conn.SetDeadline(end.Add(answerTimeout)), upgrade(conn, t.r, hostName(0))); err != nil {
		_ = conn.Close() // The error that matters is the one above.
		return nil, err
	}
	return t, nil
}

// runWebSocket sends messages over the given number of tunnels, one at a time on each, and reports
// them as wrk reports requests.
func runWebSocket(ctx context.Context, s *site, to string, connections int, duration time.Duration, begin func() error,
) (report, error) {
	where, err := url.Parse(to)
	if err != nil {
		return report{}, err
	}
	var tunnels []*tunnel
	defer func() {
		for _, t := range tunnels {
			_ = t.conn.Close() // Nothing is expected of it any more.
		}
	}()
	for i := range connections {
		t, err := openTunnel(where.Host, time.Now().Add(answerTimeout+duration))
		if err != nil {
			return report{}, fmt.Errorf("open WebSocket %d of %d: %w", i+1, connections, err)
		}
		tunnels = append(tunnels, t)
	}
	if err := begin(); err != nil {
		return report{}, err
	}
	talk := func(running context.Context, i int, count func(time.Duration)) error {
		for running.Err() == nil {
			took, err := echo(tunnels[i].conn, tunnels[i].r, s.frame)
			if err != nil {
				return err
			}
			count(took)
		}
		return nil
	}
	r, err := runWorkers(ctx, connections, duration, talk)
	if err != nil {
		return report{}, fmt.Errorf("run WebSockets: %w", err)
	}
	return r, nil
}
