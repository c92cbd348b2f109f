package cache

import (
	"reflect"
	"testing"
)

func TestSlotOf(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]uint16{
		"":                         0,
		"123456789":                12739,
		"foo":                      12182,
		"{foo}:frontend:a":         12182,
		"frontend:{foo}":           12182,
		"{}foo":                    slotOf("{}foo"),
		"frontend:www.example.com": slotOf("{frontend:www.example.com}"),
	} {
		if got := slotOf(key); got != want {
			t.Errorf("%q: got %d, want %d", key, got, want)
		}
	}
	if slotOf("{}foo") == slotOf("{}bar") {
		t.Error("an empty pair of braces counts")
	}
}

const clusterNodesText = `a 10.0.0.1:7000@17000,one.example myself,master - 0 0 1 connected 0-99 200 [300->-b]
b 10.0.0.2:7000@17000,two.example,shard-id=x master - 0 0 2 connected 100-199
c 10.0.0.3:7000@17000 slave a 0 0 1 connected
d :0@0 master,noaddr - 0 0 4 disconnected 400
e [2001:db8::1]:7000@17000 master,fail - 0 0 5 disconnected
f :7003@17003 master - 0 0 x connected
not a line
`

func TestParseClaims(t *testing.T) {
	t.Parallel()
	want := []claim{
		{id: "a", address: "10.0.0.1:7000", alias: "one.example:7000", isMaster: true, epoch: 1, slots: [][2]int{{0, 99}, {200, 200}}},
		{id: "b", address: "10.0.0.2:7000", alias: "two.example:7000", isMaster: true, epoch: 2, slots: [][2]int{{100, 199}}},
		{id: "c", address: "10.0.0.3:7000", epoch: 1},
		{id: "e", address: "[2001:db8::1]:7000", isMaster: true, failed: true, epoch: 5},
		{id: "f", address: "10.0.0.9:7003", isMaster: true},
	}
	got := parseClaims(clusterNodesText, "10.0.0.9", false)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	byName := parseClaims(clusterNodesText, "10.0.0.9", true)
	if byName[0].address != "one.example:7000" || byName[0].alias != "10.0.0.1:7000" || byName[2].address != "10.0.0.3:7000" {
		t.Errorf("by name: got %+v", byName)
	}
}

func TestMergeClaims_TheHigherEpochHasTheSlot(t *testing.T) {
	t.Parallel()
	old := []claim{{id: "a", address: "a:1", isMaster: true, epoch: 1, slots: [][2]int{{0, 9}}}, {id: "b", address: "b:1"}}
	twice := []claim{{id: "x", address: "b:1", isMaster: true}}
	now := []claim{{id: "a", address: "a:1"}, {id: "b", address: "b:1", isMaster: true, epoch: 7, slots: [][2]int{{0, 9}}}}
	empty := []claim{{id: "c", address: "c:1", isMaster: true, epoch: 3}, {id: "d", address: "d:1", isMaster: true, failed: true}}
	for _, views := range [][][]claim{{old, now, twice, empty}, {empty, twice, now, old}} {
		m := mergeClaims(views)
		if len(m.masters) != 2 || m.masters[0].id != "b" || m.masters[1].id != "c" || m.owner[0] != 1 || m.owner[9] != 1 || m.owner[10] != 0 {
			t.Errorf("got masters %+v, owners %d %d", m.masters, m.owner[0], m.owner[9])
		}
		again := mergeClaims([][]claim{m.claims()})
		if !again.equal(m) {
			t.Errorf("claims of a map make another one: %+v", again.masters)
		}
	}
}
