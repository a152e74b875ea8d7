package capacity

import "math"

// Repair is the anti-entropy that always runs, as one node sends it. It asks,
// and it answers as often. A differing partition costs its clock.
type Repair struct {
	// Messages a second, requests and replies, within the region and to all
	// others.
	Messages    float64 `json:"messages_per_second"`
	FarMessages float64 `json:"far_messages_per_second"`
	// Bytes a second when all is equal, and under the given load, with what
	// carries them.
	IdleBytes      float64 `json:"idle_bytes_per_second"`
	LoadedBytes    float64 `json:"loaded_bytes_per_second"`
	FarIdleBytes   float64 `json:"far_idle_bytes_per_second"`
	FarLoadedBytes float64 `json:"far_loaded_bytes_per_second"`
}

// compared is what a second of comparing costs the wire: so many requests that
// have so many sums together, and their replies, in which a part differs.
func compared(requests, sums, differ, clock float64, partitions int) float64 {
	if requests == 0 {
		return 0
	}
	body := requests * compareBytes(sums/requests, partitions)
	heads := requests * (requestHead + replyHead + 2*frameFixed)
	reply := requests + sums*differ*(partitionVarint(partitions)+sumFixed+clock+differFixed)
	return body + heads + reply
}

// chance that something with the given rate happens within seconds.
func chance(rate, seconds float64) float64 { return 1 - math.Exp(-rate*seconds) }

// lag is how long a write takes to another region.
func (in Input) lag() float64 { return in.RTT/2 + in.linger() + regionSpread }

func (in Input) repair(r Ring, c Clocks) Repair {
	var out Repair
	asked := float64(r.Peers) / repairBeat
	sums := float64(r.OwnedMax*(in.copies()-1)) / repairBeat
	out.Messages = 2 * asked
	out.IdleBytes = compared(asked, sums, 0, 0, in.Partitions)
	out.LoadedBytes = compared(asked, sums, chance(in.arriving(), ownerSpread), c.WireBytes, in.Partitions)

	// A partition's first owner compares it with one owner in each region.
	far := float64(in.others()) / repairRegionBeat
	asked = far * in.farPeers(r)
	sums = far * float64(r.PrimaryMax)
	out.FarMessages = 2 * asked
	out.FarIdleBytes = compared(asked, sums, 0, 0, in.Partitions)
	out.FarLoadedBytes = compared(asked, sums, chance(in.arriving(), in.lag()), c.WireBytes, in.Partitions)
	return out
}

// farPeers is how many nodes of another region a node compares itself with in
// a round, at most: about as many as partitions thrown at nodes meet. Where
// tables are alike there are fewer.
func (in Input) farPeers(r Ring) float64 {
	n := float64(in.Nodes)
	return n * (1 - math.Pow(1-1/n, float64(r.PrimaryMax)))
}

// Liveness is what a node sends to know that others live.
type Liveness struct {
	// Pings a second, at most: traffic is as good as a ping to an idle peer,
	// but all of the region are asked for their time. The nodes of other regions
	// are watched, too.
	Pings float64 `json:"pings_per_second"`
}

func (in Input) liveness() Liveness {
	near, far := float64(in.Nodes-1), float64(in.Nodes*(in.Regions-1))
	return Liveness{Pings: near*(1/pingBeat+1/skewBeat) + far/pingBeat}
}
