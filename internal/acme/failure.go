package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	protocol "golang.org/x/crypto/acme"
)

// reason says why there is no certificate: a label of a metric, of a closed set.
type reason string

const (
	reasonChallenge   reason = "challenge"    // the authority could not see the answer
	reasonRefused     reason = "refused"      // it refuses this name
	reasonAccount     reason = "account"      // it refuses the account
	reasonRateLimited reason = "rate_limited" // it has had enough
	reasonUnreachable reason = "unreachable"  // it does not answer, or is out of order
	reasonStore       reason = "store"        // the store did not do its part
	reasonUnusable    reason = "unusable"     // what it sent is no certificate for the name
)

var reasons = []reason{
	reasonChallenge, reasonRefused, reasonAccount, reasonRateLimited, reasonUnreachable, reasonStore, reasonUnusable,
}

const (
	// maxProblemBytes bounds what an authority's words take in a log line and in the store.
	maxProblemBytes = 600
	// minRateLimit and maxRateLimit bound how long an authority's "too many" is heeded.
	minRateLimit = time.Minute
	maxRateLimit = 24 * time.Hour
	// Pauses of the whole fleet: for an authority that is away, and for an account that it refuses.
	unreachablePause = 30 * time.Second
	accountPause     = 10 * time.Minute
	// keepFailure is how long the count of failures outlives the last one.
	keepFailure = 48 * time.Hour
	// tellEvery is how often a line is repeated that is about no single name.
	tellEvery = time.Minute
)

// backoffs follow the failures of a name. Authorities count failed attempts by name and hour.
var backoffs = []time.Duration{10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// failure is what the store remembers of a name that failed, or of a pause.
type failure struct {
	Attempts int    `json:"attempts,omitempty"`
	Until    int64  `json:"until"` // unix seconds
	Reason   reason `json:"reason"`
	Problem  string `json:"problem"`
}

// left is how long it still counts.
func (f *failure) left(now time.Time) time.Duration { return max(time.Unix(f.Until, 0).Sub(now), 0) }

// next is the failure that follows this one, nil if there was none, and how long to leave the name
// alone for it.
func (f *failure) next(why reason, problem string) (*failure, time.Duration) {
	n := &failure{Attempts: 1, Reason: why, Problem: problem}
	if f != nil {
		n.Attempts = f.Attempts + 1
	}
	return n, jittered(backoffs[min(n.Attempts, len(backoffs))-1])
}

// readFailure returns what is kept under a key; nil if there is nothing.
func (i *Issuer) readFailure(ctx context.Context, key string) (*failure, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	text, ok, err := i.o.Store.Get(ctx, key)
	if err != nil || !ok {
		return nil, err
	}
	f := new(failure)
	if json.Unmarshal([]byte(text), f) != nil {
		return nil, nil //nolint:nilnil // what nobody understands stops nobody
	}
	return f, nil
}

func (i *Issuer) writeFailure(ctx context.Context, key string, f *failure, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	text, err := json.Marshal(f)
	if err == nil {
		err = i.o.Store.Put(ctx, key, string(text), ttl)
	}
	if err != nil {
		i.tell("failure not kept", "certificate failure not kept in the store: other edges may try as well", "error", err)
	}
}

// mayTry tells why a name must not be ordered now, by what the fleet remembers, and because a store
// that did not take what came before would not take this.
func (i *Issuer) mayTry(ctx context.Context, f *flight) error {
	now := time.Now()
	if i.unwritten.count() >= maxUnwritten {
		f.wait = rememberLimited
		return errPaused
	}
	for _, stop := range []struct {
		key string
		err error
	}{
		{pauseKey, errPaused},
		{domainKey + registeredDomain(f.name), errPaused},
		{failedKey + f.name, errBackoff},
	} {
		was, err := i.readFailure(ctx, stop.key)
		if err != nil {
			return i.storeError(f, err)
		}
		if was != nil && was.left(now) > 0 {
			f.wait = was.left(now)
			return stop.err
		}
	}
	return nil
}

// tell logs a line that is about no single name, at most once in tellEvery.
func (i *Issuer) tell(about, text string, args ...any) {
	now := time.Now()
	if i.told.holds(about, now) {
		return
	}
	i.told.put(about, now.Add(tellEvery))
	i.log.Warn(text, args...)
}

// storeError counts and tells a failure of the store; what is none passes.
func (i *Issuer) storeError(f *flight, err error) error {
	if errors.Is(err, errElsewhere) || i.ctx.Err() != nil {
		return err
	}
	i.m.failed[reasonStore].Inc()
	i.tell(string(reasonStore), "certificate not issued: the store did not do its part", "host", f.name, "error", err,
		"advice", "the driver's master must be reachable and writable, and its user have the rights of docs/acme.md")
	f.wait = rememberRefused
	return fmt.Errorf("store: %w", err)
}

// fail remembers that a name failed, so that no edge tries again too soon, and says so once.
func (i *Issuer) fail(ctx context.Context, f *flight, kind string, err error) error {
	if i.ctx.Err() != nil || errors.Is(err, errLimited) {
		return err // The process ends, or it was never tried.
	}
	problem := problemOf(err)
	why, advice := diagnose(err, problem, kind)
	if why == reasonStore {
		return i.storeError(f, err)
	}
	i.m.failed[why].Inc()
	now := time.Now()
	was, _ := i.readFailure(context.WithoutCancel(ctx), failedKey+f.name)
	kept, wait := was.next(why, problemText(err, problem))
	key, ttl := failedKey+f.name, wait+keepFailure
	switch why {
	case reasonUnreachable:
		wait, key, ttl = unreachablePause, pauseKey, unreachablePause
	case reasonAccount:
		wait, key, ttl = accountPause, pauseKey, accountPause
	case reasonRateLimited:
		// The name's own failures are nothing to the rest of its domain.
		after := retryAfter(err)
		i.writeFailure(ctx, domainKey+registeredDomain(f.name),
			&failure{Until: now.Add(after).Unix(), Reason: why, Problem: kept.Problem}, after)
		wait = max(wait, after)
		ttl = wait + keepFailure
	}
	kept.Until = now.Add(wait).Unix()
	i.writeFailure(ctx, key, kept, ttl)
	f.wait = wait
	i.log.Warn("certificate not issued", "host", f.name, "reason", string(why), "challenge", kind,
		"problem", kept.Problem, "retry_in", wait.Round(time.Second).String(), "advice", advice)
	return err
}

// jittered adds up to a tenth.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1)) //nolint:gosec // no secret
}

