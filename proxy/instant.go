package proxy

import (
	"math"
	"time"
)

// instant is a point in monotonic time: nanoseconds since the process started. It is cheaper to take and to compare
// than a time.Time, and fits an atomic. Zero means "never".
type instant int64

// never is an instant that does not come, where zero means something else.
const never instant = math.MaxInt64

var processStart = time.Now().Add(-time.Nanosecond)

func now() instant { return instant(time.Since(processStart)) }

// after returns the instant d later.
func (t instant) after(d time.Duration) instant { return t + instant(d) }

// since returns how long t lies behind the instant u.
func (t instant) until(u instant) time.Duration { return time.Duration(u - t) }

// wall converts t to a time.Time.
func (t instant) wall() time.Time { return processStart.Add(time.Duration(t)) }
