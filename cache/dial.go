package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"
)

const (
	// dialTimeout bounds the making of a connection, the TLS handshake included.
	dialTimeout = time.Second
	// dialGap is the pause before another attempt to connect is made beside those that have no answer.
	dialGap = 50 * time.Millisecond
)

// dialServer connects to a server, over TLS if config is not nil. Where the network swallows the
// first packet, the kernel repeats it after a second, and a server that is back would be found that
// much later; so another attempt begins each dialGap, and the first that succeeds counts.
func dialServer(
	ctx context.Context, network, address string, dialer *net.Dialer, config *tls.Config,
) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dialStaggered(ctx, network, address, dialer)
	if err != nil || config == nil {
		return raw, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // The error that matters is that of the handshake.
		return nil, err
	}
	return conn, nil
}

// dialed is what became of one attempt.
type dialed struct {
	conn net.Conn
	err  error
}

func dialStaggered(ctx context.Context, network, address string, dialer *net.Dialer) (net.Conn, error) {
	// The attempts that are left over end, and so does what they may have made.
	ctx, cancel := context.WithCancel(ctx)
	attempts := make(chan dialed)
	pending := 0
	defer func() {
		cancel()
		go func() {
			for range pending {
				if late := <-attempts; late.err == nil {
					_ = late.conn.Close()
				}
			}
		}()
	}()
	begin := func() {
		pending++
		go func() {
			conn, err := dialer.DialContext(ctx, network, address)
			attempts <- dialed{conn, err}
		}()
	}
	begin()
	tick := time.NewTicker(dialGap)
	defer tick.Stop()
	for {
		select {
		case a := <-attempts:
			pending--
			// Silence is waited out; a refusal is an answer.
			if a.err == nil || pending == 0 || !isSilence(a.err) {
				return a.conn, a.err
			}
		case <-tick.C:
			if ctx.Err() == nil {
				begin()
			}
		}
	}
}

// isSilence tells whether an attempt ended because nothing answered.
func isSilence(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
