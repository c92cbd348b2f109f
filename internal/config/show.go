package config

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// WriteText prints every key with its effective value and origin, aligned, secrets hidden: what
// --dry shows.
func (c *Config) WriteText(w io.Writer) error {
	const originColumn = 40 // beyond it a long value pushes its origin to the right
	b := bufio.NewWriter(w)
	width := 0
	for _, k := range table {
		width = max(width, len(k.Path))
	}
	for _, section := range sections {
		for _, k := range table {
			if k.Section() != section || k.Instead != "" {
				continue
			}
			value := k.display(c)
			if value == "" {
				value = "-"
			} else {
				value += unitSuffix(k)
			}
			fmt.Fprintf(b, "%-*s  %-*s  %s\n", width, k.Path, originColumn, value, c.origins[k.Path])
		}
		b.WriteByte('\n')
	}
	return b.Flush()
}

// shown is one key in the JSON form of --dry.
type shown struct {
	Value  any    `json:"value"`
	Unit   string `json:"unit,omitempty"`
	Origin string `json:"origin"`
}

// WriteJSON prints the same as WriteText as one JSON object, keyed by path.
func (c *Config) WriteJSON(w io.Writer) error {
	all := make(map[string]shown, len(table))
	for _, k := range table {
		if k.Instead == "" {
			all[k.Path] = shown{Value: k.jsonValue(c), Unit: k.Unit, Origin: c.origins[k.Path].String()}
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}

// jsonValue keeps numbers and truth values what they are and hides secrets.
func (k Key) jsonValue(c *Config) any {
	switch p := k.field(c).(type) {
	case *bool:
		return *p
	case *int:
		return *p
	case *int64:
		return *p
	case *urlList:
		urls := make([]string, len(*p))
		for i, url := range *p {
			urls[i] = HideURL(url)
		}
		return urls
	case *[]string:
		return *p
	default:
		if k.Type() == "seconds" {
			return json.Number(formatValue(p))
		}
		return k.display(c)
	}
}

func unitSuffix(k Key) string {
	if k.Unit == "" {
		return ""
	}
	return " " + k.Unit
}
