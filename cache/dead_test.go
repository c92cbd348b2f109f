package cache

import (
	"strings"
	"testing"
)

// frontendOf makes a frontend of the given URLs.
func frontendOf(urls ...string) *Frontend {
	return parseFrontend("a.example", append([]string{"id"}, urls...), noOwn, func(string, error) {})
}

// deadURLs lists the backends of f that d holds at a time before its end.
func deadURLs(d *deadSet, f *Frontend) string {
	d = d.attach(f)
	var dead []string
	for i := range f.Backends {
		if d.has(i, 1) {
			dead = append(dead, f.Backends[i].URL)
		}
	}
	return strings.Join(dead, " ")
}

func TestDeadSet_BindsIDsToURLs(t *testing.T) {
	t.Parallel()
	const sec = int64(1e9)
	abc, bc, xabc := frontendOf("a", "b", "c"), frontendOf("b", "c"), frontendOf("x", "a", "b", "c")
	nothingHeard := func(int) (announcement, bool) { return announcement{}, false }
	seen := func(ids ...string) *deadSet {
		return mergeDead(nil, ids, 30*sec, 1, nothingHeard).attach(abc)
	}
	tests := []struct {
		name  string
		old   *deadSet
		ids   []string
		until int64
		heard map[int]announcement
		list  *Frontend
		want  string
	}{
		{"first seen", nil, []string{"1"}, 30 * sec, nil, abc, "b"},
		{"list shifted", seen("1"), []string{"1"}, 30 * sec, nil, bc, "b"},
		{"list shifted the other way", seen("0", "2"), []string{"0", "2"}, 30 * sec, nil, xabc, "a c"},
		{"marked backend removed", seen("0"), []string{"0"}, 30 * sec, nil, bc, ""},
		{"id left and came back", mergeDead(seen("1"), nil, 30*sec, 2, nothingHeard), []string{"1"}, 30 * sec, nil, bc, "c"},
		{"life rose: marked anew", seen("1"), []string{"1"}, 40 * sec, nil, bc, "c"},
		{"life moved by a round trip", seen("1"), []string{"1"}, 30*sec + deadSlack/2, nil, bc, "b"},
		{
			"life rose by an announced mark of another", seen("1"),
			[]string{"1", "2"},
			40 * sec,
			map[int]announcement{2: {"b", 2}},
			xabc, "b",
		},
		{"announced before it was read", nil, []string{"0"}, 30 * sec, map[int]announcement{0: {"c", 1}}, bc, "c"},
		{"no number", nil, []string{"x", "-1", "1"}, 30 * sec, nil, abc, "b"},
		{"beyond the list", nil, []string{"7"}, 30 * sec, nil, abc, ""},
		{"set without an end", mergeDead(nil, []string{"1"}, never, 1, nothingHeard).attach(abc), []string{"1"}, never, nil, bc, "b"},
	}
	for _, tt := range tests {
		d := mergeDead(tt.old, tt.ids, tt.until, 2, func(id int) (announcement, bool) {
			a, ok := tt.heard[id]
			return a, ok
		})
		if got := deadURLs(d, tt.list); got != tt.want {
			t.Errorf("%s: dead are %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDeadSet_RebindByALateAnnouncement(t *testing.T) {
	t.Parallel()
	abc := frontendOf("a", "b", "c")
	d := mergeDead(nil, []string{"1"}, never, 1, func(int) (announcement, bool) { return announcement{}, false }).attach(abc)
	if got := deadURLs(d.rebind(1, "c", 2), abc); got != "c" {
		t.Errorf("after the announcement: dead are %q, want c", got)
	}
	if d.rebind(1, "b", 2) != d || d.rebind(0, "a", 2) != d {
		t.Error("an announcement that says nothing new made another set")
	}
}

func TestDeadSet_RepeatedURLs(t *testing.T) {
	t.Parallel()
	nothingHeard := func(int) (announcement, bool) { return announcement{}, false }
	mixed, uniform := frontendOf("a", "b", "a"), frontendOf("a", "a", "a")
	d := mergeDead(nil, []string{"2"}, never, 1, nothingHeard)
	if got := deadURLs(d, mixed); got != "a a" {
		t.Errorf("beside another URL: dead are %q, want both repetitions", got)
	}
	if got := deadURLs(d, uniform); got != "a" {
		t.Errorf("alone: dead are %q, want one", got)
	}
}
