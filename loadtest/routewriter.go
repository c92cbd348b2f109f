package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/internal/redistest"
)

// routeStyle is how a deploy tool rewrites a frontend: the commands that lead from one list of
// backends to another. None of them leaves the host without a backend for good.
type routeStyle struct {
	name  string
	write func(key, vhost string, before, after []string) [][]string
}

// routeStyles are the ways that tools in the field have.
var routeStyles = []routeStyle{
	{"transaction", func(key, vhost string, _, after []string) [][]string {
		return [][]string{{"MULTI"}, {"DEL", key}, rpush(key, vhost, after), {"EXEC"}}
	}},
	// New elements first, then the old ones go, one command each (tsuru).
	{"append", func(key, _ string, before, after []string) [][]string {
		commands := make([][]string, 0, len(before)+len(after))
		for _, url := range after {
			commands = append(commands, []string{"RPUSH", key, url})
		}
		for _, url := range before {
			commands = append(commands, []string{"LREM", key, "1", url})
		}
		return commands
	}},
	// The list goes away and comes back element by element (airfield): for a moment readers see
	// no frontend, then one with nothing but its identifier.
	{"replace", func(key, vhost string, _, after []string) [][]string {
		commands := make([][]string, 0, 2+len(after))
		commands = append(commands, []string{"DEL", key}, []string{"RPUSH", key, vhost})
		for _, url := range after {
			commands = append(commands, []string{"RPUSH", key, url})
		}
		return commands
	}},
	// The host leaves for the wildcard's pool, and gets its own list again the next time.
	{"dedicate", func(key, vhost string, _, after []string) [][]string {
		if len(after) == 0 {
			return [][]string{{"DEL", key}}
		}
		return [][]string{rpush(key, vhost, after)}
	}},
}

// dedicateStyle is the only style whose hosts have a wildcard behind them.
const dedicateStyle = "dedicate"

func styleNames() []string {
	names := make([]string, len(routeStyles))
	for i, style := range routeStyles {
		names[i] = style.name
	}
	return names
}

// hostsPerStyle is how many names each style writes.
const hostsPerStyle = 2

func rpush(key, vhost string, urls []string) []string {
	return append([]string{"RPUSH", key, vhost}, urls...)
}

// routedHost is one name under load and the backends that its frontend lists now.
type routedHost struct {
	name     string
	style    routeStyle
	backends []int // ports; empty = the wildcard's
}

// routeWriter changes one frontend after another. It is for one goroutine at a time.
type routeWriter struct {
	client  *redistest.Client
	pool    []int // both backends, which is also what the wildcard lists
	hosts   []*routedHost
	changes int
	slow    func(start time.Time) // called after a change that took longer than slowChange; may be nil
}

// slowChange is well below what sluice bridges between the commands of a change (cache.tornWriteGrace):
// a writer that was held up for longer has taken its route away.
const slowChange = 100 * time.Millisecond

// newRouteWriter prepares the hosts of the named styles.
func newRouteWriter(client *redistest.Client, backends [2]int, styles []string) *routeWriter {
	w := &routeWriter{client: client, pool: backends[:]}
	for _, style := range routeStyles {
		if !slices.Contains(styles, style.name) {
			continue
		}
		for i := range hostsPerStyle {
			w.hosts = append(w.hosts, &routedHost{
				name:     changingHost(i, style.name),
				style:    style,
				backends: backends[:1],
			})
		}
	}
	return w
}

// changingHost is the i-th name that a style rewrites.
func changingHost(i int, style string) string { return fmt.Sprintf("h%d.%s.test", i, style) }

// seed writes the first lists and the wildcard.
func (w *routeWriter) seed() error {
	commands := make([][]string, 0, 1+len(w.hosts))
	commands = append(commands, rpush("frontend:*."+dedicateStyle+".test", "pool", localURLs(w.pool)))
	for _, h := range w.hosts {
		commands = append(commands, rpush("frontend:"+h.name, h.name, localURLs(h.backends)))
	}
	return w.send(commands)
}

// send runs the commands one by one: each is seen by readers before the next is sent.
func (w *routeWriter) send(commands [][]string) error {
	for _, words := range commands {
		if _, err := w.client.Do(words...); err != nil {
			return fmt.Errorf("change routes: %s: %w", strings.Join(words, " "), err)
		}
	}
	return nil
}

// run changes rate frontends a second until ctx ends, and calls everySecond about once a second.
func (w *routeWriter) run(ctx context.Context, rate int, everySecond func() error) error {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			err = w.change()
		case <-second.C:
			err = everySecond()
		}
		if err != nil {
			return err
		}
	}
}

// change gives the next host other backends: the one, the other, both, in turn; a dedicated host
// has every second time none of its own.
func (w *routeWriter) change() error {
	round, h := w.changes/len(w.hosts), w.hosts[w.changes%len(w.hosts)]
	after := [][]int{w.pool[1:], w.pool, w.pool[:1]}[round%3]
	if h.style.name == dedicateStyle && len(h.backends) > 0 {
		after = nil
	}
	commands := h.style.write("frontend:"+h.name, h.name, localURLs(h.backends), localURLs(after))
	start := time.Now()
	if err := w.send(commands); err != nil {
		return err
	}
	if w.slow != nil && time.Since(start) > slowChange {
		w.slow(start)
	}
	h.backends = after
	w.changes++
	return nil
}

// awaitEffect asks for every name until the answer comes from a backend that its frontend lists.
func (w *routeWriter) awaitEffect(ctx context.Context, url string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, h := range w.hosts {
		for {
			err := w.checkEffect(url, h)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// checkEffect fails unless a backend of h answers for it.
func (w *routeWriter) checkEffect(url string, h *routedHost) error {
	body, err := ask(url+"/who", h.name)
	if err != nil {
		return err
	}
	want := h.backends
	if len(want) == 0 {
		want = w.pool
	}
	port, err := strconv.Atoi(string(body))
	if err != nil || !slices.Contains(want, port) {
		return fmt.Errorf("%s was answered by backend %q, want one of %v", h.name, body, want)
	}
	return nil
}

// script makes wrk ask for the names at random.
func (w *routeWriter) script() string {
	var b strings.Builder
	b.WriteString("local requests = {}\n")
	for i, h := range w.hosts {
		fmt.Fprintf(&b, "requests[%d] = \"GET /small HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n\"\n", i+1, h.name)
	}
	fmt.Fprintf(&b, "function request() return requests[math.random(%d)] end\n%s", len(w.hosts), reportScript)
	return b.String()
}

func localURLs(ports []int) []string {
	urls := make([]string, len(ports))
	for i, port := range ports {
		urls[i] = localURL(port)
	}
	return urls
}
