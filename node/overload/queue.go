package overload

// queue is a ring of requests that wait, the oldest first.
type queue struct {
	ring       []*Request // a power of two long
	head, size int
	deficit    int
	quantum    int
	busySince  int64 // not empty since
}

func (q *queue) len() int { return q.size }

func (q *queue) at(i int) *Request { return q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *queue) push(r *Request) {
	if q.size == len(q.ring) {
		bigger := make([]*Request, max(2*len(q.ring), 8))
		for i := range q.size {
			bigger[i] = q.at(i)
		}
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.size)&(len(q.ring)-1)] = r
	q.size++
}

func (q *queue) overloaded(now int64) bool { return now-q.busySince > overAfter }

func (q *queue) patience(now int64) int64 {
	if q.overloaded(now) {
		return patienceOver
	}
	return Patience
}

func (q *queue) oldest() *Request { return q.at(0) }

func (q *queue) popOldest() *Request {
	r := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.shrunk()
	return r
}

// peek is the one whose turn it is: the oldest, or the newest under overload.
func (q *queue) peek(now int64) *Request {
	if q.overloaded(now) {
		return q.at(q.size - 1)
	}
	return q.oldest()
}

// take removes what peek has shown.
func (q *queue) take(now int64) {
	if !q.overloaded(now) {
		q.popOldest()
		return
	}
	q.ring[(q.head+q.size-1)&(len(q.ring)-1)] = nil
	q.shrunk()
}

// shrunk gives the memory of a burst back when it is over.
func (q *queue) shrunk() {
	q.size--
	if q.size == 0 && len(q.ring) > 64 {
		q.ring, q.head = nil, 0
	}
}

// pressure is how many times what a class admits it is asked for, by seconds.
type pressure struct {
	began    int64
	asked    uint64
	admitted uint64
	ratio    float64 // of the last whole second
	known    bool
}

func (p *pressure) offered(now int64) {
	if age := now - p.began; age >= second || !p.known {
		p.ratio = 1
		if p.known && age < 2*second {
			p.ratio = max(float64(p.asked)/float64(max(p.admitted, 1)), 1)
		}
		p.began, p.asked, p.admitted, p.known = now, 0, 0, true
	}
	p.asked++
}

// RetryAfter is when a refused client should come back, in milliseconds: 50,
// times how many times too much there is, 1000 at most.
func (g *Gate) RetryAfter(c Class) int {
	return int(min(50*g.classes[c].pressure.ratio, 1000))
}

// Stats of a class. Refusals and Admitted count since the start, by verdict.
type Stats struct {
	// Limit, InFlight in units; Running and Waiting in requests.
	Limit, InFlight, Running, Waiting int
	// Target of the median latency and the latency without a queue, in ns.
	Target, Base int64
	Verdicts     [Verdicts]uint64
}

// Stats of a class now.
func (g *Gate) Stats(c Class) Stats {
	s := &g.classes[c]
	return Stats{
		Limit: s.limit.Now(), InFlight: s.inFlight, Running: s.running, Waiting: s.waiting,
		Target: s.limit.Target(), Base: s.limit.base, Verdicts: s.verdicts,
	}
}

// Bytes held by all that runs and waits.
func (g *Gate) Bytes() int { return g.bytes }
