package accesslog

import (
	"math/rand/v2"
	"testing"
	"time"
)

// browser is a record of the usual size.
func browser() *Record {
	r := example()
	r.Target = []byte("/assets/application-5ba7c3f2.js?locale=en&theme=dark")
	r.Referer = []byte("https://big.app.example/projects/42/overview")
	r.UserAgent = []byte("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36")
	return r
}

// BenchmarkLog is what a request pays, with the goroutine that writes to a file at work.
func BenchmarkLog(b *testing.B) {
	for _, format := range []string{"hipache", "json"} {
		b.Run("format="+format, func(b *testing.B) {
			w, err := Open(Options{Path: "/dev/null", Format: format, MaxPending: 8 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			r := browser()
			b.ReportAllocs()
			for b.Loop() {
				w.Log(r)
			}
			reportDrops(b, w)
		})
	}
}

// BenchmarkLog_Parallel logs from all cores, with the work of a quick request before each line;
// log=off is its twin without the line. The difference is what the log costs under contention, its
// goroutine included.
func BenchmarkLog_Parallel(b *testing.B) {
	for _, path := range []string{"none", "/dev/null"} {
		b.Run("log="+map[bool]string{true: "off", false: "on"}[path == "none"], func(b *testing.B) {
			w, err := Open(Options{Path: path})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := browser()
				for pb.Next() {
					work()
					w.Log(r)
				}
			})
			if w.Enabled() {
				reportDrops(b, w)
			}
		})
	}
}

// work keeps a core busy for some microseconds.
func work() {
	x := rand.Uint64() | 1
	for range 5000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 {
		panic("BUG: xorshift reached 0")
	}
}

func reportDrops(b *testing.B, w *Writer) {
	b.Helper()
	b.ReportMetric(float64(w.dropped.Get())/float64(b.N), "drops/op")
}

// BenchmarkFormat is the part of Log outside the lock; clock=fresh is its twin, in which
// every line has another second.
func BenchmarkFormat(b *testing.B) {
	r := browser()
	for _, fresh := range []bool{false, true} {
		name := "clock=cached"
		if fresh {
			name = "clock=fresh"
		}
		b.Run(name, func(b *testing.B) {
			var c clock
			buf := make([]byte, 0, 4<<10)
			b.ReportAllocs()
			for b.Loop() {
				if fresh {
					r.Time = r.Time.Add(time.Second)
				}
				buf = appendLine(buf[:0], layoutHipache, c.at(r.Time), r)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}
