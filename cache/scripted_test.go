package cache

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted is a server of RESP3 that does in a fixed order what a real one does in any: a script
// decides when it replies and when it pushes.
type scripted struct {
	t  *testing.T
	ln net.Listener

	connections sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[net.Conn]bool
	lists  map[string][]string
	watch  net.Conn // asked for pushes
	script func(s *scripted, args []string, w *bufio.Writer) bool
}

func startScripted(t *testing.T) *scripted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{t: t, ln: ln, open: map[net.Conn]bool{}, lists: map[string][]string{}}
	s.connections.Go(s.accept)
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for conn := range s.open {
			conn.Close()
		}
		s.mu.Unlock()
		s.connections.Wait()
	})
	return s
}

func (s *scripted) url() string { return "redis://" + s.ln.Addr().String() }

func (s *scripted) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[conn] = true
		s.mu.Unlock()
		s.connections.Go(func() { s.serve(conn) })
	}
}

// serve answers one connection. A pipeline's replies leave when its last command was read, unless a
// script flushes before.
func (s *scripted) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.open, conn)
		s.mu.Unlock()
	}()
	r, w := bufio.NewReader(conn), bufio.NewWriter(conn)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		s.mu.Lock()
		script := s.script
		if args[0] == "CLIENT" && args[1] == "TRACKING" {
			s.watch = conn
		}
		s.mu.Unlock()
		if script == nil || !script(s, args, w) {
			fmt.Fprint(w, s.reply(args))
		}
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) ([]string, error) {
	length := func(prefix byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil || len(line) < 3 || line[0] != prefix {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := length('*')
	if err != nil || n < 1 {
		return nil, io.ErrUnexpectedEOF
	}
	args := make([]string, n)
	for i := range args {
		size, err := length('$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}

// reply answers as a real server would.
func (s *scripted) reply(args []string) string {
	switch args[0] {
	case "HELLO":
		return "%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.0\r\n+proto\r\n:3\r\n"
	case "SUBSCRIBE":
		return ">3\r\n+subscribe\r\n" + bulk(args[1]) + ":1\r\n"
	case "PTTL":
		return ":-1\r\n"
	case "SMEMBERS":
		return "~0\r\n"
	case "GET":
		return "_\r\n"
	case "PING":
		return "+PONG\r\n"
	case "LRANGE":
		s.mu.Lock()
		defer s.mu.Unlock()
		list := s.lists[strings.TrimPrefix(args[1], frontendKey)]
		text := fmt.Sprintf("*%d\r\n", len(list))
		for _, element := range list {
			text += bulk(element)
		}
		return text
	default:
		return "+OK\r\n"
	}
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func (s *scripted) set(name string, list ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[name] = list
}

// push announces a change of keys, nil for everything, and waits until c has taken it in.
func (s *scripted) push(c *Cache, keys ...string) {
	text := ">2\r\n+invalidate\r\n"
	if keys == nil {
		text += "_\r\n"
	} else {
		text += fmt.Sprintf("*%d\r\n", len(keys))
		for _, key := range keys {
			text += bulk(key)
		}
	}
	before := c.m.invalidations.Get() + c.m.flushes.Get()
	s.mu.Lock()
	_, err := io.WriteString(s.watch, text)
	s.mu.Unlock()
	if err != nil {
		s.t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); c.m.invalidations.Get()+c.m.flushes.Get() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Error("the push was not taken in")
			return
		}
	}
}

// once makes script answer the first command that is name, and no other.
func (s *scripted) once(command []string, script func(reply string, w *bufio.Writer)) {
	done := false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = func(s *scripted, args []string, w *bufio.Writer) bool {
		s.mu.Lock()
		hit := !done && args[0] == command[0] && args[1] == command[1]
		done = done || hit
		s.mu.Unlock()
		if hit {
			script(s.reply(args), w)
		}
		return hit
	}
}

// TestOrdering_OfReplyAndPush replays what can happen around one reading of a.example, whose list
// changes from old to new. Whatever the order, the old list must not stay.
func TestOrdering_OfReplyAndPush(t *testing.T) {
	t.Parallel()
	const host = "a.example"
	listKey, deadSetKey := frontendKey+host, deadKey+host
	for name, script := range map[string]func(s *scripted, c *Cache){
		"push before the reply is made": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(_ string, w *bufio.Writer) {
				s.set(host, "a", "new")
				s.push(c, listKey)
				fmt.Fprint(w, s.reply([]string{"LRANGE", listKey}))
			})
		},
		"push between the making of the reply and its arrival": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(reply string, w *bufio.Writer) {
				s.set(host, "a", "new")
				s.push(c, listKey)
				fmt.Fprint(w, reply)
			})
		},
		"push inside the pipeline's replies": func(s *scripted, c *Cache) {
			s.once([]string{"SMEMBERS", deadSetKey}, func(reply string, w *bufio.Writer) {
				w.Flush() // the old list is on its way
				s.set(host, "a", "new")
				s.push(c, listKey)
				fmt.Fprint(w, reply)
			})
		},
		"push inside one reply": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(reply string, w *bufio.Writer) {
				fmt.Fprint(w, reply[:len(reply)/2])
				w.Flush()
				s.set(host, "a", "new")
				s.push(c, listKey)
				fmt.Fprint(w, reply[len(reply)/2:])
			})
		},
		"push of several keys": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(reply string, w *bufio.Writer) {
				s.set(host, "a", "new")
				s.push(c, deadKey+"other", "foreign", listKey, frontendKey)
				fmt.Fprint(w, reply)
			})
		},
		"nil push": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(reply string, w *bufio.Writer) {
				s.set(host, "a", "new")
				s.push(c)
				fmt.Fprint(w, reply)
			})
		},
		"the watch is lost": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(reply string, w *bufio.Writer) {
				s.set(host, "a", "new")
				epoch := c.epoch.Load()
				s.mu.Lock()
				s.watch.Close()
				s.mu.Unlock()
				for end := time.Now().Add(10 * time.Second); c.epoch.Load() == epoch && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				fmt.Fprint(w, reply)
			})
		},
		"a push on the connection of the reads": func(s *scripted, c *Cache) {
			s.once([]string{"LRANGE", listKey}, func(reply string, w *bufio.Writer) {
				s.set(host, "a", "new")
				s.push(c, listKey)
				fmt.Fprintf(w, ">2\r\n+invalidate\r\n*1\r\n%s", bulk(listKey))
				fmt.Fprint(w, reply)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t)
			s.set(host, "a", "old")
			c := start(t, Options{Driver: []string{s.url()}})
			script(s, c)
			if got := answer(c, host); got != "old" && got != "new" && got != "unavailable" {
				t.Errorf("the first lookup: %q", got)
			}
			awaitAnswer(t, c, host, "new")
		})
	}
}

