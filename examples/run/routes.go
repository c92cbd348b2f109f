package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
)

// routes are lists as they stand in Redis: by their key, an identifier and then URLs of backends.
type routes map[string][]string

func readRoutes(path string) (routes, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var r routes
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("read routes in %s: %w", path, err)
	}
	for key, list := range r {
		if !strings.HasPrefix(key, "frontend:") || len(list) < 2 {
			return nil, fmt.Errorf("read routes in %s: %s: want a key frontend:<host> with an identifier and backends",
				path, key)
		}
	}
	return r, nil
}

// keys are the keys in a fixed order.
func (r routes) keys() []string { return slices.Sorted(maps.Keys(r)) }

// addresses are the backends' addresses, each once, in a fixed order.
func (r routes) addresses() ([]string, error) {
	var list []string
	for key, elements := range r {
		for _, element := range elements[1:] {
			u, err := url.Parse(element)
			if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Port() == "" {
				return nil, fmt.Errorf("read %s: backend %q: want http://127.0.0.1:<port>", key, element)
			}
			list = append(list, u.Host)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
