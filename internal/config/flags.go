package config

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// Flags is a parsed command line.
type Flags struct {
	File    string // --config
	Dry     string // --dry: "" (absent), "text" or "json"
	Connect bool   // --connect, which goes with --dry
	Version bool   // --version
	Help    bool   // --help
	// Values holds the flags that override keys, as LoadOptions.Flags takes them.
	Values map[string][]string
}

// ParseFlags reads the arguments after the program's name. Its error says what is wrong in one
// line, with the nearest flag for one that nobody knows.
func ParseFlags(args []string) (Flags, error) {
	f := Flags{Values: make(map[string][]string)}
	set := newFlagSet(&f)
	if err := set.Parse(args); err != nil {
		return Flags{}, flagError(set, err)
	}
	if set.NArg() > 0 {
		return Flags{}, fmt.Errorf("read arguments: %q is not a flag; a configuration file is named with --config",
			set.Arg(0))
	}
	if f.Dry != "" && f.Dry != "text" && f.Dry != "json" {
		return Flags{}, fmt.Errorf("read arguments: --dry=%s: must be text or json", f.Dry)
	}
	if f.Connect && f.Dry == "" {
		return Flags{}, errors.New("read arguments: --connect needs --dry: a start connects anyway")
	}
	return f, nil
}

func newFlagSet(f *Flags) *pflag.FlagSet {
	set := pflag.NewFlagSet("sluice", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.StringVarP(&f.File, "config", "c", "", "")
	set.StringVarP(&f.Dry, "dry", "d", "", "")
	set.Lookup("dry").NoOptDefVal = "text"
	set.BoolVar(&f.Connect, "connect", false, "")
	set.BoolVar(&f.Version, "version", false, "")
	set.BoolVarP(&f.Help, "help", "h", false, "")
	for _, k := range table {
		if k.Instead != "" {
			continue
		}
		flag := set.VarPF(&flagValue{values: f.Values, key: k}, k.Flag(), "", "")
		if _, isBool := k.field(new(Config)).(*bool); isBool {
			flag.NoOptDefVal = "true"
		}
	}
	return set
}

// flagValue collects the texts of one flag; the loader checks them together with all the rest, so
// that a wrong flag is listed among the other mistakes.
type flagValue struct {
	values map[string][]string
	key    Key
}

// Set is called by pflag for each time the flag is given. Only a list keeps them all.
func (v *flagValue) Set(text string) error {
	name := v.key.Flag()
	if strings.HasPrefix(v.key.Type(), "list") {
		v.values[name] = append(v.values[name], text)
	} else {
		v.values[name] = []string{text}
	}
	return nil
}

// String gives the default, which pflag asks for.
func (v *flagValue) String() string { return "" }

// Type names the value for pflag.
func (v *flagValue) Type() string { return "value" }

// flagError adds the nearest flag to the error about an unknown one.
func flagError(set *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return fmt.Errorf("read arguments: %w", err)
	}
	var names []string
	set.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	name := unknown.GetSpecifiedName()
	if best, distance := nearest(name, names); distance <= suggestDistance && distance <= len(name)/2 {
		return fmt.Errorf("read arguments: %w; did you mean --%s?", err, best)
	}
	return fmt.Errorf("read arguments: %w; --help lists all flags", err)
}
