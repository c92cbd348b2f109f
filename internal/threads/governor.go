package threads

import "math"

// look is what the machine and this process did between two looks, in cores: 1 is one core all the
// time.
type look struct {
	used    float64 // CPU time of this process
	waiting float64 // time for which threads of this process could have run and had no core
	idle    float64 // time for which cores had nothing to do
}

// What a governor decides by.
const (
	// fullCores is how much of a core may be idle while all count as taken.
	fullCores = 0.35
	// freeCore is how much of a core must be idle for one more thread to have a core to run on.
	freeCore = 0.7
	// crowded is the part of the CPU time that threads wait if they share cores with each other.
	crowded = 0.5
	// starved is the part of it that few threads wait if others take the cores from them, and leastWait how much
	// of a core that must be.
	starved   = 0.45
	leastWait = 0.2
	// filled is how much of fewer threads' time the work must fill. What fills less waits for others all the time, as
	// when large bodies are copied, and the thread that is left would wait instead of serving.
	filled = 0.7
	// fitting is how much more than whole cores may be used while the work counts as fitting into them.
	fitting = 0.05
	// busy is the part of its threads' time that a process uses when it may have work for another.
	busy = 0.9
	// worthIt is by how much the CPU time must grow with another thread for that one to be of use.
	worthIt = 1.15
	// agreement is how many looks in a row must speak for fewer threads, and how many for trying one more.
	agreement = 2
	// minPatience and maxPatience are how many looks pass before a change is tried again that was
	// of no use; they double in between.
	minPatience = 20
	maxPatience = 640
)

// governor decides how many threads there are, look by look. It has no clock: its time is looks.
type governor struct {
	most    int // threads while nothing speaks for fewer
	threads int

	tried  trial   // what the last change was, until the next look has judged it
	before float64 // CPU time before it
	agreed int     // looks in a row that spoke for the change that would come next
	fewer  patience
	more   patience
}

// trial is a change that is yet to prove useful.
type trial int

const (
	none trial = iota
	triedFewer
	triedMore
)

// patience keeps changes apart that turn out to be of no use.
type patience struct {
	left, next int // looks
}

func (p *patience) pass() bool {
	if p.left > 0 {
		p.left--
		return false
	}
	return true
}

func (p *patience) fail() {
	p.next = min(max(2*p.next, minPatience), maxPatience)
	p.left = p.next
}

func newGovernor(most int) *governor { return &governor{most: most, threads: most} }

// allowed takes note of the runtime's own choice, which changes with the limits that a process is under.
// It shows only while all threads are there.
func (g *governor) allowed(threads int) {
	if g.threads == g.most {
		g.threads, g.most = threads, threads
	}
}

// next takes a look into account and returns how many threads there are to be.
func (g *governor) next(l look) int {
	tried := g.tried
	g.tried = none
	switch {
	case g.threads < g.most && l.idle >= freeCore:
		g.set(g.most)
	case tried == triedMore && l.used < worthIt*g.before:
		g.more.fail()
		g.set(g.threads - 1)
	case tried == triedMore:
		g.more = patience{}
	case g.threads < g.most && starves(l):
		g.fewer.fail()
		g.set(g.most)
	case g.speaksForFewer(l):
		if g.fewer.pass() && g.agrees() {
			g.try(triedFewer, fit(l.used), l)
		}
	case g.threads < g.most && l.used >= busy*float64(g.threads):
		if g.more.pass() && g.agrees() {
			g.try(triedMore, g.threads+1, l)
		}
	default:
		g.agreed = 0
	}
	return g.threads
}

// fit is how many threads the work fits into.
func fit(used float64) int { return max(int(math.Ceil(used-fitting)), 1) }

// starves tells that others have taken the cores that fewer threads left.
func starves(l look) bool { return l.waiting >= max(starved*l.used, leastWait) }

func (g *governor) speaksForFewer(l look) bool {
	fewer := fit(l.used)
	return fewer < g.threads && l.used >= filled*float64(fewer) && l.idle < fullCores && l.waiting >= crowded*l.used
}

func (g *governor) agrees() bool {
	g.agreed++
	return g.agreed >= agreement
}

func (g *governor) try(what trial, threads int, l look) {
	g.set(threads)
	g.tried, g.before = what, l.used
}

func (g *governor) set(threads int) { g.threads, g.agreed = threads, 0 }
