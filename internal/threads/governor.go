package threads

import "math"

// look is what the machine and this process did between two looks, in cores: 1 is one core all the
// time.
type look struct {
	used    float64 // CPU time of this process
	waiting float64 // time for which threads of this process could have run and had no core
	idle    float64 // time for which cores had nothing to do
	done    float64 // requests per second; 0 where nobody counts them
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
	// costly is by how much fewer requests the same CPU time may serve with fewer threads. It tells more than their
	// number does, which is also that of what is asked for.
	costly = 0.97
	// better and worthIt are by how much requests or CPU time must become more for another thread to stay.
	better, worthIt = 1.05, 1.15
	// agreement is how many looks in a row must speak for a change before it is tried, trialLooks how many looks at what
	// came of it decide whether it stays.
	agreement, trialLooks = 3, 5
	// minPatience and maxPatience are how many looks that speak for a change pass before it is tried again if it was of
	// no use; they double in between.
	minPatience, maxPatience = 20, 640
)

// governor decides how many threads there are, look by look. It has no clock: its time is looks.
type governor struct {
	most    int // threads while nothing speaks for fewer
	threads int

	trial  trial // the last change, until it has proved useful
	agreed pace  // of the looks in a row that spoke for the change that would come next
	fewer  patience
	more   patience
}

// trial is a change that is yet to prove useful.
type trial struct {
	kind   change
	from   int  // threads before
	before pace // what was done then
	after  pace
}

// change is what is tried.
type change int

const (
	nothing change = iota
	fewerThreads
	moreThreads
)

// pace sums up looks.
type pace struct {
	looks      int
	used, done float64
}

func (p *pace) add(l look) {
	p.looks++
	p.used += l.used
	p.done += l.done
}

// beside returns the means of p as multiples of another's; what the other has nothing of is 1.
func (p *pace) beside(other pace) (used, done float64) {
	ratio := func(a, b float64) float64 {
		if b <= 0 {
			return 1
		}
		return a / float64(p.looks) * float64(other.looks) / b
	}
	return ratio(p.used, other.used), ratio(p.done, other.done)
}

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
	switch {
	case g.threads < g.most && l.idle >= freeCore:
		g.set(g.most)
	case g.threads < g.most && g.trial.kind != moreThreads && starves(l):
		g.fewer.fail()
		g.set(g.most)
	case g.trial.kind != nothing:
		g.judge(l)
	case speaksForFewer(l, g.threads):
		g.consider(fewerThreads, fit(l.used), &g.fewer, l)
	case g.threads < g.most && l.used >= busy*float64(g.threads):
		g.consider(moreThreads, g.threads+1, &g.more, l)
	default:
		g.agreed = pace{}
	}
	return g.threads
}

// consider tries a change when looks agree on it.
func (g *governor) consider(what change, threads int, p *patience, l look) {
	if !p.pass() {
		return
	}
	if g.agreed.add(l); g.agreed.looks < agreement {
		return
	}
	t := trial{kind: what, from: g.threads, before: g.agreed}
	g.set(threads)
	g.trial = t
}

// judge looks at what came of a change, and takes it back if it was of no use.
func (g *governor) judge(l look) {
	t := &g.trial
	if l.used < filled*t.before.used/float64(t.before.looks) {
		return // There is less to do than before: that tells nothing.
	}
	if t.after.add(l); t.after.looks < trialLooks {
		return
	}
	used, done := t.after.beside(t.before)
	switch {
	case t.kind == fewerThreads && t.before.done > 0 && done < costly*used:
		g.fewer.fail()
		g.set(t.from)
	case t.kind == moreThreads && done < better && used < worthIt:
		g.more.fail()
		g.set(t.from)
	case t.kind == moreThreads:
		g.more, g.trial = patience{}, trial{}
	default:
		g.trial = trial{}
	}
}

// fit is how many threads the work fits into.
func fit(used float64) int { return max(int(math.Ceil(used-fitting)), 1) }

// starves tells that others have taken the cores that fewer threads left.
func starves(l look) bool { return l.waiting >= max(starved*l.used, leastWait) }

func speaksForFewer(l look, threads int) bool {
	fewer := fit(l.used)
	return fewer < threads && l.used >= filled*float64(fewer) && l.idle < fullCores && l.waiting >= crowded*l.used
}

func (g *governor) set(threads int) { g.threads, g.agreed, g.trial = threads, pace{}, trial{} }
