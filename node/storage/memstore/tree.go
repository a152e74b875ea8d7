package memstore

import (
	"bytes"
	"hash/maphash"
	"time"
)

// tree is an immutable ordered map: a treap whose priorities are hashes of the
// keys, so that its shape depends on its content alone. Every change copies
// the path from the root and shares the rest; a root is therefore a snapshot
// for nothing, which is what snapshots, crashes and stale disks are made of
// here. The nil tree is empty.
type tree struct {
	key, value  []byte
	corrupt     bool
	end         int64 // when it is gone, in Unix nanoseconds; 0 for never
	prio        uint64
	left, right *tree
	bytes       int64 // keys and values below and including this node
	len         int
}

// prioSeed makes priorities the same within one process. Shapes differ from
// one process to the next, contents and order never do.
var prioSeed = maphash.MakeSeed()

func newLeaf(key, value []byte) *tree {
	return (&tree{key: key, value: value, prio: maphash.Bytes(prioSeed, key)}).with(nil, nil)
}

// with returns a copy of t that has the given children.
func (t *tree) with(left, right *tree) *tree {
	c := *t
	c.left, c.right = left, right
	c.len = 1 + left.count() + right.count()
	c.bytes = int64(len(c.key)+len(c.value)) + left.size() + right.size()
	return &c
}

// over reports whether t was put with an end that has come. It still takes its
// room.
func (t *tree) over() bool { return t.end != 0 && t.end <= time.Now().UnixNano() }

func (t *tree) count() int {
	if t == nil {
		return 0
	}
	return t.len
}

func (t *tree) size() int64 {
	if t == nil {
		return 0
	}
	return t.bytes
}

func (t *tree) get(key []byte) *tree {
	for t != nil {
		switch c := bytes.Compare(key, t.key); {
		case c == 0:
			return t
		case c < 0:
			t = t.left
		default:
			t = t.right
		}
	}
	return nil
}

// put returns t with the node n in the place of its key.
func (t *tree) put(n *tree) *tree {
	if t == nil {
		return n.with(nil, nil)
	}
	if bytes.Equal(n.key, t.key) {
		return n.with(t.left, t.right)
	}
	if n.prio > t.prio {
		l, r := t.split(n.key)
		return n.with(l, r)
	}
	if bytes.Compare(n.key, t.key) < 0 {
		return t.with(t.left.put(n), t.right)
	}
	return t.with(t.left, t.right.put(n))
}

// split returns the keys below key and those above it; key itself goes.
func (t *tree) split(key []byte) (below, above *tree) {
	if t == nil {
		return nil, nil
	}
	switch c := bytes.Compare(key, t.key); {
	case c == 0:
		return t.left, t.right
	case c < 0:
		l, r := t.left.split(key)
		return l, t.with(r, t.right)
	default:
		l, r := t.right.split(key)
		return t.with(t.left, l), r
	}
}

func (t *tree) delete(key []byte) *tree {
	if t == nil {
		return nil
	}
	switch c := bytes.Compare(key, t.key); {
	case c == 0:
		return merge(t.left, t.right)
	case c < 0:
		l := t.left.delete(key)
		if l == t.left {
			return t
		}
		return t.with(l, t.right)
	default:
		r := t.right.delete(key)
		if r == t.right {
			return t
		}
		return t.with(t.left, r)
	}
}

// merge joins two trees of which the first has the smaller keys.
func merge(a, b *tree) *tree {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.prio > b.prio:
		return a.with(a.left, merge(a.right, b))
	default:
		return b.with(merge(a, b.left), b.right)
	}
}

// walk calls yield for lo <= key < hi in order until it returns false.
func (t *tree) walk(lo, hi []byte, yield func(*tree) bool) bool {
	if t == nil {
		return true
	}
	aboveLo := bytes.Compare(t.key, lo) >= 0
	belowHi := hi == nil || bytes.Compare(t.key, hi) < 0
	if aboveLo && !t.left.walk(lo, hi, yield) {
		return false
	}
	if aboveLo && belowHi && !yield(t) {
		return false
	}
	return !belowHi || t.right.walk(lo, hi, yield)
}
