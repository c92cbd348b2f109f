package proxy

import "sync"

// Buffer sizes. A connection starts with a small buffer; it gets a larger one when a head or a body asks for it, and
// gives it back when the message is finished.
const (
	smallBuffer = 4 << 10
	bodyBuffer  = 32 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
	bodyBuffers  = sync.Pool{New: func() any { b := make([]byte, bodyBuffer); return &b }}
)

// buffer is a pooled byte slice. The zero value holds nothing. Not for concurrent use.
type buffer struct {
	p *[]byte // where b came from, nil if b is not pooled
	b []byte
}

// acquire makes b hold at least size bytes, dropping what it held.
func (f *buffer) acquire(size int) {
	f.release()
	switch {
	case size <= smallBuffer:
		f.p = smallBuffers.Get().(*[]byte)
	case size <= bodyBuffer:
		f.p = bodyBuffers.Get().(*[]byte)
	default:
		f.b = make([]byte, size)
		return
	}
	f.b = *f.p
}

// release gives the bytes back. Nothing may alias them any more.
func (f *buffer) release() {
	switch {
	case f.p == nil:
	case len(*f.p) == smallBuffer:
		smallBuffers.Put(f.p)
	default:
		bodyBuffers.Put(f.p)
	}
	f.p, f.b = nil, nil
}
