package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"sluice/internal/redistest"
)

// startSluice starts a sluice binary on routes in a redis-server of its own, with its access log
// in a file and its admin listener, and so its metrics, on.
func startSluice(ctx context.Context, s *site, w work, o *options, name, binary string) (*contestant, error) {
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("find sluice: build it (make build) or name it (-sluice): %w", err)
	}
	redis, err := redistest.Launch()
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	c := &contestant{name: name, logFile: s.fileOf(name, ".log"), redis: redis}
	err = seedRoutes(redis, w.hosts, s.backendURLs(w))
	if err == nil {
		err = c.launch(s, w, o, binary, redis.URL())
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c.await(ctx, w)
}

// launch writes sluice's configuration and starts it.
func (c *contestant) launch(s *site, w work, o *options, binary, driver string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	adminPort, err := freePort()
	if err != nil {
		return err
	}
	c.url, c.adminURL = proxyURL(w, port), localURL(adminPort)
	config, err := c.config(s, w, driver, port, adminPort)
	if err == nil && o.config != "" {
		err = overlayFile(config, o.config)
	}
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	file := s.fileOf(c.name, ".json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	c.proc, err = startProcess(c.name, w.env, nil, binary, "-c", file)
	return err
}

// config is a configuration file in Hipache's form. There is always a plain listener, at plainURL.
func (c *contestant) config(s *site, w work, driver string, port, adminPort int) (map[string]any, error) {
	config := map[string]any{
		"server": map[string]any{"accessLog": c.logFile},
		"admin":  map[string]any{"bind": "127.0.0.1", "port": adminPort},
		"driver": driver,
	}
	if os.Geteuid() == 0 {
		config["user"], config["group"] = "root", "root"
	}
	if clients := max(w.idle, w.clients); clients > spareConnections {
		// Its own limit leaves each client room for a connection to a backend, which idle ones do not take. Clients
		// that ask may all wait for one backend when the machine has stood still; that limit is not what is measured.
		overlay(config, map[string]any{"server": map[string]any{
			"maxConnections": clients + spareConnections, "maxBackendConnections": clients,
		}})
	}
	if w.unknown > 0 {
		config["cache"] = map[string]any{"maxUnknownHosts": w.unknown}
	}
	plain := port
	if w.encrypted() {
		var err error
		if plain, err = freePort(); err != nil {
			return nil, err
		}
		config["https"] = map[string]any{
			"bind": []string{"127.0.0.1"}, "port": port, "cert": s.certFile, "key": s.keyFile,
		}
	}
	c.plainURL = localURL(plain)
	config["http"] = map[string]any{"bind": []string{"127.0.0.1"}, "port": plain}
	return config, nil
}

// overlayFile lays the JSON object in file over config.
func overlayFile(config map[string]any, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read -config: %w", err)
	}
	var over map[string]any
	if err := json.Unmarshal(text, &over); err != nil {
		return fmt.Errorf("read -config %s: %w", file, err)
	}
	overlay(config, over)
	return nil
}

// overlay puts over's keys into config, section by section.
func overlay(config, over map[string]any) {
	for key, value := range over {
		section, isSection := value.(map[string]any)
		below, exists := config[key].(map[string]any)
		if isSection && exists {
			overlay(below, section)
			continue
		}
		config[key] = value
	}
}

// seedRoutes writes frontend:<name> for each name, with the given backends, in a pipeline.
func seedRoutes(redis *redistest.Server, hosts int, backends []string) error {
	client, err := redistest.Dial("tcp", redis.Addr())
	if err != nil {
		return fmt.Errorf("seed routes: %w", err)
	}
	defer client.Close()
	const window = 1000 // replies outstanding, so that neither side's buffer fills up
	for i := range hosts {
		host := hostName(i)
		if err := client.Send(rpush("frontend:"+host, host, backends)...); err != nil {
			return fmt.Errorf("seed routes: %w", err)
		}
		if pending := i%window + 1; pending == window || i == hosts-1 {
			if err := receive(client, pending); err != nil {
				return fmt.Errorf("seed routes: %w", err)
			}
		}
	}
	return nil
}

// receive takes n replies; an error in any of them is returned.
func receive(client *redistest.Client, n int) error {
	var all error
	for range n {
		if _, err := client.Receive(readyTimeout); err != nil {
			all = errors.Join(all, err)
			if !errors.As(err, new(redistest.Error)) {
				return all // The connection is gone; no further reply will come.
			}
		}
	}
	return all
}

func localURL(port int) string {
	return "http://127.0.0.1:" + strconv.Itoa(port)
}
