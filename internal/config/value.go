package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// urlList is a list whose text form is separated by spaces alone, since a URL may hold a comma.
type urlList []string

// setNode puts a JSON value into the field that p points to. The error completes "must be ...".
func setNode(p any, n node) error {
	switch p := p.(type) {
	case *bool:
		if n.kind != boolNode {
			return errors.New("true or false")
		}
		return setText(p, n.text)
	case *int, *int64, *time.Duration:
		// JavaScript takes "80" where 80 is meant, so files with it exist (Hipache: lib/config/config.js).
		if n.kind != numberNode && n.kind != stringNode {
			return errors.New(numberKind(p))
		}
		return setText(p, n.text)
	case *string:
		// A number is a user's or group's id (Hipache: lib/config/config.js).
		if n.kind != stringNode && n.kind != numberNode {
			return errors.New("a string")
		}
		*p = n.text
		return nil
	case *[]Bind:
		return setBinds(p, n)
	default:
		return setList(p, n)
	}
}

// setList fills a list of strings or networks from a JSON list, or from one string.
func setList(p any, n node) error {
	items := []node{n}
	if n.kind == listNode {
		items = n.items
	}
	texts := make([]string, 0, len(items))
	for _, item := range items {
		if item.kind != stringNode {
			return errors.New("a string or a list of strings")
		}
		if n.kind != listNode && item.text == "" {
			break
		}
		texts = append(texts, item.text)
	}
	switch list := p.(type) {
	case *[]string:
		*list = texts
		return nil
	case *urlList:
		*list = texts
		return nil
	}
	networks := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		network, err := parseNetwork(text)
		if err != nil {
			return err
		}
		networks = append(networks, network)
	}
	*p.(*[]netip.Prefix) = networks
	return nil
}

// setText puts the text of a variable, a flag or a default into the field that p points to.
// Lists are separated by commas or spaces (URLs by spaces), or written as JSON. The error completes "must be ...".
func setText(p any, text string) error {
	switch p := p.(type) {
	case *bool:
		value, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("true or false")
		}
		*p = value
	case *int:
		value, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return errors.New(numberKind(p))
		}
		*p = value
	case *int64:
		value, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return errors.New(numberKind(p))
		}
		*p = value
	case *time.Duration:
		value, err := parseSeconds(text)
		if err != nil {
			return err
		}
		*p = value
	case *string:
		*p = text
	default:
		separators := ", "
		if _, ok := p.(*urlList); ok {
			separators = " "
		}
		n, err := listFromText(text, separators)
		if err != nil {
			return err
		}
		return setNode(p, n)
	}
	return nil
}

func numberKind(p any) string {
	if _, ok := p.(*time.Duration); ok {
		return "a number of seconds, such as 30 or 0.5"
	}
	return "a whole number"
}

// parseSeconds reads seconds with an optional fraction, or a Go duration such as "500ms".
func parseSeconds(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		if value, durationErr := time.ParseDuration(text); durationErr == nil {
			return value, nil
		}
		return 0, errors.New(numberKind(new(time.Duration)))
	}
	// The bounds keep the product within int64; NaN fails the comparison too.
	if !(seconds >= -longest && seconds <= longest) {
		return 0, fmt.Errorf("at most %d seconds", longest)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// parseNetwork reads a CIDR network or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if network, err := netip.ParsePrefix(text); err == nil {
		return network.Masked(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("a list of networks such as 10.0.0.0/8, which %q is not", text)
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// listFromText reads "a,b c" or a JSON list or object. An IPv6 address in brackets is not JSON.
func listFromText(text, separators string) (node, error) {
	trimmed := strings.TrimSpace(text)
	compact := strings.ReplaceAll(trimmed, " ", "")
	for _, opening := range []string{`["`, `[{`, `[]`, `{`} {
		if strings.HasPrefix(compact, opening) {
			wrapped, err := parseDocument("value", []byte(`{"value":`+trimmed+`}`))
			if err != nil || len(wrapped.members) != 1 {
				return node{}, errors.New("a list or a JSON list")
			}
			return wrapped.members[0].value, nil
		}
	}
	list := node{kind: listNode}
	for field := range strings.FieldsFuncSeq(trimmed, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		list.items = append(list.items, node{kind: stringNode, text: field})
	}
	return list, nil
}

// formatNumber writes a number the way a person would: no exponent, no trailing zeros.
func formatNumber(n float64) string {
	return strconv.FormatFloat(n, 'f', -1, 64)
}

// formatValue writes the value of a field the way setText reads it.
func formatValue(p any) string {
	switch p := p.(type) {
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		return strconv.Itoa(*p)
	case *int64:
		return strconv.FormatInt(*p, 10)
	case *time.Duration:
		return formatNumber(p.Seconds())
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, ", ")
	case *urlList:
		return strings.Join(*p, " ")
	case *[]netip.Prefix:
		return joinStrings(*p)
	case *[]Bind:
		return joinStrings(*p)
	default:
		panic(fmt.Sprintf("BUG: no format for %T", p))
	}
}

func joinStrings[T fmt.Stringer](list []T) string {
	parts := make([]string, len(list))
	for i, item := range list {
		parts[i] = item.String()
	}
	return strings.Join(parts, ", ")
}
