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

// routesFile is the content of a routes file.
type routesFile struct {
	lists   map[string][]string                    // of frontends, by name
	hashes  [families]map[string]map[string]string // by family and name
	unknown []string                               // keys that mean nothing
}

// parseRoutes parses a routes file: one JSON object whose keys are the keys of Redis. An error names
// the line and the key, and never repeats a value, which may be a private key.
func parseRoutes(data []byte) (*routesFile, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	fail := func(key string, err error) (*routesFile, error) {
		return nil, routesError(data, d.InputOffset(), key, err)
	}
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fail("", orElse(err, "the file must hold one JSON object"))
	}
	file := &routesFile{lists: map[string][]string{}}
	for f := range file.hashes {
		file.hashes[f] = map[string]map[string]string{}
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fail("", err)
		}
		key, _ := t.(string)
		if err := file.decode(d, key); err != nil {
			return fail(key, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return fail("", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fail("", errors.New("something follows the object"))
	}
	return file, nil
}

// decode reads the value of one key.
func (r *routesFile) decode(d *json.Decoder, key string) error {
	if f, name, ok := cutFamily(key); ok {
		if r.hashes[f][name] != nil {
			return errTwice
		}
		fields, err := decodeHash(d)
		r.hashes[f][name] = fields
		return err
	}
	name, isFrontend := strings.CutPrefix(key, frontendKey)
	if !isFrontend {
		r.unknown = append(r.unknown, key)
		return d.Decode(new(json.RawMessage))
	}
	if _, double := r.lists[name]; double {
		return errTwice
	}
	var list []string
	if err := d.Decode(&list); err != nil {
		return err
	}
	if name == "" || len(list) == 0 {
		return errors.New(`write "frontend:<host>": ["<identifier>", "<backend URL>", ...]`)
	}
	r.lists[name] = list
	return nil
}

var errTwice = errors.New("the key stands twice")

// decodeHash reads an object as the hash that it would be in Redis, where all values are text:
// numbers and truth values may be written as such.
func decodeHash(d *json.Decoder) (map[string]string, error) {
	var object map[string]json.RawMessage
	if err := d.Decode(&object); err != nil {
		return nil, err
	}
	fields := make(map[string]string, len(object))
	for name, raw := range object {
		var text string
		switch {
		case raw[0] == '"':
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, err
			}
		case raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
			return nil, fmt.Errorf("the field %q is neither text nor a number nor true or false", name)
		default:
			text = string(raw)
		}
		fields[name] = text
	}
	if len(fields) == 0 {
		return nil, errors.New("the object is empty")
	}
	return fields, nil
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
		if err = fmt.Errorf("a frontend is an array of strings, not %s", kind.Value); !strings.HasPrefix(key, frontendKey) {
			err = fmt.Errorf("write an object of fields, not %s", kind.Value)
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err, offset = errors.New("the file ends too early"), int64(len(data))
	}
	line := 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte{'\n'})
	if key == "" {
		return fmt.Errorf("line %d: %w", line, err)
	}
	return fmt.Errorf("line %d: %q: %w", line, key, err)
}
