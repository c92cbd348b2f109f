package config

import "strconv"

// Source is the layer that a value came from.
type Source uint8

// The layers, in the order in which a later one overrides an earlier one.
const (
	FromDefault Source = iota // our default; no file was read, or Hipache has no such key
	FromHipache               // Hipache's default for a key that the file leaves out
	FromKey                   // taken over from another key, named in Origin.Name
	FromFile                  // the configuration file
	FromEnv                   // an environment variable
	FromFlag                  // a command-line flag
)

// Origin says where one value came from.
type Origin struct {
	Source Source
	// Name is the file's path, the variable's, flag's or other key's name; empty for defaults.
	Name string
	// Line is the line in the file, from 1; 0 for any other source.
	Line int
}

// String gives the origin as --dry prints it, such as "file /etc/hipache.json:7".
func (o Origin) String() string {
	switch o.Source {
	case FromHipache:
		return "Hipache default"
	case FromKey:
		return "from " + o.Name
	case FromFile:
		if o.Line == 0 {
			return "file " + o.Name
		}
		return "file " + o.Name + ":" + strconv.Itoa(o.Line)
	case FromEnv:
		return "environment " + o.Name
	case FromFlag:
		return "flag --" + o.Name
	default:
		return "default"
	}
}
