package cache

import "testing"

func TestCompat_WildcardsOfHipacheTable1(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.foo.bar", "id", "201")
		r.set("foo.bar", "id", "202")
		r.set("pipo.foo.bar", "id", "203")
		r.set("*.baz.foo.bar", "id", "204")
		c := start(t, Options{Driver: []string{r.driver()}})
		for range 2 { // from the store, then from memory
			for host, want := range map[string]string{
				"test.foo.bar":    "201",
				"foo.bar":         "202",
				"pipo.foo.bar":    "203",
				"qux.baz.foo.bar": "204",
				"qux.bix.foo.bar": "201",
				"qux.bix.bar.foo": "unknown",
			} {
				wantAnswer(t, c, host, want)
			}
		}
	})
}

func TestCompat_WildcardsOfHipacheTable2(t *testing.T) {
	t.Parallel()
	eachDriver(t, func(t *testing.T, r routes) {
		r.set("*.quux", "id", "201")
		r.set("*.qux.quux", "id", "202")
		r.set("*.baz.qux.quux", "id", "203")
		r.set("*.bar.baz.qux.quux", "id", "204")
		r.set("foo.bar.baz.qux.quux", "id", "205")
		r.set("*.foo.bar.baz.qux.quux", "id", "206")
		r.set("*.quuux.foo.bar.baz.qux.quux", "id", "207")
		c := start(t, Options{Driver: []string{r.driver()}})
		for range 2 {
			for host, want := range map[string]string{
				"too.deep.quuux.foo.bar.baz.qux.quux": "206",
				"too.deep.foo.bar.baz.qux.quux":       "206",
				"foo.bar.baz.qux.quux":                "205",
				"bar.bar.baz.qux.quux":                "204",
				"foo.baz.qux.quux":                    "203",
				"foo.qux.quux":                        "202",
				"foo.quux":                            "201",
			} {
				wantAnswer(t, c, host, want)
			}
		}
	})
}
