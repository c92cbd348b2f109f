package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Mistake is one thing that is wrong with a configuration.
type Mistake struct {
	// Path is the key, variable or flag that is wrong.
	Path string
	// Value is what was given, as written; empty for an unknown key, "(hidden)" for a secret.
	Value string
	// Rule says what is wrong and how to put it right.
	Rule string
	// Nearest is a known name that may have been meant; empty when there is none.
	Nearest string
	// Origin is where the value was given.
	Origin Origin
}

// Error puts the mistake into one line.
func (m Mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.Path)
	if m.Value != "" {
		b.WriteString(" = " + m.Value)
	}
	if m.Origin.Source == FromFile || m.Origin.Source == FromEnv || m.Origin.Source == FromFlag {
		b.WriteString(" (" + m.Origin.String() + ")")
	}
	b.WriteString(": " + m.Rule)
	if m.Nearest != "" {
		b.WriteString("; did you mean " + strconv.Quote(m.Nearest) + "?")
	}
	return b.String()
}

// Mistakes is the error of a load: every mistake, in the order of the file, then the environment,
// then flags.
type Mistakes []Mistake

// Error lists all mistakes, one a line.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, mistake := range m {
		lines[i] = mistake.Error()
	}
	return strings.Join(lines, "\n")
}

// typoDistance is how far a name may be from a known one to count as a typing mistake of it.
const typoDistance = 2

// suggestDistance is how far a name that is worth suggesting may be.
const suggestDistance = 5

// nearest finds the candidate with the smallest edit distance to name, letter case ignored. Without
// candidates the distance is that of nothing at all.
func nearest(name string, candidates []string) (string, int) {
	best, bestDistance := "", len(name)+1
	for _, candidate := range candidates {
		if d := editDistance(strings.ToLower(name), strings.ToLower(candidate)); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best, bestDistance
}

// nearestKey finds the key or section that an unknown path may mean, and how far it is. The right name in the
// wrong section is suggested too, though it is no typing mistake.
func nearestKey(path string) (string, int) {
	known := make([]string, 0, len(table)+len(sections))
	for _, k := range table {
		known = append(known, k.Path)
	}
	if !strings.Contains(path, ".") {
		known = append(known, sections[1:]...) // but for the top level, which has no name
	}
	best, distance := nearest(path, known)
	if distance <= typoDistance {
		return best, distance
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	i := slices.IndexFunc(known, func(k string) bool {
		return strings.EqualFold(k[strings.LastIndexByte(k, '.')+1:], last)
	})
	if i >= 0 {
		return known[i], distance
	}
	if distance > suggestDistance || distance > len(last)/2 {
		return "", distance
	}
	return best, distance
}

// nearestVariable does the same for a variable's name. The prefix that all share counts for nothing.
func nearestVariable(name string, known []string) (string, int) {
	best, distance := nearest(name, known)
	if own := len(name) - len(envPrefix); distance > suggestDistance || distance > own/2 {
		return "", distance
	}
	return best, distance
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours between two
// strings (optimal string alignment), since swapped letters are one slip of the fingers, not two.
func editDistance(a, b string) int {
	twoBack, previous := []int(nil), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], twoBack[j-2]+1)
			}
		}
		twoBack, previous = previous, row
	}
	return previous[len(b)]
}

// Warning is one line for the log: something was accepted that has no effect, or not the one
// that Hipache's documentation promises.
type Warning string

func warningf(format string, args ...any) Warning {
	return Warning(fmt.Sprintf(format, args...))
}
