package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// frontendKey begins the keys of frontends, in Redis and in the routes file.
const frontendKey = "frontend:"

// parseRoutes parses a routes file: one JSON object whose keys are the keys of Redis. It returns
// the lists by name, and the keys that mean nothing. An error names the line and the key.
func parseRoutes(data []byte) (lists map[string][]string, unknown []string, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	fail := func(key string, err error) (map[string][]string, []string, error) {
		return nil, nil, routesError(data, d.InputOffset(), key, err)
	}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fail("", orElse(err, "the file must hold one JSON object"))
	}
	lists = map[string][]string{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fail("", err)
		}
		key, _ := t.(string)
		name, isFrontend := strings.CutPrefix(key, frontendKey)
		if !isFrontend {
			unknown = append(unknown, key)
			if err := d.Decode(new(json.RawMessage)); err != nil {
				return fail(key, err)
			}
			continue
		}
		if _, double := lists[name]; double {
			return fail(key, errors.New("the key stands twice"))
		}
		var list []string
		if err := d.Decode(&list); err != nil {
			return fail(key, err)
		}
		if name == "" || len(list) == 0 {
			return fail(key, errors.New(`write "frontend:<host>": ["<identifier>", "<backend URL>", ...]`))
		}
		lists[name] = list
	}
	if _, err := d.Token(); err != nil {
		return fail("", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fail("", errors.New("something follows the object"))
	}
	return lists, unknown, nil
}

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// routesError adds the place to err. JSON's own offset is better where there is one.
func routesError(data []byte, offset int64, key string, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = max(offset, syntax.Offset)
	case errors.As(err, &kind):
		err = fmt.Errorf("a frontend is an array of strings, not %s", kind.Value)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err, offset = errors.New("the file ends too early"), int64(len(data))
	}
	line := 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte{'\n'})
	if key == "" {
		return fmt.Errorf("line %d: %w", line, err)
	}
	return fmt.Errorf("line %d: %q: %w", line, key, err)
}
