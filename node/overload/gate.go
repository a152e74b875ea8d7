// Package overload decides which requests of clients run, which wait and which
// are refused, so that a node that is asked for several times what it can do
// still does what it can. It is pure: a driver (node/api) tells it what comes
// and what ends, and when.
//
// Reads, writes and what waits for other regions are limited apart, since they
// wait for different things. Each has a Limit on what is in flight, in units: one for each request and one
// for each 64 KiB of it. What does not fit waits in one of a fixed number of
// queues (stochastic fair queueing, McKenney 1990): by connection, large ones
// apart from small ones. The queues take turns by units (deficit round robin,
// Shreedhar and Varghese 1995). A queue that has not been empty for 100 ms is
// overloaded: its requests wait 20 ms at most instead of 100, and the newest is
// served first, whose client is the most likely to still be there (controlled
// delay and adaptive LIFO: Maurer, "Fail at scale", ACM Queue 2015; Nichols and
// Jacobson, "Controlling queue delay", 2012).
//
// A key that has an eighth of a limit in flight is hot: more of it waits in
// queues of its own, which get an eighth of a turn. Reads are treated so only
// when half of the limit is in use.
//
// Invariants:
//
//	O1  What is offered ends once: it is admitted, or refused, at once or when
//	    it has waited for Patience at most (and the driver's next step).
//	O2  Units in flight exceed the limit by what one request has, at most.
//	O3  What is held, in flight or waiting, is within Config.Bytes, and large
//	    requests hold three quarters of it at most, so that small ones have
//	    room.
//	O4  A request whose deadline has passed is not admitted; nor is one that has
//	    waited, or would have to, and has less time left than what runs takes: it
//	    would be work for nobody, and for a write the outcome would not be known.
//	O5  A connection's queue is served at least every queues-th turn.
package overload

// Class of a request.
type Class uint8

// The classes.
const (
	Read Class = iota
	Write
	Far // what waits for other regions, so that their silence holds up nothing else
	Classes
)

func (c Class) String() string { return [...]string{"read", "write", "far"}[c] }

// Verdict on a request.
type Verdict uint8

// The verdicts.
const (
	// Admitted: it runs, and Done must follow.
	Admitted Verdict = iota
	// Waiting: Next or Sweep will tell.
	Waiting
	// Refused by what follows.
	RefusedFull    // the queue is full
	RefusedBytes   // too much is held
	RefusedAge     // it has waited too long
	RefusedExpired // its deadline has passed, or would before it ends
	Verdicts
)

func (v Verdict) String() string {
	return [...]string{"admitted", "waiting", "queue_full", "bytes", "waited", "deadline"}[v]
}

// Config bounds a Gate. Zero fields take the defaults named.
type Config struct {
	// Start, Min and Max of the limit of a class, in units: 512, 16, 16384.
	Start, Min, Max int
	// Bytes held by all that runs and waits: 256 MiB.
	Bytes int
	// Queue is how many requests of a class may wait: 8192, of them an eighth
	// in one queue.
	Queue int
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Start, 512)
	def(&c.Min, 16)
	def(&c.Max, 16384)
	def(&c.Bytes, 256<<20)
	def(&c.Queue, 8192)
	c.Start = max(min(c.Start, c.Max), c.Min)
	return c
}

// Patience is how long a request waits at most, and in an overloaded queue.
const (
	Patience     = 100 * millisecond
	patienceOver = 20 * millisecond
	// overAfter is how long a queue must not have been empty to be overloaded.
	overAfter = 100 * millisecond
	// SweepEvery is how often all queues are looked at for what is too old.
	SweepEvery = 5 * millisecond
)

const (
	// Large is the size in bytes above which a request is a large one, and
	// what a unit stands for.
	Large = 64 << 10

	connections = 32 // queues of small and of large requests each
	hotQueues   = 8
	queues      = 2*connections + hotQueues
	quantum     = 16 // units of a turn
	hotQuantum  = quantum / 8
	keyBins     = 4096
	hotLeast    = 32 // units in flight that do not make a key hot
)

