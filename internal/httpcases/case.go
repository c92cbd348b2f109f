package httpcases

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// files holds the cases: http1.jsonl across the board, the others each in depth on what its name says.
//
//go:embed testdata/*.jsonl
var files embed.FS

// Case is one conversation with its expectations. Strings stand for bytes, one rune up to U+00FF
// for each. Texts are looked for without regard to ASCII case unless the field says exact.
type Case struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Level  string `json:"level"`  // how binding the rule is, and what is preferred
	Source string `json:"source"` // where the rule comes from

	// Client is played in order on one connection after another.
	Client []Step `json:"client"`
	// Backend holds the answer to the first request, to the second and so on, counted over all
	// connections. Requests beyond it get a short 200.
	Backend [][]Step `json:"backend"`

	WantBackend WantBackend `json:"want_backend"`
	WantClient  WantClient  `json:"want_client"`

	// WindowMS is how long the client goes on reading after its last step, in milliseconds, unless
	// its connection ends before; 0 is 250.
	WindowMS int `json:"window_ms"`
	// AnswerMS bounds the time from the connect to the first byte of an answer; 0 does not.
	AnswerMS int `json:"answer_ms"`
	// ResponseTimeoutMS is the limit for a backend's response head that the proxy must be configured
	// with for this case, in milliseconds; 0 asks for nothing special.
	ResponseTimeoutMS int `json:"response_timeout_ms"`
}

// WantBackend is what the backend must have seen. Zero fields are not checked; numbers are lists of
// what is allowed.
type WantBackend struct {
	Requests        []int  `json:"requests"`     // well-formed heads
	Bodies          []int  `json:"bodies"`       // requests whose body came whole
	Connections     []int  `json:"connections"`  // accepted
	Has             []text `json:"has"`          // in the bytes received
	HasExact        []text `json:"has_exact"`    //
	HasIfAsked      []text `json:"has_if_asked"` // only if a request came at all
	Lacks           []text `json:"lacks"`
	LacksExact      []text `json:"lacks_exact"`
	Order           []text `json:"order"`             // each behind the one before
	SeesClientLeave bool   `json:"sees_client_leave"` // a wait_eof step met the connection's end
}

// WantClient is what the client must have received. Zero fields are not checked.
type WantClient struct {
	// Statuses are the allowed ones for each answer, all connections in their order, 1xx included; a
	// 100 more than listed is forgiven.
	Statuses [][]int `json:"statuses"`
	// StatusesAny are alternatives to each other, each in the form of Statuses.
	StatusesAny [][][]int `json:"statuses_any"`
	LastStatus  []int     `json:"last_status"`
	// Methods are the requests' methods where they cannot be told from the lines sent; answers are
	// framed by them.
	Methods  []string     `json:"methods"`
	Closed   *bool        `json:"closed"`     // the last connection had ended when the window was over
	Whole    *bool        `json:"whole"`      // every answer was complete
	CutOr502 bool         `json:"cut_or_502"` // an answer is incomplete, or a 502 is all there is
	Has      []text       `json:"has"`
	Lacks    []text       `json:"lacks"`
	Order    []text       `json:"order"`
	Counts   map[text]int `json:"counts"`    // how often a text occurs
	MinBytes int          `json:"min_bytes"` // received in all
	// ArrivesMS bounds the time from the connect to a text's arrival on the last connection; the case
	// of letters counts.
	ArrivesMS map[text]int `json:"arrives_ms"`
}

// Cases returns all cases, file by file, in the order of each.
func Cases() ([]*Case, error) {
	names, err := fs.Glob(files, "testdata/*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("list cases: %w", err)
	}
	var all []*Case
	for _, name := range names {
		lines, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read cases: %w", err)
		}
		cases, err := parse(lines)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, cases...)
	}
	return all, nil
}

func parse(lines []byte) ([]*Case, error) {
	d := json.NewDecoder(bytes.NewReader(lines))
	d.DisallowUnknownFields()
	var cases []*Case
	for {
		c := &Case{}
		if err := d.Decode(c); errors.Is(err, io.EOF) {
			return cases, nil
		} else if err != nil {
			return nil, fmt.Errorf("read case %d %s: %w", len(cases)+1, c.ID, err)
		}
		if err := c.check(); err != nil {
			return nil, fmt.Errorf("read case %s: %w", c.ID, err)
		}
		cases = append(cases, c)
	}
}

