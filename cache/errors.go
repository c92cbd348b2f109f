package cache

import "errors"

// Sentinels returned by Lookup, LookupExact and AppendHost. They are returned as they are, so that
// both == and errors.Is work, and allocate nothing.
var (
	// ErrNoHost: the Host header is missing or empty.
	ErrNoHost = errors.New("cache: no host header")
	// ErrBadHost: the Host header holds something that no host name or address contains.
	ErrBadHost = errors.New("cache: invalid host header")
	// ErrUnknownHost: the store answered, and no list matches the name.
	ErrUnknownHost = errors.New("cache: unknown host")
	// ErrUnavailable: the name is not known and the store could not be asked in time.
	ErrUnavailable = errors.New("cache: store unavailable")
	// ErrLookupLimited: the name is not known, and too many lookups that found nothing came in.
	ErrLookupLimited = errors.New("cache: too many lookups of unknown hosts")
)
