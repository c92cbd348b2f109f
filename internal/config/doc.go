// Package config turns a Hipache configuration file, environment variables and command-line flags
// into one typed [Config].
//
// Every key is one row of a table ([Keys]): its path in the file, its type and unit, its default,
// the rule it must keep, whether it is a secret and whether a running process can take it over.
// Parsing, environment variables, flags, --help, --dry, the reload report and
// docs/configuration.md all read that table, so none of them can disagree with another.
//
// A load never stops at the first mistake: [Load] returns all of them, each with the place it came
// from and, for a name nobody knows, the nearest one that exists. Each value remembers its
// [Origin].
//
// The package reads files and the environment it is given, and nothing else: it opens no socket,
// starts no goroutine and keeps no state. A Config is not changed after Load returned it and may
// be read from any goroutine.
package config
