package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// envPrefix begins every environment variable of ours.
const envPrefix = "SLUICE_"

// LoadOptions says where the layers of a configuration are.
type LoadOptions struct {
	// File is the configuration file; empty means the default file, if it exists.
	File string
	// DefaultFile stands in for DefaultFile, the constant; empty means the constant.
	DefaultFile string
	// Environ is the environment as os.Environ gives it.
	Environ []string
	// Flags holds the flags that were given, by name; a list flag may have several texts.
	Flags map[string][]string
	// Strict makes every unknown key a mistake, as --dry wants it. Otherwise only a name that
	// looks like a slip of a known one is a mistake, and others are warnings.
	Strict bool
	// Root says that the process runs as root, so that an empty user is a mistake.
	Root bool
	// CheckDriver, unless nil, checks one driver URL; its error completes "must be ...".
	CheckDriver func(string) error
}

// Load builds the configuration from its layers: defaults, file, environment, flags. Warnings are
// one line each, for the log. The error is [Mistakes] when the content is wrong, a
// [*SyntaxError] when the file is not JSON, or what the system said when it can't be read; the
// Config is nil then.
func Load(opts LoadOptions) (*Config, []Warning, error) {
	l := loader{opts: opts, config: &Config{origins: make(map[string]Origin)}, env: parseEnviron(opts.Environ)}
	file, err := l.findFile()
	if err != nil {
		return nil, l.warnings, err
	}
	var root node
	if file != "" {
		if root, err = readFile(file); err != nil {
			return nil, l.warnings, err
		}
	}
	l.config.File = file
	l.applyDefaults()
	if file != "" {
		l.applyFile(root)
	}
	l.applyEnvironment()
	l.applyFlags()
	l.complete()
	l.check()
	if len(l.mistakes) > 0 {
		return nil, l.warnings, l.mistakes
	}
	return l.config, l.warnings, nil
}

// loader is one run of Load.
type loader struct {
	opts     LoadOptions
	config   *Config
	env      map[string]string
	mistakes Mistakes
	warnings []Warning
}

func (l *loader) warnf(format string, args ...any) {
	l.warnings = append(l.warnings, warningf(format, args...))
}

// parseEnviron leaves out empty variables: an empty variable counts as one that is not there,
// since compose files and unit files can't leave one out.
func parseEnviron(environ []string) map[string]string {
	env := make(map[string]string)
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); value != "" {
			env[name] = value
		}
	}
	return env
}

func (l *loader) applyDefaults() {
	for _, k := range table {
		if k.Instead != "" {
			continue
		}
		text, source := k.Default, FromDefault
		if k.Hipache && l.config.File != "" {
			source = FromHipache
		}
		if k.Bare != "" && l.config.File == "" {
			text = k.Bare
		}
		if err := setText(k.field(l.config), text); err != nil {
			panic(fmt.Sprintf("BUG: default of %s must be %v", k.Path, err))
		}
		l.config.origins[k.Path] = Origin{Source: source}
	}
}

// applyFile takes over what the file says. Later members win over earlier ones of the same name,
// as they do in JavaScript.
func (l *loader) applyFile(root node) {
	entries := l.flatten("", root)
	entries = l.renameLegacy(entries)
	for _, e := range entries {
		origin := Origin{Source: FromFile, Name: l.config.File, Line: e.value.line}
		key, known := keyByPath(e.path)
		switch {
		case !known:
			l.unknown(e.path, origin, nearestKey)
		case key.Instead != "":
			l.warnf("%s has no meaning here: %s", key.Path, key.Instead)
		default:
			l.set(key, origin, displayNode(key, e.value), func(field any) error { return setNode(field, e.value) })
		}
	}
}

// entry is a member of the file by its whole path.
type entry struct {
	path  string
	value node
}

// flatten lists the members of the file's object and of the sections within. A null is a value
// left out, and so is a section that is false (Hipache: lib/config/legacy.js).
func (l *loader) flatten(prefix string, object node) []entry {
	var entries []entry
	for _, m := range object.members {
		path := prefix + m.name
		switch {
		case m.value.kind == nullNode:
		case !isSection(path):
			entries = l.appendEntry(entries, entry{path: path, value: m.value})
		case m.value.kind == objectNode:
			for _, e := range l.flatten(path+".", m.value) {
				entries = l.appendEntry(entries, e)
			}
		case m.value.kind == boolNode && m.value.text == "false":
		default:
			l.mistakes = append(l.mistakes, Mistake{
				Path: path, Value: m.value.String(), Rule: "must be an object with keys",
				Origin: Origin{Source: FromFile, Name: l.config.File, Line: m.value.line},
			})
		}
	}
	return entries
}

