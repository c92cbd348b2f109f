package main

import (
	"fmt"
	"slices"
	"strings"
)

// origins say where the figures of a section come from; those with the same origin share a line.
type origins []origin

type origin struct{ words, names string }

// add says that what is named comes from where the words tell.
func (all *origins) add(words, name string) {
	i := slices.IndexFunc(*all, func(one origin) bool { return one.words == words })
	if i < 0 {
		*all = append(*all, origin{words, name})
	} else {
		(*all)[i].names += ", " + name
	}
}

// write writes a line for each origin.
func (all origins) write(b *strings.Builder) {
	for _, one := range all {
		fmt.Fprintf(b, "Measured on %s: %s.\n", one.words, one.names)
	}
}
