package cache

// recent remembers keys for at least span and at most twice as long, and at most 2*limit of them:
// two generations, of which the older one is dropped as a whole. It is not safe for concurrent use.
type recent[V any] struct {
	span    int64
	limit   int
	turned  int64
	current map[string]V
	before  map[string]V
}

func newRecent[V any](span int64, limit int) *recent[V] {
	return &recent[V]{span: span, limit: limit, current: map[string]V{}, before: map[string]V{}}
}

// turn starts a new generation when the current one is old or full.
func (r *recent[V]) turn(now int64) {
	age := now - r.turned
	if age < r.span && len(r.current) < r.limit {
		return
	}
	r.before = r.current
	if age >= 2*r.span {
		r.before = map[string]V{}
	}
	r.current = map[string]V{}
	r.turned = now
}

func (r *recent[V]) put(key string, v V, now int64) {
	r.turn(now)
	r.current[key] = v
}

func (r *recent[V]) get(key string, now int64) (V, bool) {
	r.turn(now)
	if v, ok := r.current[key]; ok {
		return v, true
	}
	v, ok := r.before[key]
	return v, ok
}

// forget drops a key.
func (r *recent[V]) forget(key string) {
	delete(r.current, key)
	delete(r.before, key)
}
