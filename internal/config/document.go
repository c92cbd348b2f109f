package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// nodeKind is the JSON type of a node.
type nodeKind uint8

const (
	nullNode nodeKind = iota
	boolNode
	numberNode
	stringNode
	listNode
	objectNode
)

// String names the kind for a person who reads about a wrong type.
func (k nodeKind) String() string {
	return [...]string{"null", "true or false", "a number", "a string", "a list", "an object"}[k]
}

// node is one JSON value that remembers its line, which map[string]any would forget together with
// the order of members and with doubled names.
type node struct {
	kind    nodeKind
	text    string // of a scalar: the string itself, or the literal as written
	items   []node
	members []member
	line    int
}

type member struct {
	name  string
	value node
}

// String gives a value as a mistake quotes it: short, on one line.
func (n node) String() string {
	switch n.kind {
	case stringNode:
		return fmt.Sprintf("%q", n.text)
	case listNode:
		parts := make([]string, len(n.items))
		for i, item := range n.items {
			parts[i] = item.String()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case objectNode:
		return "{...}"
	default:
		return n.text
	}
}

// SyntaxError is a configuration file that is not JSON.
type SyntaxError struct {
	File         string
	Line, Column int // both from 1; the column counts bytes
	Cause        error
}

// Error names the place and the cause, such as "parse a.json: line 3, column 5: invalid ...".
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("parse %s: line %d, column %d: %v", e.File, e.Line, e.Column, e.Cause)
}

// Unwrap gives the error of the JSON parser.
func (e *SyntaxError) Unwrap() error { return e.Cause }

// parseDocument reads the JSON object that a configuration file is.
func parseDocument(file string, data []byte) (node, error) {
	// A byte order mark is what some editors leave behind; it says nothing in UTF-8.
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := json.Unmarshal(data, new(any)); err != nil {
		return node{}, syntaxError(file, data, err)
	}
	d := documentReader{decoder: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	d.decoder.UseNumber()
	root := d.value()
	if root.kind != objectNode {
		return node{}, fmt.Errorf("parse %s: the file must hold one JSON object, not %v", file, root.kind)
	}
	return root, nil
}

// syntaxError turns the parser's byte offset into a place that an editor shows, and adds the
// reason that is behind most of these errors.
func syntaxError(file string, data []byte, err error) error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return fmt.Errorf("parse %s: %w", file, err)
	}
	// Offset counts the bytes read, the offending one included.
	at := max(int(min(syntax.Offset, int64(len(data))))-1, 0)
	before := data[:at]
	lineStart := bytes.LastIndexByte(before, '\n') + 1
	cause := err
	if at < len(data) {
		switch {
		case data[at] == '/' || data[at] == '#':
			cause = fmt.Errorf("%w (JSON has no comments)", err)
		case bytes.HasSuffix(bytes.TrimRight(before, " \t\r\n"), []byte(",")):
			cause = fmt.Errorf("%w (is there a comma after the last entry?)", err)
		}
	}
	return &SyntaxError{
		File:   file,
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: at - lineStart + 1,
		Cause:  cause,
	}
}

// documentReader builds nodes from the tokens of a text that is known to be valid.
type documentReader struct {
	decoder *json.Decoder
	data    []byte
	counted int // bytes whose line ends are in line
	line    int
}

func (d *documentReader) token() json.Token {
	token, err := d.decoder.Token()
	if err != nil {
		panic("BUG: valid JSON does not tokenize: " + err.Error())
	}
	end := int(d.decoder.InputOffset())
	d.line += bytes.Count(d.data[d.counted:end], []byte("\n"))
	d.counted = end
	return token
}

func (d *documentReader) value() node {
	token := d.token()
	n := node{line: d.line}
	switch v := token.(type) {
	case nil:
		n.kind, n.text = nullNode, "null"
	case bool:
		n.kind, n.text = boolNode, fmt.Sprint(v)
	case json.Number:
		n.kind, n.text = numberNode, v.String()
	case string:
		n.kind, n.text = stringNode, v
	case json.Delim:
		d.fill(&n, v)
	}
	return n
}

func (d *documentReader) fill(n *node, open json.Delim) {
	if open == '[' {
		n.kind = listNode
		for d.decoder.More() {
			n.items = append(n.items, d.value())
		}
	} else {
		n.kind = objectNode
		for d.decoder.More() {
			name, _ := d.token().(string)
			line := d.line
			value := d.value()
			value.line = line
			n.members = append(n.members, member{name: name, value: value})
		}
	}
	d.token() // the closing bracket
}