// problemOf finds what the authority said (RFC 7807); nil if it said nothing.
func problemOf(err error) *protocol.Error {
	var problem *protocol.Error
	if errors.As(err, &problem) {
		return problem
	}
	var authorization *protocol.AuthorizationError
	if errors.As(err, &authorization) {
		for _, e := range authorization.Errors {
			if errors.As(e, &problem) {
				return problem
			}
		}
	}
	var order *protocol.OrderError
	if errors.As(err, &order) {
		return order.Problem
	}
	return nil
}

// problemType is the last part of a problem's URN (RFC 8555 §6.7).
func problemType(problem *protocol.Error) string {
	return problem.ProblemType[strings.LastIndexByte(problem.ProblemType, ':')+1:]
}

// problemText is what is logged and kept: the authority's own words, if it said something.
func problemText(err error, problem *protocol.Error) string {
	text := err.Error()
	if problem != nil {
		text = problemType(problem) + ": " + problem.Detail
		for _, s := range problem.Subproblems {
			text += "; " + s.Detail
		}
	}
	if len(text) > maxProblemBytes {
		text = strings.ToValidUTF8(text[:maxProblemBytes], "") + "..."
	}
	return text
}

// retryAfter returns how long the authority wants to be left alone.
func retryAfter(err error) time.Duration {
	problem := problemOf(err)
	if problem == nil {
		return minRateLimit
	}
	after, _ := protocol.RateLimit(problem)
	return min(max(after, minRateLimit), maxRateLimit)
}

// accountProblems are those that no other name would fare better with.
var accountProblems = map[string]string{
	"accountDoesNotExist":     "the account is unknown to the authority; a new one is made at the next attempt",
	"externalAccountRequired": "set acme.eabKeyId and acme.eabKey to what the authority gave you",
	"userActionRequired":      "the authority has new terms; follow the link in its words",
	"invalidContact":          "set acme.email to an address that the authority accepts",
	"unsupportedContact":      "set acme.email to an address that the authority accepts",
	"badPublicKey":            "remove the acme:account: key from the store, so that a new account is made",
}

const notIssued = "this authority issues no certificate for the name; put one into tls:<name>, " +
	"or remove its frontend"

// nameAdvice is what to do about problems of a name, by the type that the authority gives.
var nameAdvice = map[string]string{
	"dns":                   "see that the name's A and AAAA records lead to these edges, and that its DNS servers answer",
	"caa":                   "the name's CAA record forbids this authority: change it, or set another acme.directory",
	"tls":                   "port 443 of the name's addresses must lead to these edges' https port, TLS passed through",
	"rejectedIdentifier":    notIssued,
	"unsupportedIdentifier": notIssued,
}

// diagnose tells why an attempt failed and what to do.
func diagnose(err error, problem *protocol.Error, kind string) (why reason, advice string) {
	if why := reason(""); errors.As(err, &why) {
		return why, "the authority sent something that is no certificate for the name; see acme.directory and acme.profile"
	}
	if problem == nil {
		var unsent *url.Error
		switch {
		case errors.Is(err, context.Canceled):
			return reasonStore, "" // The lock was lost.
		case errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &unsent):
			return reasonChallenge, "the authority did not come to an end with the challenge; see its status page"
		case errors.As(err, &unsent):
			return reasonUnreachable,
				"see that these edges reach acme.directory, and that acme.ca holds its root if it is a private one"
		}
		return reasonRefused, "see what acme.directory offers beside acme.challenges and acme.profile"
	}
	name := problemType(problem)
	if advice, ok := accountProblems[name]; ok {
		return reasonAccount, advice
	}
	if strings.EqualFold(name, "rateLimited") {
		return reasonRateLimited, "wait; acme.maxOrdersPerDomain and acme.maxOrdersPerHour keep below the authority's limits"
	}
	if problem.StatusCode >= 500 || name == "serverInternal" {
		return reasonUnreachable, "the authority is out of order; it is tried again"
	}
	why = reasonRefused
	var authorization *protocol.AuthorizationError
	if errors.As(err, &authorization) {
		why = reasonChallenge
	}
	if advice, ok := nameAdvice[name]; ok {
		return why, advice
	}
	if why == reasonChallenge {
		port := "443, with TLS passed through"
		if kind == HTTP01 {
			port = "80"
		}
		return why, "the name's addresses must all lead to these edges, from outside by port " + port
	}
	return why, "see the authority's words"
}

// Error makes a reason an error that diagnose finds.
func (r reason) Error() string { return string(r) }
