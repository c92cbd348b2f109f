package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/rueidis"
)

const (
	// maxInspected bounds the keys of each kind that Inspect reads of one server.
	maxInspected = 100_000
	// maxUnusable bounds the entries that an Inspection names.
	maxUnusable = 1000
	// inspectBatch is how many lists Inspect reads at once.
	inspectBatch = 100
	// roundTrips is how many are measured; the middle one counts.
	roundTrips = 9
)

// Inspection is what Inspect found.
type Inspection struct {
	Servers []InspectedServer `json:"servers"`
	// Frontends is how many lists were read, not how many there are: see Note.
	Frontends int `json:"frontendsSampled"`
	// CertificateCount and PolicyCount are how many hashes "tls:" and "route:" were read.
	CertificateCount int `json:"certificatesSampled"`
	PolicyCount      int `json:"policiesSampled"`
	// Certificates and Policies are those among them that can be used, at most 1000 of each.
	Certificates []InspectedCertificate `json:"certificates"`
	Policies     []InspectedPolicy      `json:"policies"`
	// Unusable are the entries that were read and cannot be used, at most 1000.
	Unusable []UnusableEntry `json:"unusable"`
	// Note says why not everything was read; empty if it was.
	Note string `json:"note,omitempty"`
}

// InspectedServer is one server of the store, or the routes file.
type InspectedServer struct {
	Address string `json:"address"`
	// Purpose is "reads", "writes" or "reads and writes".
	Purpose string `json:"purpose"`
	Kind    string `json:"kind"`    // redis, valkey, ..., or file
	Version string `json:"version"` // empty if the server does not tell
	Role    string `json:"role"`    // master or replica; empty if the server does not tell
	// Tier is how the server tells what changed: bcast, optin, poll, or file.
	Tier string `json:"tier"`
	// Refusal is the server's answer to the request for the best tier; empty if it was granted.
	Refusal string `json:"refusal,omitempty"`
	// RoundTrip is the median of a few.
	RoundTrip time.Duration `json:"roundTripNanoseconds"`
}

// UnusableEntry is one element of a list, a field of a hash, or a key, that sluice passes over.
type UnusableEntry struct {
	Key     string `json:"key"`
	Element string `json:"element,omitempty"` // without user information
	Cause   string `json:"cause"`
}

// Inspect connects to the store that o names, asks it what it is and reads a sample of its
// frontends, certificates and policies, within ctx's deadline. It changes nothing there. An error
// means that the store could not be reached; what was found before that is returned with it.
func Inspect(ctx context.Context, o Options) (*Inspection, error) {
	o = o.withDefaults()
	drivers, err := parseDrivers(o.Driver)
	if err != nil {
		return nil, err
	}
	i := &inspector{o: &o, found: &Inspection{
		Unusable: []UnusableEntry{}, Certificates: []InspectedCertificate{}, Policies: []InspectedPolicy{},
	}}
	switch {
	case drivers[0].file != "":
		err = i.file(drivers[0].file)
	case drivers[0].topology == clusterNodes:
		err = i.cluster(ctx, &drivers[0])
	case len(drivers) == 1:
		err = i.driver(ctx, &drivers[0], "reads and writes", true)
	default:
		err = errors.Join(i.driver(ctx, &drivers[0], "reads", true), i.driver(ctx, &drivers[1], "writes", false))
	}
	return i.found, err
}

// inspector gathers an Inspection.
type inspector struct {
	o       *Options
	found   *Inspection
	watcher redisWatcher
}

func (i *inspector) unusable(key, element, cause string) {
	if len(i.found.Unusable) < maxUnusable {
		i.found.Unusable = append(i.found.Unusable, UnusableEntry{Key: key, Element: loggable(element), Cause: cause})
		return
	}
	i.note(fmt.Sprintf("more than %d entries cannot be used", maxUnusable))
}

// note adds a remark, once.
func (i *inspector) note(text string) {
	switch {
	case i.found.Note == "":
		i.found.Note = text
	case !strings.Contains(i.found.Note, text):
		i.found.Note += "; " + text
	}
}

