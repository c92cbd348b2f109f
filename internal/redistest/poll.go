package redistest

import (
	"errors"
	"time"
)

const (
	// startTimeout bounds the time from exec to the first answer, and the wait for a replica.
	startTimeout = 20 * time.Second
	pollInterval = 5 * time.Millisecond
)

// fatalError ends a poll before its deadline: more waiting would not help.
type fatalError struct{ error }

// poll repeats f until it succeeds, fails for good, or startTimeout is over.
func poll(f func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := f()
		if err == nil || errors.As(err, new(fatalError)) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pollInterval)
	}
}
