package proxy

import "io"

// source is the reading end of a connection: a buffer that is filled by read. It is embedded in the two kinds of
// connections, which set read to a function that knows their time limits. Not for concurrent use.
type source struct {
	buf  buffer
	r, w int // unread bytes are buf.b[r:w]
	read func(p []byte) (int, error)

	filled bool // the last read filled the buffer: more bytes may be waiting in the kernel
}

// buffered returns the unread bytes. They are valid until the next fill.
func (s *source) buffered() []byte { return s.buf.b[s.r:s.w] }

// consume drops n unread bytes.
func (s *source) consume(n int) {
	s.r += n
	if s.r == s.w {
		s.r, s.w = 0, 0
	}
}

// reserve makes the buffer hold at least size bytes, keeping what is unread at its start.
func (s *source) reserve(size int) {
	if len(s.buf.b) >= size {
		return
	}
	old := s.buf
	s.buf = buffer{}
	s.buf.acquire(size)
	s.w = copy(s.buf.b, old.b[s.r:s.w])
	s.r = 0
	old.release()
}

// compact moves the unread bytes to the start of the buffer.
func (s *source) compact() {
	if s.r > 0 {
		s.w = copy(s.buf.b, s.buf.b[s.r:s.w])
		s.r = 0
	}
}

// fill reads once into the free end of the buffer. It returns io.ErrShortBuffer if there is none.
func (s *source) fill() error {
	if s.w == len(s.buf.b) {
		if s.r == 0 {
			return io.ErrShortBuffer
		}
		s.compact()
	}
	n, err := s.read(s.buf.b[s.w:])
	s.w += n
	s.filled = s.w == len(s.buf.b)
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// scanHead fills until h is complete and returns it with its bytes still unread; a message's head always starts at the
// unread bytes. grow doubles the buffer up to the head's limit.
func (s *source) scanHead(h *head, rules *headRules) (n int, bad Kind, err error) {
	for {
		if n, bad = h.scan(s.buffered(), rules); n > 0 || bad != 0 {
			return n, bad, nil
		}
		if s.w-s.r == len(s.buf.b) {
			s.reserve(min(2*len(s.buf.b), rules.maxBytes+1))
		}
		if err := s.fill(); err != nil {
			return 0, 0, err
		}
	}
}
