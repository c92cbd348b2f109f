package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// A question is written before the wait for its answer, whatever the answer's pace.
func TestLink_Ask(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	question := bytes.Repeat([]byte("q"), 1000)
	go func() {
		got := make([]byte, len(question))
		for i := 0; ; i++ {
			if _, err := io.ReadFull(far, got); err != nil {
				return
			}
			if i%2 == 1 {
				time.Sleep(20 * time.Millisecond)
			}
			_, _ = far.Write([]byte("answer"))
		}
	}()
	var buf [16]byte
	for i := range 100 {
		l.limitRead(now(), 10*time.Second)
		l.question = question
		n, err := l.Read(buf[:])
		if string(buf[:n]) != "answer" || err != nil || l.question != nil || l.asked != len(question) {
			t.Fatalf("question %d: got %q, %v; %d bytes were written", i, buf[:n], err, l.asked)
		}
	}
}

// The limit holds for the answer, and a deadline of an earlier wait that has passed keeps no question from being sent.
func TestLink_AskWithinLimit(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	var buf [16]byte
	const limit = 400 * time.Millisecond
	l.limitRead(now(), limit)
	time.Sleep(300 * time.Millisecond)
	start := now()
	l.limitRead(start, limit) // The socket's deadline is 100 ms away, and stays.
	time.Sleep(150 * time.Millisecond)
	l.question = []byte("question")
	if n, err := l.Read(buf[:]); n != 0 || err != errTimedOut || start.until(now()) < limit {
		t.Fatalf("got %d, %v after %v", n, err, start.until(now()))
	}
	if l.question != nil {
		t.Error("the question would be sent again")
	}
	if _, err := far.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	l.limitRead(now(), 10*time.Second)
	if n, err := l.Read(buf[:]); string(buf[:n]) != "answer" || err != nil {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if n, err := far.Read(buf[:]); string(buf[:n]) != "question" || err != nil {
		t.Errorf("the other end got %q, %v", buf[:n], err)
	}
}

// A question that can't be written stays, and says how much of it was: nothing, here.
func TestLink_AskTheDead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		kill func(l *link, far *net.TCPConn)
		want error
	}{
		{"reset", func(l *link, far *net.TCPConn) {
			_ = far.SetLinger(0)
			_ = far.Close()
			await(t, "the reset", func() bool { return l.events()&hungUp != 0 })
		}, syscall.EPIPE},
		{"closed here", func(l *link, _ *net.TCPConn) { _ = l.Close() }, net.ErrClosed},
	} {
		l, far := linkPair(t)
		tt.kill(l, far)
		l.look() // It takes the reset's error off the socket, as a look before reuse does.
		l.question = []byte("question")
		var buf [16]byte
		if n, err := l.Read(buf[:]); n != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %d, %v, want %v", tt.name, n, err, tt.want)
		}
		if l.question == nil || l.asked != 0 {
			t.Errorf("%s: question %q, %d bytes of it written", tt.name, l.question, l.asked)
		}
	}
}

// A peer that ends the connection instead of answering ends the wait.
func TestLink_AskAndBeHungUpOn(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	go func() {
		_, _ = far.Read(make([]byte, 8))
		_ = far.Close()
	}()
	l.limitRead(now(), 10*time.Second)
	l.question = []byte("question")
	var buf [16]byte
	if n, err := l.Read(buf[:]); n != 0 || err != io.EOF || l.question != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

// A question for which the socket has no room is written as the peer takes it.
func TestLink_AskWithoutRoom(t *testing.T) {
	t.Parallel()
	l, far := linkPair(t)
	filler := bytes.Repeat([]byte("f"), rawBytes)
	filled := 0
	_ = l.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		n, err := l.write(filler)
		if filled += n; errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = l.SetWriteDeadline(time.Time{})
	go func() {
		_, _ = io.CopyN(io.Discard, far, int64(filled+len(filler)))
		_, _ = far.Write([]byte("answer"))
	}()
	l.limitRead(now(), 10*time.Second)
	l.question = filler
	var buf [16]byte
	if n, err := l.Read(buf[:]); string(buf[:n]) != "answer" || err != nil || l.asked != len(filler) {
		t.Errorf("got %q, %v; %d bytes were written", buf[:n], err, l.asked)
	}
}

// Errors keep the names that package net gives them.
func TestDescriptor_Errors(t *testing.T) {
	t.Parallel()
	var buf [16]byte
	l, far := linkPair(t)
	_ = l.SetReadDeadline(longAgo)
	if _, err := l.read(buf[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v", err)
	}
	if _, err := l.readNow(buf[:]); err != errInterrupted {
		t.Errorf("nothing there: %v", err)
	}
	_ = far.SetLinger(0)
	_ = far.Close()
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := l.read(buf[:]); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	if _, err := l.write(buf[:]); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing after a reset: %v", err)
	}
	_ = l.Close()
	if _, err := l.read(buf[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := l.write(buf[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after Close: %v", err)
	}
}
