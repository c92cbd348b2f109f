package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rule is what the value of a key must keep beside having the right type.
type Rule struct {
	// Text completes the sentence "must be ...", such as "from 1 to 65535". Empty: no rule.
	Text string
	// Choices is the closed set that the value comes from; nil for other rules.
	Choices []string

	keeps func(field any) bool
}

// longest bounds every duration, so that no sum of two of them can overflow.
const longest = 365 * 24 * 60 * 60

var (
	anySeconds  = between(0, longest)
	anyCount    = between(0, 1<<30)
	portNumber  = between(1, 65535)
	someSeconds = Rule{Text: "more than 0 and at most " + strconv.Itoa(longest), keeps: func(field any) bool {
		n := number(field)
		return n > 0 && n <= longest
	}}
)

// between keeps a number, in the unit of its key, within bounds that both count.
func between(low, high float64) Rule {
	return Rule{
		Text: fmt.Sprintf("from %s to %s", formatNumber(low), formatNumber(high)),
		keeps: func(field any) bool {
			n := number(field)
			return n >= low && n <= high
		},
	}
}

// oneOf keeps a string within a closed set.
func oneOf(choices ...string) Rule {
	quoted := make([]string, len(choices))
	for i, c := range choices {
		quoted[i] = strconv.Quote(c)
	}
	last := len(quoted) - 1
	return Rule{
		Text:    strings.Join(quoted[:last], ", ") + " or " + quoted[last],
		Choices: choices,
		keeps: func(field any) bool {
			return slices.Contains(choices, *field.(*string))
		},
	}
}

// eachString holds every string of a value to a test; the empty string itself passes, since it
// switches such keys off.
func eachString(text string, ok func(string) bool) Rule {
	return Rule{Text: text, keeps: func(field any) bool {
		var list []string
		switch p := field.(type) {
		case *string:
			return *p == "" || ok(*p)
		case *[]string:
			list = *p
		case *urlList:
			list = *p
		}
		return !slices.ContainsFunc(list, func(s string) bool { return !ok(s) })
	}}
}

// number gives the value of a numeric field in the unit of its key.
func number(field any) float64 {
	switch p := field.(type) {
	case *int:
		return float64(*p)
	case *int64:
		return float64(*p)
	case *time.Duration:
		return p.Seconds()
	default:
		panic(fmt.Sprintf("BUG: %T is not a number", field))
	}
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), the form of a field or protocol name.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		alphanumeric := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func isUpgrade(s string) bool {
	return isToken(s) && !strings.EqualFold(s, "h2c")
}

// isPrintable refuses what would tear a log line or a terminal.
func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
