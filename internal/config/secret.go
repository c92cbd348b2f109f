package config

import (
	"regexp"
	"strings"
)

// hidden stands for a secret wherever a configuration is shown.
const hidden = "(hidden)"

// secretParameter finds the parameters of a URL that carry credentials.
var secretParameter = regexp.MustCompile(`(?i)([?&][^=&#]*(?:pass|secret|token|auth)[^=&#]*=)[^&#]*`)

// HideURL replaces the credentials inside a driver's URL, so that it may be logged. It hides too
// much rather than too little: all up to the last "@", since a password may hold any character
// and a lone name before it is a password (Hipache: lib/drivers/redis.js).
func HideURL(url string) string {
	url = secretParameter.ReplaceAllString(url, "${1}"+hidden)
	at := strings.LastIndexByte(url, '@')
	if at < 0 {
		return url
	}
	scheme, rest, found := strings.Cut(url[:at], ":")
	if !found {
		return hidden + url[at:]
	}
	prefix := scheme + ":"
	if strings.HasPrefix(rest, "//") {
		prefix, rest = prefix+"//", rest[2:]
	}
	if user, _, hasPassword := strings.Cut(rest, ":"); hasPassword {
		prefix += user + ":"
	}
	return prefix + hidden + url[at:]
}

// displayNode shows a value as it was given, for a mistake.
func displayNode(k Key, n node) string {
	if k.Secret {
		return hidden
	}
	return hideIn(k, n).String()
}

// hideIn gives a copy of the value with its secrets replaced.
func hideIn(k Key, n node) node {
	if n.kind == stringNode && k.holdsURLs() {
		n.text = HideURL(n.text)
	}
	items := make([]node, len(n.items))
	for i, item := range n.items {
		items[i] = hideIn(k, item)
	}
	n.items = items
	return n
}

// hideInside keeps the text of an error from repeating a secret.
func hideInside(k Key, text string) string {
	if k.Secret || k.holdsURLs() && strings.Contains(text, "@") {
		return "valid"
	}
	return text
}

// display shows the effective value of a key, secrets hidden.
func (k Key) display(c *Config) string {
	field := k.field(c)
	text := formatValue(field)
	if k.Secret && text != "" {
		return hidden
	}
	if list, ok := field.(*urlList); ok {
		shown := make([]string, len(*list))
		for i, url := range *list {
			shown[i] = HideURL(url)
		}
		return strings.Join(shown, " ")
	}
	return text
}

func (k Key) holdsURLs() bool {
	if k.field == nil {
		return false
	}
	_, ok := k.field(new(Config)).(*urlList)
	return ok
}
