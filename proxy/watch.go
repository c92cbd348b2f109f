package proxy

import (
	"errors"
	"os"
	"time"
)

// watch notices a client that goes away while nobody reads from it. It runs in a goroutine of its own, only while a
// wait for the backend is long.
type watch struct {
	x       *exchange
	link    *link // the client's; set before start
	running bool
	stopped chan struct{}
	done    chan struct{}
}

func (w *watch) init(x *exchange) {
	w.x, w.stopped, w.done = x, make(chan struct{}, 1), make(chan struct{}, 1)
}

func (w *watch) start() {
	w.running = true
	w.link.limitRead(0, 0)
	go w.run()
}

// stop ends the watch and waits until it has ended.
func (w *watch) stop() {
	if !w.running {
		return
	}
	w.stopped <- struct{}{}
	w.link.interrupt()
	<-w.done
	select {
	case <-w.stopped:
	default:
	}
	w.link.resume()
	w.running = false
}

// pollEvery is how often a client is looked at that has sent a FIN, or bytes that hide one.
const pollEvery = 50 * time.Millisecond

func (w *watch) run() {
	defer func() { w.done <- struct{}{} }()
	defer w.x.srv.survive("watch", func() {}) // The client is not watched then; that ends nothing.
	l := w.link
	saw, err := l.await()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return // Stopped.
	}
	if err != nil || saw == sightBroken {
		w.x.leave()
		return
	}
	w.poll(l)
}

// poll looks at a client that can't be waited for until it is gone or the watch is stopped.
func (w *watch) poll(l *link) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	grace := w.x.cfg.HalfCloseGrace
	var fin instant
	for {
		events, t := l.events(), now()
		if events&finished != 0 && fin == 0 {
			fin = t
		}
		silent := fin != 0 && grace > 0 && fin.until(t) >= grace && !w.x.answered.Load()
		if events&hungUp != 0 || silent {
			w.x.leave()
			return
		}
		select {
		case <-w.stopped:
			return
		case <-tick.C:
		}
	}
}
