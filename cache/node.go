package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	// pingGap and pingTimeout bound how long a frozen server goes unnoticed: two gaps, because one in
	// which something still came asks for no sign of life, and the timeout.
	pingGap     = 150 * time.Millisecond
	pingTimeout = 500 * time.Millisecond
)

// errNoMaster is what a node is asked for before any Sentinel has said where it is.
var errNoMaster = errors.New("no sentinel has named the master yet")

// node is one Redis server. Its client connects when it is first used and again, lazily, after a
// loss. The address may change: that of a master behind Sentinels does.
type node struct {
	driver *driver

	mu      sync.Mutex // guards what follows
	address string     // "" while unknown
	moved   chan struct{}
	client  rueidis.Client
	of      string // the address that client connects to
	closed  bool
}

func newNode(d *driver, address string) *node {
	return &node{driver: d, address: address, moved: make(chan struct{})}
}

// place returns the present address, and a channel that is closed when it is no longer that.
func (n *node) place() (address string, moved <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.address, n.moved
}

// move sets the address. The old connection lives until the next use, so that whoever watches it
// ends in order.
func (n *node) move(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.address != address {
		n.address = address
		close(n.moved)
		n.moved = make(chan struct{})
	}
}

// connected returns the node's client, which may have lost its connection. The first call for an
// address dials.
func (n *node) connected() (rueidis.Client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, errDown
	case n.address == "":
		return nil, errNoMaster
	case n.client != nil && n.of == n.address:
		return n.client, nil
	case n.client != nil:
		n.client.Close()
		n.client = nil
	}
	client, err := dial(clientOptions(n.driver, n.address))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.address, err)
	}
	n.client, n.of = client, n.address
	return client, nil
}

func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.client != nil {
		n.client.Close()
	}
}

// dial connects, with the older protocol if the server does not know the newer one.
func dial(o rueidis.ClientOption) (rueidis.Client, error) {
	client, err := rueidis.NewClient(o)
	if err != nil && hasReplyCode(err, "NOPROTO") {
		if client != nil {
			client.Close()
		}
		o.AlwaysRESP2 = true
		client, err = rueidis.NewClient(o)
	}
	if err != nil && client != nil {
		client.Close()
	}
	return client, err
}

// clientOptions are those of one pipelined connection without the library's cache and retries: its
// retry races with its writer, and its cache is slower than the table.
func clientOptions(d *driver, address string) rueidis.ClientOption {
	o := rueidis.ClientOption{
		InitAddress:         []string{address},
		Username:            d.user,
		Password:            d.password,
		SelectDB:            d.database,
		TLSConfig:           d.tlsFor(address),
		ForceSingleClient:   true,
		PipelineMultiplex:   -1,
		DisableRetry:        true,
		DisableCache:        true,
		Dialer:              net.Dialer{Timeout: dialTimeout, KeepAlive: pingGap},
		ConnWriteTimeout:    pingTimeout,
		ClientName:          "sluice",
		ClientSetInfo:       rueidis.DisableClientSetInfo,
		RingScaleEachConn:   10,
		ReadBufferEachConn:  64 << 10,
		WriteBufferEachConn: 64 << 10,
	}
	o.DialCtxFn = func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		return dialServer(ctx, d.network, address, dialer, config)
	}
	return o
}
