package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const helpTop = `sluice is an HTTP edge: it takes requests, looks up in Redis (or in a file) which backend the
host name belongs to, and passes them on. It starts from a Hipache configuration file unchanged.

Usage:
  sluice [flags]

  sluice                           /etc/hipache.json if there is one; else routes.json
                                   of this folder, served on 127.0.0.1:8080
  sluice -c /etc/hipache.json      the file of a Hipache installation
  sluice --driver redis://10.0.0.5:6379 --http-bind 0.0.0.0 --http-port 80
  sluice -c /etc/hipache.json -d   check everything, start nothing
  sluice --dry --connect           look at the store as well

Where a value comes from: a flag wins over an environment variable, that over the file, that
over the default. Lists are separated by commas (URLs by spaces), or the flag is repeated. The
variable of a flag is its name in capitals after SLUICE_, so --server-retry-on-error is
SLUICE_SERVER_RETRY_ON_ERROR and the key server.retryOnError of the file. "sluice --dry" prints
every value with the place it came from.

Signals: SIGHUP reads configuration, certificates and error pages again; SIGUSR1 reopens the
access log; SIGUSR2 hands over to a new binary; SIGTERM and SIGINT finish what is under way and
stop, a second one stops at once.

`

const helpGeneral = `General flags:
  -c, --config FILE
        Configuration file, JSON. Without it SETTINGS_FLAVOR=x picks config_x.json.
  -d, --dry[=json]
        Check the configuration, print it with the origin of each value and secrets
        hidden, and exit: 0 when it is sound, 1 with every mistake listed when not.
      --connect
        With --dry: also connect to the store, and say what answers there, how changes come
        from it, how fast it is, and which of its entries cannot be used; 1 if nothing answers.
  -h, --help
        This text.
      --version
        Print the version and exit.
`

// sectionTitles names the sections of the table for people.
var sectionTitles = map[string]string{
	"http":   "Plain HTTP",
	"https":  "HTTPS",
	"admin":  "Admin listener",
	"server": "Requests and backends",
	"cache":  "Routes in memory",
	"tls":    "TLS on all https listeners",
	"acme":   "Certificates on demand",
	"policy": "Hosts without a policy of their own",
	"":       "Store and process",
}

// sections is the order in which help and documentation go through the table.
var sections = []string{"", "http", "https", "tls", "acme", "policy", "admin", "server", "cache"}

// WriteHelp writes the text of --help.
func WriteHelp(w io.Writer) error {
	b := bufio.NewWriter(w)
	b.WriteString(helpTop + helpGeneral)
	for _, section := range sections {
		fmt.Fprintf(b, "\n%s:\n", sectionTitles[section])
		for _, k := range table {
			if k.Section() == section && k.Instead == "" {
				writeFlagHelp(b, k)
			}
		}
	}
	return b.Flush()
}

const helpIndent = "        "

// writeFlagHelp writes one flag: what it takes, what it is for, what holds without it.
func writeFlagHelp(w io.Writer, k Key) {
	fmt.Fprintf(w, "      --%s%s\n", k.Flag(), placeholder(k))
	text := k.Doc
	switch {
	case k.Bare != "":
		text += fmt.Sprintf(" (default %s; %s without a configuration file)", k.Default, k.Bare)
	case k.Default != "":
		text += fmt.Sprintf(" (default %s)", strings.ReplaceAll(k.Default, ",", ", "))
	}
	for _, line := range wrap(text, 88) {
		fmt.Fprintf(w, "%s%s\n", helpIndent, line)
	}
}

// placeholder stands for a flag's value, with what separates it from the flag.
func placeholder(k Key) string {
	if k.Rule.Choices != nil {
		return " " + strings.Join(k.Rule.Choices, "|")
	}
	if k.Rule.Text == fileName.Text {
		return " FILE"
	}
	switch k.Type() {
	case "true or false":
		return "[=true|false]"
	case "whole number":
		if k.Unit == "bytes" {
			return " BYTES"
		}
		return " N"
	case "seconds":
		return " SECONDS"
	case "list of URLs":
		return " URL..."
	case "list of networks":
		return " NETWORK..."
	case "list of addresses":
		return " ADDRESS..."
	case "list of strings":
		return " NAME..."
	default:
		return " TEXT"
	}
}

// wrap breaks a text into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
