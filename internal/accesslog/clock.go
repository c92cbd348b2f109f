package accesslog

import (
	"sync/atomic"
	"time"
)

// second is the text of one second in UTC.
type second struct {
	unix int64
	clf  string // "16/Feb/2014:00:43:10", the common log format's
	iso  string // "2014-02-16T00:43:10"
}

// clock remembers the text of the last second asked for. Nearly all lines share theirs with the
// line before, and formatting a date costs more than the rest of a line.
type clock struct {
	last atomic.Pointer[second]
}

// at returns the text of t's second.
func (c *clock) at(t time.Time) *second {
	unix := t.Unix()
	if s := c.last.Load(); s != nil && s.unix == unix {
		return s
	}
	utc := t.UTC()
	s := &second{unix: unix, clf: utc.Format("02/Jan/2006:15:04:05"), iso: utc.Format("2006-01-02T15:04:05")}
	c.last.Store(s)
	return s
}

// appendSeconds appends d in seconds, cut to whole milliseconds, without padding: 0.011, 1, 0.5, 0.
// A negative duration, from a clock that was set back, is 0.
//
// Hipache: lib/accesslogger.js divides milliseconds by 1000 and lets JavaScript print the number.
func appendSeconds(dst []byte, d time.Duration) []byte {
	ms := max(d.Milliseconds(), 0)
	dst = appendInt(dst, ms/1000)
	if ms %= 1000; ms == 0 {
		return dst
	}
	dst = appendMillis(append(dst, '.'), ms)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendMillis appends ms, 0 to 999, as three digits.
func appendMillis(dst []byte, ms int64) []byte {
	return append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
}
