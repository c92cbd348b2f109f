package cache

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
}

// Heaviest returns the largest weight of a backend, 0 if there is no backend.
func (f *Frontend) Heaviest() int { return int(f.heaviest) }

// parseFrontend parses the list stored under key; list must have at least the identifier. invalid
// is called for each element or option that cannot be used.
func parseFrontend(
	key string, list []string, own func(string) bool, invalid func(element string, err error),
) *Frontend {
	f := &Frontend{Key: key, VHost: list[0], uniform: true}
	if len(list) > 1 {
		f.Backends = make([]Backend, 0, len(list)-1)
	}
	for _, element := range list[1:] {
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
