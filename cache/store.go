package cache

import (
	"context"
	"errors"
	"time"
)

// store is where frontends live. A store has three sides: it reads names on demand, it announces
// changes to a sink, and it takes marks. Its methods are safe for concurrent use; read, mark,
// checker and ping do I/O and honour the context's deadline.
type store interface {
	// start begins the background work, which ends with ctx. It returns at once, and with an error
	// only for what waiting does not heal.
	start(ctx context.Context, to sink) error
	// read reads the list of a name and, if wantDead, its dead set.
	read(ctx context.Context, name string, wantDead bool) (reading, error)
	// readHash reads the hash of a name in a family.
	readHash(ctx context.Context, f family, name string) (hashReading, error)
	// names calls each for every name of the families that existed from its beginning to its end,
	// and perhaps for others, some more than once, until each returns an error. What comes into being
	// meanwhile is announced. errNoNames means that no later call would do better while the watch
	// stands.
	names(ctx context.Context, each func(f family, name string) error) error
	// mark records a dead backend.
	mark(ctx context.Context, m mark) (markOutcome, error)
	// checker returns the unix time in seconds of the external active checker's last sign of life;
	// 0 means never.
	checker(ctx context.Context) (int64, error)
	// ping asks for one sign of life.
	ping(ctx context.Context) error
	// close frees what start's context does not. All background work has ended when it returns.
	close()
}

// sink receives what a store announces, in the order in which it happened: a change that is
// announced before up is not needed, one that comes after it must not be lost. The methods do not
// block and do no I/O.
type sink interface {
	// up: from now on every change is announced.
	up()
	// down: changes may be lost until the next up. cause nil means a planned, short gap.
	down(cause error)
	// flushed: everything may have changed.
	flushed()
	// listChanged and deadChanged: the list or the dead set of this name may have changed.
	listChanged(name string)
	deadChanged(name string)
	// hashChanged: the hash of this name in a family may have changed.
	hashChanged(f family, name string)
	// announced: someone marked backend id of host, which is url.
	announced(host, url string, id int)
}

// reading is what a store holds under one name.
type reading struct {
	// list is nil when there is none. At most Options.MaxBackends backends follow the identifier.
	list []string
	// cut tells that the list in the store is longer.
	cut bool
	// listTTL and deadTTL are what is left of the keys' lives; 0 means that they do not expire.
	listTTL time.Duration
	// broken is not nil when the list's key is not a list; the name then has no usable backend.
	broken error

	dead    []string
	deadTTL time.Duration
	// deadBroken is not nil when the dead set's key is not a set; it then counts as empty.
	deadBroken error
}

// markOutcome is what became of a mark in the store.
type markOutcome uint8

const (
	markWritten   markOutcome = iota // in the dead set, and announced
	markPublished                    // announced only: an active checker decides
	markMoved                        // not written: the list changed under the id
	markKept                         // the store keeps no marks: the local one is all there is
)

// errDown is returned by a store's methods when it could not be asked; the same call may succeed
// later. Any other error is the store's answer.
var errDown = errors.New("not connected")
