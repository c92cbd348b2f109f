package proxy

import "context"

// leaving calls a function when a request's context ends.
type leaving struct {
	cancel func() bool
	done   chan struct{}
}

func (l *leaving) start(ctx context.Context, gone func()) {
	done := make(chan struct{})
	l.done = done
	l.cancel = context.AfterFunc(ctx, func() {
		defer close(done)
		gone()
	})
}

// stop ends the wait. The function does not run any more when stop returns.
func (l *leaving) stop() {
	if l.cancel == nil {
		return
	}
	if !l.cancel() {
		<-l.done
	}
	l.cancel, l.done = nil, nil
}