// Request is one request of a client. The driver fills in the first group of
// fields, and keeps it unchanged until it has ended.
type Request struct {
	Class Class
	// Conn and Key are hashes of the connection and of the key.
	Conn, Key uint64
	// Bytes it holds while it runs or waits, estimated: request and reply.
	Bytes int
	// Deadline after which nobody waits for it.
	Deadline int64
	// Owner is the driver's.
	Owner any

	arrived, admitted int64
	units             int
	hot               bool
}

// Waited is how long an admitted request was kept waiting.
func (r *Request) Waited() int64 { return r.admitted - r.arrived }

// Gate is the state of a node. It is not safe for concurrent use.
type Gate struct {
	cfg     Config
	classes [Classes]class
	bytes   int // held
	large   int // of them, by large requests
}

// class is what is known of reads, or of writes.
type class struct {
	limit    Limit
	inFlight int // units
	running  int // requests
	waiting  int
	hot      int            // of those that wait, of hot keys
	bins     [keyBins]int32 // units in flight by key
	queues   [queues]queue
	active   []uint8 // the queues that are not empty, in turn
	pressure pressure
	verdicts [Verdicts]uint64
}

// New returns a gate through which nothing has gone.
func New(cfg Config) *Gate {
	g := &Gate{cfg: cfg.withDefaults()}
	for i := range g.classes {
		c := &g.classes[i]
		c.limit = newLimit(g.cfg)
		for q := range c.queues {
			c.queues[q].quantum = quantum
			if q >= 2*connections {
				c.queues[q].quantum = hotQuantum
			}
		}
	}
	return g
}

// Offer decides on a new request: it is admitted, or waits, or is refused.
func (g *Gate) Offer(now int64, r *Request) Verdict {
	c := &g.classes[r.Class]
	c.pressure.offered(now)
	r.arrived = now
	r.units = 1 + r.Bytes/Large
	v := g.offer(now, c, r)
	if v != Waiting {
		c.verdicts[v]++
	}
	return v
}

func (g *Gate) offer(now int64, c *class, r *Request) Verdict {
	if r.Deadline <= now {
		return RefusedExpired
	}
	if g.bytes > 0 && (g.bytes+r.Bytes > g.cfg.Bytes || r.Bytes > Large && g.large+r.Bytes > g.cfg.Bytes/4*3) {
		return RefusedBytes
	}
	r.hot = c.tooHot(r)
	if !r.hot && c.waiting == c.hot && c.inFlight < c.limit.Now() {
		g.hold(r, 1)
		c.admit(now, r)
		return Admitted
	}
	if c.late(now, r) {
		return RefusedExpired
	}
	i := r.queue()
	q := &c.queues[i]
	if c.waiting >= g.cfg.Queue || q.len() >= max(g.cfg.Queue/8, 1) {
		return RefusedFull
	}
	g.hold(r, 1)
	if q.len() == 0 {
		q.busySince = now
		c.active = append(c.active, uint8(i))
	}
	q.push(r)
	c.wait(r, 1)
	if !r.hot {
		c.limit.started(c.limit.Now()) // all of it is used
	}
	return Waiting
}

func (g *Gate) hold(r *Request, sign int) {
	g.bytes += sign * r.Bytes
	if r.Bytes > Large {
		g.large += sign * r.Bytes
	}
}

// queue is where r waits.
func (r *Request) queue() int {
	switch {
	case r.hot:
		return 2*connections + int(r.Key%hotQueues)
	case r.Bytes > Large:
		return connections + int(r.Conn%connections)
	default:
		return int(r.Conn % connections)
	}
}

// tooHot says that r's key has its part in flight. Reads of one key are cheap
// together, because the coordinator joins them: they are held back only when
// others need the room.
func (c *class) tooHot(r *Request) bool {
	if r.Class == Read && c.inFlight < c.limit.Now()/2 {
		return false
	}
	return int(c.bins[r.Key%keyBins]) >= max(c.limit.Now()/8, hotLeast)
}

