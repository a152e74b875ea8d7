package geo

import "slices"

// flight is what one Peek gave: parcels under way, and the marks that are
// reached when the log has confirmed all of them.
type flight struct {
	marks []Mark
	left  int
}

// parcel is one message of a flight.
type parcel struct {
	flight *flight
	// rewinds of the run when it was cut.
	rewinds uint64
	batch   Batch
	raw     int // bytes of keys and records
	tries   int
}

// flights keeps the order of the Peeks, so that marks are confirmed in it
// however the confirmations of their parcels arrive.
type flights struct {
	order []*flight
}

func (f *flights) add(x *flight) { f.order = append(f.order, x) }

// settle takes one parcel of x as done and returns the marks that may now be
// confirmed, in order.
func (f *flights) settle(x *flight) (reached [][]Mark) {
	x.left--
	return f.reached()
}

// reached returns the marks of the finished flights before the first
// unfinished one, and forgets those.
func (f *flights) reached() (reached [][]Mark) {
	n := 0
	for n < len(f.order) && f.order[n].left == 0 {
		reached = append(reached, f.order[n].marks)
		n++
	}
	f.order = slices.Delete(f.order, 0, n)
	return reached
}

// cut divides entries into messages: an entry above flushBytes travels alone,
// so that small ones never wait behind its transfer; the others share messages
// of at most capBytes with what goes to the same regions.
func cut(entries []Entry) [][]Entry {
	var messages [][]Entry
	type group struct {
		entries []Entry
		size    int
	}
	// Claims share messages with claims only.
	type lot struct {
		to     string
		claims bool
	}
	open := map[lot]*group{}
	var order []lot // in which groups were opened
	for _, e := range entries {
		n := entrySize(e)
		if n > flushBytes {
			messages = append(messages, []Entry{e})
			continue
		}
		at, most := lot{e.To, e.Size > 0}, maxEntries
		if at.claims {
			most = claimsPerMessage
		}
		g := open[at]
		if g == nil {
			g = &group{}
			open[at] = g
			order = append(order, at)
		}
		if len(g.entries) > 0 && (g.size+n > capBytes || len(g.entries) == most) {
			messages = append(messages, g.entries)
			*g = group{}
		}
		g.entries = append(g.entries, e)
		g.size += n
	}
	for _, at := range order {
		if g := open[at]; len(g.entries) > 0 {
			messages = append(messages, g.entries)
		}
	}
	return messages
}