// check refuses steps that the side they stand on does not know.
func (c *Case) check() error {
	for _, s := range c.Client {
		if !slices.Contains(clientVerbs, s.verb) {
			return fmt.Errorf("client step %q is none of %q", s.verb, clientVerbs)
		}
	}
	for _, answer := range c.Backend {
		for i, s := range answer {
			if !slices.Contains(backendVerbs, s.verb) {
				return fmt.Errorf("backend step %q is none of %q", s.verb, backendVerbs)
			}
			if s.verb == verbEarly && i > 0 {
				return fmt.Errorf("backend step %q is not the first", s.verb)
			}
		}
	}
	return nil
}

// Sent returns what the client sends, and whether sending it on one connection, with pauses, is all that it does.
func (c *Case) Sent() (raw string, alone bool) {
	for _, s := range c.Client {
		switch s.verb {
		case verbSend:
			raw += string(s.text)
		case verbRepeat:
			raw += strings.Repeat(string(s.text), s.n)
		case verbWait:
		default:
			return "", false
		}
	}
	return raw, true
}

// Verbs of steps, with the value that each takes in JSON.
const (
	verbSend    = "send"     // a plain string: its bytes
	verbRepeat  = "repeat"   // [string, n]: its bytes n times
	verbWait    = "wait"     // n: milliseconds
	verbClose   = "close"    // true: close the connection
	verbFIN     = "fin"      // true: close its sending side
	verbBulk    = "bulk"     // n: send n bytes in the background
	verbUntil   = "until"    // string: wait for it, 400 ms at most
	verbNew     = "new"      // true: go on with a new connection
	verbReset   = "reset"    // true: end the connection with a RST
	verbEcho    = "echo"     // true: send back what comes until a FIN, then close
	verbEchoEOF = "echo_eof" // string: read until a FIN, send it, then close
	verbWaitEOF = "wait_eof" // n: wait that many milliseconds for the connection's end, then close
	verbEarly   = "early"    // true, first: answer without reading the body
)

var (
	clientVerbs = []string{
		verbSend, verbRepeat, verbWait, verbClose, verbFIN, verbBulk, verbUntil, verbNew,
	}
	backendVerbs = []string{
		verbSend, verbRepeat, verbWait, verbClose, verbReset, verbEcho, verbEchoEOF, verbWaitEOF, verbEarly,
	}
)

// Step is one act of the client or of the backend.
type Step struct {
	verb string
	text text
	n    int
}

// UnmarshalJSON reads a string, or an object with one verb.
func (s *Step) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		s.verb = verbSend
		return json.Unmarshal(b, &s.text)
	}
	verbs := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &verbs); err != nil {
		return err
	}
	if len(verbs) != 1 {
		return fmt.Errorf("read step %s: want one verb, found %d", b, len(verbs))
	}
	for verb, value := range verbs {
		s.verb = verb
		return s.unmarshalValue(value)
	}
	return nil
}

func (s *Step) unmarshalValue(value json.RawMessage) error {
	switch value[0] {
	case 't':
		return nil
	case '"':
		return json.Unmarshal(value, &s.text)
	case '[':
		return json.Unmarshal(value, &[]any{&s.text, &s.n})
	}
	return json.Unmarshal(value, &s.n)
}

// text is a byte string that JSON writes as one rune per byte.
type text string

// UnmarshalText implements encoding.TextUnmarshaler, for values and for the keys of maps.
func (t *text) UnmarshalText(b []byte) error {
	raw := make([]byte, 0, len(b))
	for _, r := range string(b) {
		if r > 0xff {
			return fmt.Errorf("read text %q: rune %q is no byte", b, r)
		}
		raw = append(raw, byte(r))
	}
	*t = text(raw)
	return nil
}

// lower is t with ASCII letters in lower case; other bytes stay, whether or not they are UTF-8.
func (t text) lower() text {
	b := []byte(t)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return text(b)
}
