package cache

import "unsafe"

// Frontend is what a host name resolves to: one list of the store, parsed. It is immutable after
// publication and may be kept as long as the caller likes; two lookups return the same pointer as
// long as the list's content did not change.
type Frontend struct {
	// Key is the list that matched, without "frontend:": the exact host, "*.suffix" or "*".
	Key string
	// VHost is the list's first element, the identifier: a label for logs.
	VHost string
	// Backends are in the list's order: the position here is the backend index.
	Backends []Backend

	// uniform tells that all backends have the same URL, so that a URL alone names none of them.
	uniform bool
	// heaviest is the largest weight of a backend, 0 without one.
	heaviest int16
	// settled tells that others may see the frontend, so that Key stays as it is. Guarded by Cache.mu.
	settled bool
}

// Heaviest returns the largest weight of a backend, 0 if there is no backend.
func (f *Frontend) Heaviest() int { return int(f.heaviest) }

// parseFrontend parses the list stored under key; list must have at least the identifier. invalid
// is called for each element or option that cannot be used.
func parseFrontend(
	key string, list []string, own func(string) bool, invalid func(element string, err error),
) *Frontend {
	f, text := newFrontend(list)
	f.Key, f.uniform = key, true
	for i, element := range list {
		element, text = text[:len(element)], text[len(element):]
		if i == 0 {
			f.VHost = element
			continue
		}
		b, badOption := parseBackend(element, own)
		switch {
		case b.Err != nil:
			invalid(element, b.Err)
		case badOption != "":
			invalid(element, optionError(badOption))
		}
		f.uniform = f.uniform && element == list[1]
		f.heaviest = max(f.heaviest, int16(b.Weight)) // At most MaxWeight.
		f.Backends = append(f.Backends, b)
	}
	return f
}

// Lists of at most so many backends, with at most so many bytes of text, lie in one piece.
const (
	maxPieceBackends = 4
	maxPieceText     = 160
)

// newFrontend returns a Frontend with room for the backends of list, and the list's elements, one
// behind the other. What a request reads of a short list lies in one piece: at many hosts each piece
// more is a miss of the processor's caches, and the lines of one piece are fetched at the same time.
func newFrontend(list []string) (f *Frontend, text string) {
	backends, bytes := len(list)-1, 0
	for _, element := range list {
		bytes += len(element)
	}
	var room []byte
	switch {
	case backends > maxPieceBackends || bytes > maxPieceText:
		f, room = &Frontend{}, make([]byte, bytes)
		if backends > 0 {
			f.Backends = make([]Backend, 0, backends)
		}
	case backends == 0:
		f, room = pieceFor[[0]Backend](bytes)
	case backends == 1:
		f, room = pieceFor[[1]Backend](bytes)
	case backends == 2:
		f, room = pieceFor[[2]Backend](bytes)
	case backends == 3:
		f, room = pieceFor[[3]Backend](bytes)
	default:
		f, room = pieceFor[[maxPieceBackends]Backend](bytes)
	}
	room = room[:0]
	for _, element := range list {
		room = append(room, element...)
	}
	return f, unsafe.String(unsafe.SliceData(room), len(room)) // Unsafe: room is never written again.
}

// backendArray is the room for the backends of a list.
type backendArray interface {
	[0]Backend | [1]Backend | [2]Backend | [3]Backend | [maxPieceBackends]Backend
}

// pieceFor returns a piece with room for so many bytes of text. With one backend the sizes fill whole
// cache lines, or almost.
func pieceFor[B backendArray](bytes int) (*Frontend, []byte) {
	switch {
	case bytes <= 32:
		return piece[B, [32]byte]()
	case bytes <= 64:
		return piece[B, [64]byte]()
	case bytes <= 96:
		return piece[B, [96]byte]()
	default:
		return piece[B, [maxPieceText]byte]()
	}
}

// piece allocates a Frontend, the array of its backends, a B, and its text, a T, side by side.
func piece[B backendArray, T any]() (*Frontend, []byte) {
	p := new(struct {
		Frontend
		backends B
		text     T
	})
	// Unsafe: backends is an array of Backend, and text one of bytes; both live as long as what points
	// to them.
	if n := unsafe.Sizeof(p.backends) / unsafe.Sizeof(Backend{}); n > 0 {
		p.Backends = unsafe.Slice((*Backend)(unsafe.Pointer(&p.backends)), n)[:0]
	}
	return &p.Frontend, unsafe.Slice((*byte)(unsafe.Pointer(&p.text)), unsafe.Sizeof(p.text))
}

// sameList tells whether f was parsed from list.
func (f *Frontend) sameList(list []string) bool {
	if len(list) != len(f.Backends)+1 || list[0] != f.VHost {
		return false
	}
	for i := range f.Backends {
		if f.Backends[i].URL != list[i+1] {
			return false
		}
	}
	return true
}

// usable tells whether f has anything to send a request to; nil does not.
func (f *Frontend) usable() bool { return f != nil && len(f.Backends) > 0 }