func (l *loader) appendEntry(entries []entry, e entry) []entry {
	i := slices.IndexFunc(entries, func(other entry) bool { return other.path == e.path })
	if i < 0 {
		return append(entries, e)
	}
	l.warnf("%s is given twice in %s, in line %d and line %d: the last one counts",
		e.path, l.config.File, entries[i].value.line, e.value.line)
	entries[i] = e
	return entries
}

// sound tells whether none of these keys has a mistake: how keys fit together can only be said of
// values that are valid.
func (l *loader) sound(paths ...string) bool {
	return !slices.ContainsFunc(l.mistakes, func(m Mistake) bool { return slices.Contains(paths, m.Path) })
}

// isSection reports whether path is an object that holds keys, in our table or in Hipache's older
// files.
func isSection(path string) bool {
	return path == legacyHTTPS || slices.ContainsFunc(table, func(k Key) bool { return k.Section() == path && path != "" })
}

// applyEnvironment takes over SLUICE_* variables.
func (l *loader) applyEnvironment() {
	known := make([]string, 0, len(table))
	for _, k := range table {
		if k.Instead != "" {
			continue
		}
		name := k.Env()
		known = append(known, name)
		if text, ok := l.env[name]; ok {
			l.setText(k, Origin{Source: FromEnv, Name: name}, text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) && !isServiceLink(name, l.env[name]) {
			nearest := func(n string) (string, int) { return nearestVariable(n, known) }
			l.unknown(name, Origin{Source: FromEnv, Name: name}, nearest)
		}
	}
}

// isServiceLink recognizes the variables that Kubernetes and Docker add to every container for a
// service named "sluice": nobody wrote them, so they are no mistakes.
func isServiceLink(name, value string) bool {
	return strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") ||
		strings.Contains(name, "_SERVICE_") || strings.Contains(name, "_PORT_")
}

// applyFlags takes over what was given on the command line.
func (l *loader) applyFlags() {
	for _, k := range table {
		texts, given := l.opts.Flags[k.Flag()]
		if !given || k.Instead != "" {
			continue
		}
		origin := Origin{Source: FromFlag, Name: k.Flag()}
		if len(texts) == 1 {
			l.setText(k, origin, texts[0])
			continue
		}
		list := node{kind: listNode}
		for _, text := range texts {
			list.items = append(list.items, node{kind: stringNode, text: text})
		}
		l.set(k, origin, displayNode(k, list), func(field any) error { return setNode(field, list) })
	}
}

func (l *loader) setText(k Key, origin Origin, text string) {
	shown := displayNode(k, node{kind: stringNode, text: text})
	l.set(k, origin, shown, func(field any) error { return setText(field, text) })
}

// set gives a key its value, unless that is of the wrong type or against the rule.
func (l *loader) set(k Key, origin Origin, shown string, put func(field any) error) {
	field := k.field(l.config)
	err := put(field)
	switch {
	case err != nil:
		l.mistake(k.Path, origin, shown, "must be "+hideInside(k, err.Error()))
	case k.Rule.keeps != nil && !k.Rule.keeps(field):
		l.mistake(k.Path, origin, shown, "must be "+k.Rule.Text)
	}
	l.config.origins[k.Path] = origin
}

func (l *loader) mistake(path string, origin Origin, shown, rule string) {
	l.mistakes = append(l.mistakes, Mistake{Path: path, Value: shown, Rule: rule, Origin: origin})
}

// unknown judges a name that is in no table: a slip of a known name is a mistake, since the
// operator believes it works; other names may be meant for another program. A check of the file
// wants to hear of every name in it, while the environment belongs to others too.
func (l *loader) unknown(name string, origin Origin, find func(string) (string, int)) {
	best, distance := find(name)
	if l.opts.Strict && origin.Source == FromFile || distance <= typoDistance {
		l.mistakes = append(l.mistakes, Mistake{Path: name, Rule: "unknown key", Nearest: best, Origin: origin})
		return
	}
	l.warnf("%s (%s): unknown key, ignored", name, origin)
}