// late says that r, which waits, would not end in time. What need not wait is not
// asked: so there are always some that tell how long it takes.
func (c *class) late(now int64, r *Request) bool { return r.Deadline <= now+c.limit.Takes() }

func (c *class) wait(r *Request, sign int) {
	c.waiting += sign
	if r.hot {
		c.hot += sign
	}
}

func (c *class) admit(now int64, r *Request) {
	r.admitted = now
	c.inFlight += r.units
	c.running++
	c.bins[r.Key%keyBins] += int32(r.units)
	c.limit.started(c.inFlight)
	c.pressure.admitted++
}

// Done ends an admitted request. Next should be asked afterwards.
func (g *Gate) Done(now int64, r *Request) {
	g.end(r).limit.ended(now, r.admitted, false)
}

// Failed is Done for a request that could not be carried out. That it ended soon does
// not say that more of them could run: where those who are to answer are taken for
// dead, all end at once.
func (g *Gate) Failed(now int64, r *Request) {
	if c := g.end(r); now-r.admitted > targetMin {
		c.limit.ended(now, r.admitted, true)
	}
}

// end takes r out of what runs.
func (g *Gate) end(r *Request) *class {
	c := &g.classes[r.Class]
	c.inFlight -= r.units
	c.running--
	c.bins[r.Key%keyBins] -= int32(r.units)
	g.hold(r, -1)
	return c
}

// Next returns a request that has waited, and what becomes of it: admitted, or
// refused because too little time is left. nil when there is no more to do now;
// then ask again at the next Done and Sweep.
func (g *Gate) Next(now int64) (*Request, Verdict) {
	for i := range g.classes {
		c := &g.classes[i]
		for c.waiting > 0 && c.inFlight < c.limit.Now() {
			r := c.pop(now)
			if r == nil {
				break
			}
			if c.late(now, r) {
				c.verdicts[RefusedExpired]++
				g.hold(r, -1)
				return r, RefusedExpired
			}
			c.verdicts[Admitted]++
			c.admit(now, r)
			return r, Admitted
		}
	}
	return nil, Waiting
}

// Waiting says that something waits, so that Sweep has to be called every
// SweepEvery.
func (g *Gate) Waiting() bool {
	for i := range g.classes {
		if g.classes[i].waiting > 0 {
			return true
		}
	}
	return false
}

// Shed is a request that has waited too long, and what is said of it.
type Shed struct {
	*Request
	Verdict Verdict
}

// Sweep refuses what has waited too long.
func (g *Gate) Sweep(now int64) (shed []Shed) {
	for i := range g.classes {
		c := &g.classes[i]
		for a := 0; a < len(c.active); {
			q := &c.queues[c.active[a]]
			most := q.patience(now)
			for q.len() > 0 && now-q.oldest().arrived > most {
				r := q.popOldest()
				c.wait(r, -1)
				v := RefusedAge
				if r.Deadline <= now {
					v = RefusedExpired
				}
				c.verdicts[v]++
				g.hold(r, -1)
				shed = append(shed, Shed{r, v})
			}
			if q.len() == 0 {
				c.leave(a)
				continue
			}
			a++
		}
	}
	return shed
}

// leave takes an empty queue out of the turns.
func (c *class) leave(a int) {
	c.queues[c.active[a]].deficit = 0
	c.active = append(c.active[:a], c.active[a+1:]...)
}

// pop takes the next request by turns; nil when all that waits is of hot keys
// that have enough in flight.
func (c *class) pop(now int64) *Request {
	for skipped := 0; skipped < len(c.active); {
		q := &c.queues[c.active[0]]
		r := q.peek(now)
		switch {
		case r.hot && c.tooHot(r):
			skipped++
			c.rotate()
		case q.deficit < r.units:
			q.deficit += q.quantum
			c.rotate()
			skipped = 0
		default:
			q.deficit -= r.units
			q.take(now)
			c.wait(r, -1)
			if q.len() == 0 {
				c.leave(0)
			}
			return r
		}
	}
	return nil
}

func (c *class) rotate() {
	first := c.active[0]
	copy(c.active, c.active[1:])
	c.active[len(c.active)-1] = first
}
