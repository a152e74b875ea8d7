package coord

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// key is a validated (bucket, key), and who has to do with it by the topology
// that the operation goes by.
type key struct {
	full   []byte
	hash   uint64
	bucket Bucket

	// session is what the operation's session knows, nil without one.
	session *knowing
	// fresh asks how old the answer is; see freshness.go.
	fresh bool

	top  *topology.Topology
	part hashring.Partition
	row  topology.Row
}

func (c *Coordinator) key(bucket string, k []byte, system bool) (key, *Error) {
	if bucket == "" {
		bucket = DefaultBucket
	}
	if e := c.goneHere(c.Topology()); e != nil && !system {
		return key{}, e
	}
	b, ok := c.bucket(bucket, system)
	if !ok {
		return key{}, &Error{Code: CodeNoBucket, Detail: "no such bucket", Field: "bucket", Limit: "a bucket that exists", Seen: clip(bucket)}
	}
	if here := c.Topology().Region; len(b.Regions) > 0 && !slices.Contains(b.Regions, here) {
		return key{}, elsewhere(bucket, here, b.Regions)
	}
	if len(k) == 0 || len(k) > MaxKey {
		return key{}, invalidSize("key", MaxKey, len(k))
	}
	full := FullKey(bucket, k)
	out := key{full: full, hash: hashring.KeyHash(full), bucket: b}
	out.resolve(c.Topology())
	return out, nil
}

// elsewhere says which regions have a bucket that this one does not have.
func elsewhere(bucket string, here topology.Region, regions []topology.Region) *Error {
	list := make([]string, len(regions))
	for i, r := range regions {
		list[i] = string(r)
	}
	return &Error{
		Code: CodeNoBucket, Field: "bucket", Limit: "a bucket that is in region " + string(here), Seen: clip(bucket),
		Detail: "the bucket is not in region " + string(here) + ", but in " + strings.Join(list, ", ") + ": ask a node there",
	}
}

// resolve finds who has to do with the key by t.
func (k *key) resolve(t *topology.Topology) {
	k.top = t
	k.part = hashring.PartitionOf(k.hash, t.Table.Partitions())
	k.row = t.Row(k.part)
}

// server of slot i.
func (k *key) server(i int) topology.NodeID { return k.row.Slots[i].Serves() }

// place of a node among the servers, -1 for none.
func (k *key) place(id topology.NodeID) int {
	for i := range k.row.Slots {
		if k.server(i) == id {
			return i
		}
	}
	return -1
}

// want is how many slots an operation asks for: a level, or an explicit count
// of the field of that name.
type want struct {
	level quorum.Level
	count int
	field string
	// regions overrides in how many regions, the own one among them; 0 is by level.
	regions int
	// home is the epoch of the bucket's home in which an operation at the level
	// serial is decided, 0 for any other.
	home home.Epoch
}

// everybody reports whether all who take writes are wanted, also those who do
// not count otherwise.
func (w want) everybody() bool {
	return w.count == 0 && (w.level == quorum.LocalAll || w.level == quorum.All)
}

// need returns how many slots of the key's row w takes.
func (k *key) need(w want) (int, *Error) {
	slots := len(k.row.Slots)
	if !w.level.Valid() {
		return 0, invalid("level", fmt.Sprintf("0..%d", quorum.Serial), strconv.Itoa(int(w.level)), "unknown consistency level")
	}
	if w.count != 0 {
		if w.count < 0 || w.count > slots {
			return 0, invalid(w.field, fmt.Sprintf("1..%d", slots), strconv.Itoa(w.count), w.field+" is not possible with this many owners")
		}
		return w.count, nil
	}
	n, err := w.level.Need(slots)
	if planted.Bug(planted.ShortQuorum) && n > 1 {
		n--
	}
	if err != nil {
		return 0, invalid("level", fmt.Sprintf("at most %d owners", slots), w.level.String(), err.Error())
	}
	return n, nil
}

// current refuses what fewer than a quorum of the owners would answer while
// this node may go by an old topology: another node may own the key by now, and
// no quorum would tell.
func (c *Coordinator) current(k *key, w want, n int) *Error {
	if n > len(k.row.Slots)/2 || c.Isolated == nil || !c.Isolated() {
		return nil
	}
	return &Error{
		Code: CodeUnavailable, Needed: n, RetryAfterMs: 1000,
		Detail: fmt.Sprintf("%s: this node has not heard from the region for too long to serve less than a quorum", w),
	}
}

// unavailable says that too few owners took part.
func (c *Coordinator) unavailable(k *key, w want, need, got int, outcome Outcome) *Error {
	var down []string
	for _, id := range k.top.Takers(k.part) {
		if !c.alive(id) {
			down = append(down, string(id))
		}
	}
	detail := fmt.Sprintf("%s needs %d of %d owners, %d answered", w, need, max(need, len(k.row.Slots)), got)
	if len(down) > 0 {
		detail += " (down: " + strings.Join(down, ", ") + ")"
	}
	return &Error{Code: CodeUnavailable, Outcome: outcome, Detail: detail, Needed: need, Acks: got, RetryAfterMs: 100}
}

// FullKey joins bucket and key.
func FullKey(bucket string, k []byte) []byte {
	full := make([]byte, 0, len(bucket)+1+len(k))
	full = append(full, bucket...)
	full = append(full, 0)
	return append(full, k...)
}

// SplitKey undoes FullKey.
func SplitKey(full []byte) (bucket string, k []byte) {
	for i, b := range full {
		if b == 0 {
			return string(full[:i]), full[i+1:]
		}
	}
	return "", full
}

func clip(s string) string {
	if len(s) > MaxBucket {
		return strconv.Quote(s[:MaxBucket]) + "..."
	}
	return strconv.Quote(s)
}

// handOut is what a client gets of a context: none if it would not be taken back.
func (c *Coordinator) handOut(k *key, ctx crdt.Context) (token []byte, omitted bool) {
	if token = c.token(k, ctx); len(token) > crdt.MaxContext {
		c.stats.ContextsOmitted.Add(1)
		return nil, true
	}
	return token, false
}

func (c *Coordinator) token(k *key, ctx crdt.Context) []byte {
	return crdt.AppendContext(make([]byte, 0, 64), c.Keys(), k.full, ctx)
}

func (c *Coordinator) context(k *key, token []byte) (crdt.Context, *Error) {
	ctx, err := crdt.DecodeContext(c.Keys(), k.full, token)
	if err != nil {
		return ctx, &Error{Code: CodeBadContext, Detail: err.Error(), Field: "context",
			Limit: "a context that was returned for this key", Seen: strconv.Itoa(len(token)) + " bytes"}
	}
	return ctx, nil
}
