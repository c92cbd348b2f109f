package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"
)

// handshakeConfig asks for what the work's title says. It has no cache of sessions, so that every
// handshake is a full one.
var handshakeConfig = &tls.Config{
	ServerName:         hostName(0),
	MinVersion:         tls.VersionTLS13,
	CurvePreferences:   []tls.CurveID{tls.X25519},
	InsecureSkipVerify: true, // The certificate is one of ours, made for this run and signed by nobody.
}

// runHandshakes makes new connections, so many at a time, and counts each once both sides have ended
// its handshake. This program pays for the client's half, which is the larger one, with the same
// cores: the proxy's CPU time says more than the rate.
func runHandshakes(ctx context.Context, to string, connections int, duration time.Duration, begin func() error,
) (report, error) {
	where, err := url.Parse(to)
	if err != nil {
		return report{}, err
	}
	if _, err := shakeHands(where.Host); err != nil {
		return report{}, fmt.Errorf("make a handshake: %w", err)
	}
	if err := begin(); err != nil {
		return report{}, err
	}
	shake := func(running context.Context, _ int, count func(time.Duration)) error {
		for running.Err() == nil {
			took, err := shakeHands(where.Host)
			if err != nil {
				return err
			}
			count(took)
		}
		return nil
	}
	r, err := runWorkers(ctx, connections, duration, shake)
	if err != nil {
		return report{}, fmt.Errorf("make handshakes: %w", err)
	}
	return r, nil
}

// shakeHands makes one connection and ends it. It returns how long that took until the handshake was
// complete.
func shakeHands(addr string) (time.Duration, error) {
	start := time.Now()
	plain, err := net.DialTimeout("tcp", addr, answerTimeout)
	if err != nil {
		return 0, err
	}
	defer plain.Close()
	if err := plain.SetDeadline(start.Add(answerTimeout)); err != nil {
		return 0, err
	}
	conn := tls.Client(plain, handshakeConfig)
	if err := conn.Handshake(); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if err := checkHandshake(conn.ConnectionState()); err != nil {
		return 0, err
	}
	// In TLS 1.3 the client is done before the server is. A server that closes because the client did
	// has read what the client said last.
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	n, err := conn.Read(make([]byte, 1))
	if n > 0 {
		return 0, errors.New("bytes come after the handshake, want the end")
	}
	if !ended(err) {
		return 0, fmt.Errorf("wait for the end after the handshake: %w", err)
	}
	return took, nil
}

// ended reports whether err is how a connection ends that the server closed, with a last record or
// without.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// checkHandshake fails unless the handshake was the one that is measured.
func checkHandshake(state tls.ConnectionState) error {
	if state.Version != tls.VersionTLS13 || state.DidResume || state.CurveID != tls.X25519 {
		return fmt.Errorf("%s with %v, resumed: %v; want a full handshake of TLS 1.3 with X25519",
			tls.VersionName(state.Version), state.CurveID, state.DidResume)
	}
	key, ok := state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return fmt.Errorf("the certificate's key is %T, want one of P-256", state.PeerCertificates[0].PublicKey)
	}
	return nil
}