// TestOrdering_PushAfterTheReply is the plain case: what was read stays until the push, and not a
// lookup longer.
func TestOrdering_PushAfterTheReply(t *testing.T) {
	t.Parallel()
	s := startScripted(t)
	s.set("a.example", "a", "old")
	c := start(t, Options{Driver: []string{s.url()}})
	awaitAnswer(t, c, "a.example", "old")
	s.set("a.example", "a", "new")
	for range 10 {
		wantAnswer(t, c, "a.example", "old")
	}
	s.push(c, frontendKey+"a.example")
	if e := c.table.findString("a.example"); e.value.Load().epoch == c.epoch.Load() {
		t.Error("the entry counts as fresh after the push")
	}
	awaitAnswer(t, c, "a.example", "new")
}

// TestOrdering_WildcardChangesDuringTheReadingOfAName covers the second key that an answer depends
// on: its wildcard appears while the name's own list is on its way.
func TestOrdering_WildcardChangesDuringTheReadingOfAName(t *testing.T) {
	t.Parallel()
	for name, when := range map[string][]string{
		"before the wildcard is read": {"LRANGE", frontendKey + "x.pool.example"},
		"while the wildcard is read":  {"LRANGE", frontendKey + "*.pool.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t)
			c := start(t, Options{Driver: []string{s.url()}, NegativeTTL: time.Hour})
			s.once(when, func(reply string, w *bufio.Writer) {
				s.set("*.pool.example", "pool", "new")
				s.push(c, frontendKey+"*.pool.example")
				fmt.Fprint(w, reply)
			})
			if got := answer(c, "x.pool.example"); got != "unknown" && got != "new" && got != "unavailable" {
				t.Errorf("the first lookup: %q", got)
			}
			awaitAnswer(t, c, "x.pool.example", "new")
		})
	}
}

// TestOrdering_DirtyReadingIsNewerThanWhatWasKnown: what a dirty flight has read answers those who
// wait for it. If the store goes away then, or is slow, the answer must not fall back behind that.
func TestOrdering_DirtyReadingIsNewerThanWhatWasKnown(t *testing.T) {
	t.Parallel()
	c := offline(t, "")
	c.up()
	settleList(c, "a.example", "a", "old")
	c.listChanged("a.example")
	c.mu.Lock()
	f := c.flights.register("a.example", c.epoch.Load())
	c.mu.Unlock()
	c.listChanged("a.example") // for something that the reading saw, or for something after it
	r := reading{list: []string{"a", "new"}}
	list := c.parseReading("a.example", &r)
	c.mu.Lock()
	c.flights.land(f)
	_, v := c.settle(f, &r, list)
	c.mu.Unlock()
	if v.frontend != list {
		t.Fatal("who waited did not get what was read")
	}
	if e := c.table.findString("a.example"); e.value.Load().epoch == c.epoch.Load() {
		t.Error("the reading counts as fresh")
	}
	c.down(nil)
	wantAnswer(t, c, "a.example", "new")

	// One that a later flight has overtaken says nothing any more.
	c.up()
	c.mu.Lock()
	early := c.flights.register("a.example", c.epoch.Load())
	early.dirty = true
	later := c.flights.register("a.example", c.epoch.Load())
	c.flights.land(later)
	c.mu.Unlock()
	settleList(c, "a.example", "a", "newest")
	c.listChanged("a.example")
	r = reading{list: []string{"a", "before"}}
	list = c.parseReading("a.example", &r)
	c.mu.Lock()
	c.settle(early, &r, list)
	c.mu.Unlock()
	c.down(nil)
	wantAnswer(t, c, "a.example", "newest")
}

// TestOrdering_OldReadingArrivesAfterANewerOne lets the replies of two readings overtake each other.
func TestOrdering_OldReadingArrivesAfterANewerOne(t *testing.T) {
	t.Parallel()
	c := offline(t, "")
	c.up()
	early := &flight[settled]{name: "a.example", epoch: c.epoch.Load()}
	c.flights["a.example"] = early
	c.listChanged("a.example") // the change that early may have missed
	settleList(c, "a.example", "a", "new")
	r := reading{list: []string{"a", "old"}}
	f := c.parseReading("a.example", &r)
	c.mu.Lock()
	c.settle(early, &r, f)
	c.mu.Unlock()
	wantAnswer(t, c, "a.example", "new")
}
