package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseFlags(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want Flags
	}{
		"none":         {nil, Flags{}},
		"config":       {[]string{"-c", "a.json"}, Flags{File: "a.json"}},
		"config long":  {[]string{"--config=a.json", "-d"}, Flags{File: "a.json", Dry: "text"}},
		"dry JSON":     {[]string{"--dry=json"}, Flags{Dry: "json"}},
		"version":      {[]string{"--version"}, Flags{Version: true}},
		"help":         {[]string{"-h"}, Flags{Help: true}},
		"key":          {[]string{"--server-retry-on-error", "5"}, Flags{Values: map[string][]string{"server-retry-on-error": {"5"}}}},
		"last counts":  {[]string{"--http-port=1", "--http-port=2"}, Flags{Values: map[string][]string{"http-port": {"2"}}}},
		"list":         {[]string{"--driver", "redis:", "--driver", "redis://b"}, Flags{Values: map[string][]string{"driver": {"redis:", "redis://b"}}}},
		"bool alone":   {[]string{"--server-debug"}, Flags{Values: map[string][]string{"server-debug": {"true"}}}},
		"bool false":   {[]string{"--server-debug=false"}, Flags{Values: map[string][]string{"server-debug": {"false"}}}},
		"empty user":   {[]string{"--user", ""}, Flags{Values: map[string][]string{"user": {""}}}},
		"camel, digit": {[]string{"--server-dead-backend-on-500=false"}, Flags{Values: map[string][]string{"server-dead-backend-on-500": {"false"}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseFlags(tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Values == nil {
				tt.want.Values = map[string][]string{}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseFlags_Mistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		want string
	}{
		"slip":      {[]string{"--server-retry-on-eror=1"}, "did you mean --server-retry-on-error?"},
		"nonsense":  {[]string{"--zzzzzz"}, "--help lists all flags"},
		"argument":  {[]string{"config.json"}, "named with --config"},
		"dry=x":     {[]string{"--dry=x"}, "must be text or json"},
		"no value":  {[]string{"-c"}, "needs an argument"},
		"shorthand": {[]string{"-x"}, "-x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseFlags(tt.args)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestWriteHelp_NamesEveryFlag(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := WriteHelp(&out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"--config", "--dry", "--help", "--version"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("help lacks %s", name)
		}
	}
	for _, k := range Keys() {
		if k.Instead == "" && !strings.Contains(out.String(), "--"+k.Flag()+placeholder(k)+"\n") {
			t.Errorf("help lacks --%s", k.Flag())
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 101 {
			t.Errorf("line of %d bytes: %s", len(line), line)
		}
	}
}
