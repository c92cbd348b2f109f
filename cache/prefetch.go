//go:build amd64 || arm64

package cache

// The processor is asked to fetch the lines of something that is about to be read, all at the same
// time, instead of one after the other as the reader comes to them. Go has no other way to ask; a line
// that is not there, or not ours, does no harm.

// prefetchFrontend fetches a frontend that lies in one piece: its own line, those of two backends, and
// those of their text.
//
//go:noescape
func prefetchFrontend(f *Frontend)