func (i *inspector) file(path string) error {
	begin := time.Now()
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	routes, err := parseRoutes(data)
	if err != nil {
		return fmt.Errorf("read routes from %s: %w", path, err)
	}
	i.found.Servers = append(i.found.Servers, InspectedServer{
		Address: path, Purpose: "reads", Kind: "file", Tier: "file", RoundTrip: time.Since(begin),
	})
	for _, key := range routes.unknown {
		i.unusable(key, "", "the key means nothing here")
	}
	for name, list := range routes.lists {
		i.list(name, &reading{list: list[:min(len(list), i.o.MaxBackends+1)], cut: len(list) > i.o.MaxBackends+1})
	}
	for f := range routes.hashes {
		for name, fields := range routes.hashes[f] {
			r := hashReading{fields: fields}
			r.bound()
			i.hash(family(f), name, &r)
		}
	}
	slices.SortFunc(i.found.Unusable, func(a, b UnusableEntry) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(i.found.Certificates, func(a, b InspectedCertificate) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(i.found.Policies, func(a, b InspectedPolicy) int { return strings.Compare(a.Key, b.Key) })
	return nil
}

// driver inspects the server that a driver names, or that its Sentinels name.
func (i *inspector) driver(ctx context.Context, d *driver, purpose string, sample bool) error {
	address := d.addresses[0]
	if d.topology == sentinelMaster {
		master, err := newSentinels(d, nil, i.o.Log).locateOnce(ctx)
		if err != nil {
			return err
		}
		address = master
	}
	return i.server(ctx, d, address, purpose, sample)
}

// cluster inspects all masters.
func (i *inspector) cluster(ctx context.Context, d *driver) error {
	s := newClusterStore(d, i.o, newCounters(metrics.NewSet(), &Cache{}))
	defer s.close()
	found, err := s.surveyOnce(ctx, new([]claim))
	if err != nil {
		return err
	}
	for _, master := range found.masters {
		err = errors.Join(err, i.server(ctx, d, master.address, "reads and writes", true))
	}
	return err
}

// server inspects one server.
func (i *inspector) server(ctx context.Context, d *driver, address, purpose string, sample bool) error {
	n := newNode(d, address)
	defer n.close()
	client, err := n.connected()
	if err != nil {
		return err
	}
	i.watcher = newRedisWatcher(d, i.o, newCounters(metrics.NewSet(), &Cache{}))
	i.watcher.to = deafSink{}
	server := InspectedServer{Address: address, Purpose: purpose}
	server.describe(ctx, client)
	if server.RoundTrip, err = i.measure(ctx, client); err != nil {
		return fmt.Errorf("read from %s: %w", address, err)
	}
	conn, _ := client.Dedicate()
	defer conn.Close() // see redisWatcher.stand
	watch := &link{address: address, tier: tierBroadcast}
	_, refusal, err := i.watcher.track(ctx, conn, watch)
	if err != nil {
		return fmt.Errorf("watch %s: %w", address, err)
	}
	server.Tier = watch.tier.String()
	if refusal != nil {
		server.Refusal = refusal.Error()
	}
	i.found.Servers = append(i.found.Servers, server)
	if !sample {
		return nil
	}
	l := &link{client: client, address: address}
	prefix := i.watcher.prefix + frontendKey
	err = i.sample(ctx, l, prefix, "frontends", func(keys []string) error { return i.batch(ctx, l, prefix, keys) })
	for f := range families {
		if err == nil {
			err = i.sampleHashes(ctx, l, f)
		}
	}
	return err
}

// describe asks a server what it is; a server that does not tell is used all the same.
func (v *InspectedServer) describe(ctx context.Context, client rueidis.Client) {
	fields, err := client.Do(ctx, client.B().Arbitrary("HELLO").Build()).AsMap()
	if err != nil {
		fields = nil // Redis 6.0 wants a version, older ones do not know it
	}
	text := func(name string) string {
		field := fields[name]
		s, err := field.ToString()
		if err != nil {
			return ""
		}
		return s
	}
	v.Kind, v.Version, v.Role = text("server"), text("version"), text("role")
	if v.Version != "" && v.Role != "" {
		return
	}
	if info, err := client.Do(ctx, client.B().Info().Build()).ToString(); err == nil {
		about := parseInfo(info)
		v.Version, v.Role = about["redis_version"], strings.Replace(about["role"], "slave", "replica", 1)
	}
	if v.Kind == "" {
		v.Kind = "redis"
	}
}

func (i *inspector) measure(ctx context.Context, client rueidis.Client) (time.Duration, error) {
	var took [roundTrips]time.Duration
	for n := range took {
		begin := time.Now()
		if err := i.watcher.probe(ctx, client); err != nil {
			return 0, err
		}
		took[n] = time.Since(begin)
	}
	slices.Sort(took[:])
	return took[roundTrips/2], nil
}

// sample hands the keys that begin with prefix to read, a batch at a time, in the order in which the
// server lists them. what names them.
func (i *inspector) sample(ctx context.Context, l *link, prefix, what string, read func(keys []string) error) error {
	seen := 0
	for cursor := uint64(0); ; {
		scan := l.client.B().Scan().Cursor(cursor).Match(globEscape(prefix) + "*").Count(1000).Build()
		page, err := l.client.Do(ctx, scan).AsScanEntry()
		switch {
		case isReply(err):
			i.note(what + " cannot be listed: " + err.Error())
			return nil
		case ctx.Err() != nil:
			i.note("there was no time to read all " + what)
			return nil
		case err != nil:
			return fmt.Errorf("list %s of %s: %w", what, l.address, err)
		}
		for batch := range slices.Chunk(page.Elements, inspectBatch) {
			if err := read(batch); err != nil {
				return err
			}
		}
		seen += len(page.Elements)
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
		if seen >= maxInspected {
			i.note(fmt.Sprintf("only the first %d %s of %s were read", seen, what, l.address))
			return nil
		}
	}
}

// batch reads some lists in one round trip.
func (i *inspector) batch(ctx context.Context, l *link, prefix string, keys []string) error {
	pairs := make([]pair, len(keys))
	for n, key := range keys {
		pairs[n] = i.watcher.listPair(l, strings.TrimPrefix(key, prefix))
	}
	for n, replies := range l.ask(ctx, pairs...) {
		var r reading
		name := strings.TrimPrefix(keys[n], prefix)
		if err := i.watcher.parseList(replies, &r); isReply(err) {
			i.unusable(keys[n], "", err.Error())
		} else if err != nil {
			return fmt.Errorf("read %s from %s: %w", keys[n], l.address, err)
		} else {
			i.list(name, &r)
		}
	}
	return nil
}

// list judges one list.
func (i *inspector) list(name string, r *reading) {
	key := i.watcher.prefix + frontendKey + name
	i.found.Frontends++
	if cause := unusableName(name); cause != "" {
		i.unusable(key, "", cause)
	}
	switch {
	case r.broken != nil:
		i.unusable(key, "", r.broken.Error())
	case len(r.list) == 1:
		i.unusable(key, "", "the list has an identifier and no backend")
	case len(r.list) > 1:
		parseFrontend(name, r.list, i.o.Own, func(element string, err error) { i.unusable(key, element, err.Error()) })
	}
	if r.cut {
		i.unusable(key, "", fmt.Sprintf("more than %d backends: the rest is not used", i.o.MaxBackends))
	}
}

// unusableName tells why no request can ever lead to a name; "" if one can.
func unusableName(name string) string {
	if name == "*" {
		return ""
	}
	host := strings.TrimPrefix(name, "*.")
	form, err := AppendHost(nil, []byte(host))
	bare, port, hasPort := strings.Cut(host, ":")
	switch {
	case err != nil:
		return "the name is not one that a Host header can have: " + err.Error()
	case string(form) == host:
		return ""
	case hasPort && string(form) == bare && validPort([]byte(port)) && host == name:
		return "" // looked up where planb is imitated
	default:
		return "requests look for " + strings.TrimSuffix(name, host) + string(form)
	}
}

// globEscape makes a prefix stand for itself in a pattern.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// deafSink is told of changes that nobody waits for.
type deafSink struct{}

func (deafSink) up()                          {}
func (deafSink) down(error)                   {}
func (deafSink) flushed()                     {}
func (deafSink) listChanged(string)           {}
func (deafSink) deadChanged(string)           {}
func (deafSink) hashChanged(family, string)   {}
func (deafSink) announced(_, _ string, _ int) {}
