package cache

// tier is how a server tells what changed. docs/redis.md says what each one costs.
type tier uint8

const (
	tierNone      tier = iota // no watch has stood yet
	tierBroadcast             // every change under our prefixes is pushed
	tierOptIn                 // a change of what was read is pushed, once
	tierPoll                  // nothing is pushed
	tierCount
)

var tierNames = [tierCount]string{"none", "bcast", "optin", "poll"}

// String returns the label of t in metrics and logs.
func (t tier) String() string { return tierNames[t] }

// noteTier makes l's tier the one that metrics show, and logs it when it is another than before.
// refusal is the server's answer to the request for the best tier.
func (w *redisWatcher) noteTier(l *link, refusal error) {
	if tier(w.tier.Swap(uint32(l.tier))) == l.tier {
		return
	}
	for t := tierBroadcast; t < tierCount; t++ {
		w.m.tiers[t].Set(0)
	}
	w.m.tiers[l.tier].Set(1)
	switch l.tier {
	case tierBroadcast:
		w.log.Info("store pushes changes", "server", l.address, "tier", l.tier.String())
	case tierOptIn:
		w.log.Warn("store pushes changes only of what was read", "server", l.address, "tier", l.tier.String(),
			"cause", refusal)
	default:
		w.log.Warn("store pushes no changes: all routes are read again each second", "server", l.address,
			"tier", l.tier.String(), "cause", refusal)
	}
}
