package admin

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/overload"
	"github.com/atolldb/atoll/node/topology"
)

const (
	asCounter = prometheus.CounterValue
	asGauge   = prometheus.GaugeValue
)

var (
	byLink   = []string{"peer", "side"}
	byWay    = []string{"peer", "side", "direction"}
	byOrigin = []string{"origin"}

	byDestination = []string{"destination"}
	byOther       = []string{"with"}

	byPeer  = []string{"peer"}
	byKind  = []string{"peer", "kind"}
	byClass = []string{"class"}
	byStage = []string{"stage"}
	byState = []string{"state"}
)

// families are all metrics made of figures. Dashboards, alerts and documents
// use these names.
var families = []family{
	labelled(asGauge, "actor_info", "Always 1; the label says which actor this node mints with.", []string{"actor"},
		func(f *Figures, put func(float64, ...string)) {
			if f.Actor != 0 {
				put(1, f.Actor.String())
			}
		}),
	labelled(asGauge, "secret_info", "Always 1; one for each secret in force, by its mark: the one that signs, and those that are accepted beside it.", []string{"mark", "signs"},
		func(f *Figures, put func(float64, ...string)) {
			for i, mark := range f.Secrets {
				put(1, mark, strconv.FormatBool(i == 0))
			}
		}),
	gauge("buckets", "Buckets that this node knows.",
		func(f *Figures) float64 { return number(f.Buckets) }),
	labelled(asGauge, "buckets_age_seconds", "Time since this node last read from the store which buckets there are.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if !f.BucketsRead.IsZero() {
				put(time.Since(f.BucketsRead).Seconds())
			}
		}),
	gauge("partitions_owned", "Partitions that this node stores.",
		func(f *Figures) float64 { return number(f.PartitionsOwned) }),
	gauge("partitions_primary", "Partitions of which this node is the first owner.",
		func(f *Figures) float64 { return number(f.PartitionsPrimary) }),
	gauge("partitions_behind", "Partitions that this node lacks something of, so that it answers no reads of them.",
		func(f *Figures) float64 { return number(f.PartitionsBehind) }),
	gauge("partitions_leftover", "Partitions that were given away and are still on this node's disk.",
		func(f *Figures) float64 { return number(f.Leftovers) }),
	gauge("clock_gaps", "Dots that this node's clocks lack below their highest: writes on their way, or lost and to be repaired.",
		func(f *Figures) float64 { return number(f.OpenGaps) }),
	gauge("clock_ahead_seconds", "How far this node's clock is ahead of those of the region's other nodes, their median; negative when it is behind.",
		func(f *Figures) float64 { return f.ClockAhead.Seconds() }),
	gauge("clock_off", "1 while this node's clock is so far from the others' that it takes no writes of clients.",
		func(f *Figures) float64 { return truth(f.ClockOff) }),
	gauge("peers_down", "Nodes of the region that this node takes to be down.",
		func(f *Figures) float64 { return number(len(f.PeersDown)) }),
	labelled(asGauge, "peer_state", "0 when the node is up, 1 when in doubt, 2 when taken to be down.", byPeer,
		eachPeer(func(s liveness.PeerStats) float64 { return number(int(s.State)) })),
	labelled(asCounter, "peer_falls_total", "Times the node was taken to be down.", byPeer,
		eachPeer(func(s liveness.PeerStats) float64 { return number(s.Falls) })),
	labelled(asCounter, "peer_pings_total", "Pings sent to the node, which are spared while there is traffic.", byPeer,
		eachPeer(func(s liveness.PeerStats) float64 { return number(s.Pings) })),
	labelled(asGauge, "peer_latency_seconds", "Moving average of what the node takes for one read, and for one write with its sync.", byKind,
		eachKind(func(s liveness.PeerStats, k liveness.Kind) float64 { return s.Latency[k].Seconds() })),
	labelled(asGauge, "peer_slow", "1 when the node takes several times as long as others, which are asked first.", byKind,
		eachKind(func(s liveness.PeerStats, k liveness.Kind) float64 { return truth(s.Slow[k]) })),
	labelled(asCounter, "peer_pace_changes_total", "Times the node became slow, or ceased to be.", byKind,
		eachKind(func(s liveness.PeerStats, k liveness.Kind) float64 { return number(s.Turns[k]) })),

	// Membership, as this node knows it.
	gauge("topology_epoch", "The epoch of the region's topology that this node goes by.",
		func(f *Figures) float64 { return number(f.Changes.Epoch) }),
	gauge("topology_isolated", "1 while this node does not know whether its topology is the newest, and refuses levels below a quorum.",
		func(f *Figures) float64 { return truth(f.Changes.Isolated) }),
	gauge("topology_store_silent_seconds", "For how long the region's metadata servers have not answered this node; changes of the region wait for them.",
		func(f *Figures) float64 { return f.Changes.StoreSilence.Seconds() }),
	labelled(asGauge, "metadata_servers", "Servers that keep the region's metadata, those that are away too.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Metadata != nil {
				put(number(f.Metadata.Servers))
			}
		}),
	labelled(asGauge, "metadata_servers_up", "Those of them that their leader hears, itself too; 0 while they have none, or none answers this node. Changes of the region need more than half.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Metadata != nil {
				put(number(f.Metadata.Up))
			}
		}),
	gauge("topology_leads", "1 on the node that drives the region's moves.",
		func(f *Figures) float64 { return truth(f.Changes.Leads) }),
	labelled(asGauge, "topology_moves", "Moves of the region that are not done, by stage.", byStage,
		func(f *Figures, put func(float64, ...string)) {
			for stage, n := range f.Changes.Moves {
				put(number(n), topology.Stage(stage).String())
			}
		}),
	labelled(asGauge, "topology_tasks", "Tasks of the region that have not ended.", byState,
		func(f *Figures, put func(float64, ...string)) {
			put(number(f.Changes.Running), "running")
			put(number(f.Changes.Paused), "paused")
		}),
	labelled(asGauge, "region_map_version", "The number of the map of regions that this node goes by.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if m := f.Map.Map; m != nil {
				put(number(m.N))
			}
		}),
	labelled(asGauge, "region_map_contested", "1 while two contents of the map of regions have one number: a person has to change it again ('atoll dr status').", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Map.Map != nil {
				put(truth(f.Map.Contested))
			}
		}),
	labelled(asGauge, "region_state", "1 for the state of each region by the map: ACTIVE, DRAINING, FENCED, REJOINING or REMOVED.", []string{"of", "state"},
		func(f *Figures, put func(float64, ...string)) {
			if f.Map.Map == nil {
				return
			}
			for _, r := range f.Map.Map.Regions {
				put(1, r.Name, r.State.String())
			}
		}),
	labelled(asGauge, "region_lease_seconds", "How long a lease of a home lasts; there is none where this is missing.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Lease.Lasts > 0 {
				put(f.Lease.Lasts.Seconds())
			}
		}),
	labelled(asGauge, "region_lease_left_seconds", "For how long this node's region may go on deciding at SERIAL if no other region grants it that any more, as far as this node knows; 0: it refuses.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Lease.Lasts > 0 {
				put(f.Lease.Left.Seconds())
			}
		}),
	labelled(asGauge, "region_lease_grant_left_seconds", "For how long the last grant of another region holds yet.", byOrigin,
		func(f *Figures, put func(float64, ...string)) {
			for region, left := range f.Lease.Grants {
				put(left.Seconds(), region)
			}
		}),
	labelled(asCounter, "region_lease_asked_total", "Questions to another region for a lease, by what came of them: granted, refused or silent.", []string{"origin", "outcome"},
		func(f *Figures, put func(float64, ...string)) {
			for region, a := range f.Lease.Asked {
				put(number(a.Granted), region, "granted")
				put(number(a.Refused), region, "refused")
				put(number(a.Silent), region, "silent")
			}
		}),
	gauge("handoff_copies", "Partitions that are copied to this node.",
		func(f *Figures) float64 { return number(f.Changes.Copies) }),
	gauge("background_rate_bytes", "Bytes a second that copies and repair of this node may have now, if they are not bounded otherwise.",
		func(f *Figures) float64 { return number(f.BackgroundRate) }),
	counter("handoff_received_bytes_total", "Bytes of records that came to this node by moves.",
		func(f *Figures) float64 { return number(f.Changes.Received) }),
	counter("stale_requests_total", "Requests of nodes that did not know of a partition's last change, refused.",
		func(f *Figures) float64 { return number(f.Replica.Stale.Load()) }),

	// Hints: what this node keeps for owners that are away.
	labelled(asGauge, "hint_records", "Records kept for the node.", byPeer,
		eachOwed(func(o hint.Owed, _ time.Time) float64 { return number(o.Count) })),
	labelled(asGauge, "hint_bytes", "Bytes kept for the node.", byPeer,
		eachOwed(func(o hint.Owed, _ time.Time) float64 { return number(o.Bytes) })),
	labelled(asGauge, "hint_oldest_age_seconds", "Time since the oldest record kept for the node came.", byPeer,
		eachOwed(func(o hint.Owed, now time.Time) float64 { return now.Sub(o.Oldest).Seconds() })),
	counter("hint_taken_total", "Records that this node took for another one.",
		func(f *Figures) float64 { return number(f.Hints.Taken.Load()) }),
	counter("hint_refused_total", "Records that this node did not take: no room, the owner is away for too long, or an old topology.",
		func(f *Figures) float64 { return number(f.Hints.Refused.Load()) }),
	counter("hint_handed_total", "Records that those they were for have by now.",
		func(f *Figures) float64 { return number(f.Hints.Handed.Load()) }),
	counter("hint_handed_bytes_total", "Bytes of records that were handed over.",
		func(f *Figures) float64 { return number(f.Hints.HandedBytes.Load()) }),
	counter("hint_unreadable_total", "Records kept for others that could not be read.",
		func(f *Figures) float64 { return number(f.Hints.Unreadable.Load()) }),

	// The rim: what is let in of what clients ask for.
	labelled(asGauge, "rim_limit_units", "What may run at a time: one for each operation and one for each 64 KiB of it.", byClass,
		eachClass(func(s overload.Stats) float64 { return number(s.Limit) })),
	labelled(asGauge, "rim_in_flight_units", "What runs.", byClass,
		eachClass(func(s overload.Stats) float64 { return number(s.InFlight) })),
	labelled(asGauge, "rim_waiting_operations", "Operations that wait to be begun.", byClass,
		eachClass(func(s overload.Stats) float64 { return number(s.Waiting) })),
	labelled(asGauge, "rim_target_seconds", "What an operation may take, by the median, before the limit shrinks.", byClass,
		eachClass(func(s overload.Stats) float64 { return float64(s.Target) / 1e9 })),
	labelled(asCounter, "rim_operations_total", "Operations that were admitted, or refused and why.", []string{"class", "verdict"},
		func(f *Figures, put func(float64, ...string)) {
			if f.Rim == nil {
				return
			}
			for c := range overload.Classes {
				for v := range overload.Verdicts {
					if v != overload.Waiting {
						put(number(f.Rim.Classes[c].Verdicts[v]), c.String(), v.String())
					}
				}
			}
		}),
	labelled(asGauge, "rim_held_bytes", "What operations that run or wait hold.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Rim != nil {
				put(number(f.Rim.Bytes))
			}
		}),
	gauge("hot_key_share_ratio", "The part of clients' requests that is for the key asked for most.",
		func(f *Figures) float64 { return f.HotShare }),

	// Sessions: who knows more than the owners have yet.
	gauge("session_waiting", "Operations that wait at this node for writes that their session knows.",
		func(f *Figures) float64 { return number(f.Waiting) }),
	counter("session_waits_total", "Operations that had to wait for writes that their session knows.",
		func(f *Figures) float64 { return number(f.Replica.Waits.Load()) }),
	counter("session_waits_refused_total", "Operations that were refused since too many waited.",
		func(f *Figures) float64 { return number(f.Replica.WaitsRefused.Load()) }),
	counter("session_mints_elsewhere_total", "Writes that another owner had to take, which has what their session knows.",
		func(f *Figures) float64 { return number(f.Replica.MintsBehind.Load()) }),
	counter("session_behind_total", "Operations that ended with SESSION_BEHIND: nobody had what their session knows in time.",
		func(f *Figures) float64 { return number(f.Coord.SessionBehind.Load()) }),
	counter("session_lost_total", "Operations that ended with SESSION_LOST: writes that their session knows are lost for good.",
		func(f *Figures) float64 { return number(f.Coord.SessionLost.Load()) }),
	counter("stale_reads_refused_total", "Reads that were refused since the answer would have been older than they allow.",
		func(f *Figures) float64 { return number(f.Coord.TooOld.Load()) }),
	counter("session_fetches_total", "Partitions of which something was fetched at once since somebody waited for it.",
		func(f *Figures) float64 { return number(f.Repair.Wanted.Load()) }),

	// The coordinator.
	counter("coordinator_gets_total", "Reads this node was asked for by clients.",
		func(f *Figures) float64 { return number(f.Coord.Gets.Load()) }),
	counter("coordinator_puts_total", "Writes and deletes this node was asked for by clients.",
		func(f *Figures) float64 { return number(f.Coord.Puts.Load()) }),
	counter("coordinator_failures_total", "Operations of clients that ended with an error.",
		func(f *Figures) float64 { return number(f.Coord.Failures.Load()) }),
	counter("coordinator_forwards_total", "Writes handed to another node, which owns the key.",
		func(f *Figures) float64 { return number(f.Coord.Forwards.Load()) }),
	counter("coordinator_replayed_total", "Retries of writes that an earlier attempt had carried out, and that were answered with that.",
		func(f *Figures) float64 { return number(f.Coord.Replayed.Load()) }),
	counter("coordinator_doubtful_total", "Retries of writes that were carried out though not all owners could say that no earlier attempt was: the write may be there twice, and the answer says so.",
		func(f *Figures) float64 { return number(f.Coord.Doubtful.Load()) }),
	counter("coordinator_outcomes_total", "Questions of clients about what became of a write.",
		func(f *Figures) float64 { return number(f.Coord.Outcomes.Load()) }),
	counter("replica_replayed_total", "Writes that came again to where they had been carried out.",
		func(f *Figures) float64 { return number(f.Replica.Replayed.Load()) }),
	counter("coordinator_serials_total", "Operations at LOCAL_SERIAL and SERIAL, and reads that finished what was undecided.",
		func(f *Figures) float64 { return number(f.Coord.Serials.Load()) }),
	counter("coordinator_serial_contended_total", "Operations at LOCAL_SERIAL and SERIAL that others outbid to the end.",
		func(f *Figures) float64 { return number(f.Coord.SerialContended.Load()) }),
	counter("coordinator_settled_total", "Keys of which something that consensus had accepted was undecided for seconds, since its proposer was gone or out of reach, and that were settled though nobody asked for them.",
		func(f *Figures) float64 { return number(f.Coord.Settled.Load()) }),
	counter("replica_serial_steps_total", "Steps of consensus that were taken here.",
		func(f *Figures) float64 { return number(f.Replica.Serial.Load()) }),
	counter("replica_serial_refused_total", "Steps of consensus that were outbid, or met another record.",
		func(f *Figures) float64 { return number(f.Replica.SerialRefused.Load()) }),
	counter("replica_serial_unreadable_total", "Steps of consensus that met an unreadable state.",
		func(f *Figures) float64 { return number(f.Replica.SerialUnreadable.Load()) }),
	counter("replica_serial_spent_total", "States that consensus had kept of keys, and that were deleted with a round of tombstone collection since nobody needs them.",
		func(f *Figures) float64 { return number(f.Replica.SerialSpent.Load()) }),
	counter("coordinator_homeward_total", "Operations at SERIAL that were sent to the home region of their bucket.",
		func(f *Figures) float64 { return number(f.Coord.Homeward.Load()) }),
	counter("coordinator_fenced_total", "Operations at SERIAL that were refused since the home had moved, or decides nothing now.",
		func(f *Figures) float64 { return number(f.Coord.Fenced.Load()) }),
	counter("replica_serial_fenced_total", "Steps of consensus that were refused since the home they were asked of, or its epoch, is over.",
		func(f *Figures) float64 { return number(f.Replica.SerialFenced.Load()) }),
	counter("coordinator_hedges_total", "Reads that asked one more owner because the first was slow.",
		func(f *Figures) float64 { return number(f.Coord.Hedges.Load()) }),
	counter("coordinator_read_repairs_total", "Owners that were brought up to date by a read.",
		func(f *Figures) float64 { return number(f.Coord.ReadRepairs.Load()) }),
	counter("coordinator_sibling_reads_total", "Reads that showed more than one version.",
		func(f *Figures) float64 { return number(f.Coord.Siblings.Load()) }),
	counter("coordinator_many_sibling_reads_total", "Reads that showed as many siblings as their bucket warns of, or more.",
		func(f *Figures) float64 { return number(f.Coord.ManySiblings.Load()) }),
	counter("coordinator_many_sibling_writes_total", "Writes that left as many siblings as their bucket warns of, or more.",
		func(f *Figures) float64 { return number(f.Coord.ManySiblingWrites.Load()) }),
	counter("coordinator_contexts_omitted_total", "Answers without a context, which would have been larger than 8 KiB.",
		func(f *Figures) float64 { return number(f.Coord.ContextsOmitted.Load()) }),
	counter("coordinator_hints_total", "Nodes that were asked to stand in for an owner that is away.",
		func(f *Figures) float64 { return number(f.Coord.Hints.Load()) }),
	counter("coordinator_joined_reads_total", "Reads that shared another one's answer.",
		func(f *Figures) float64 { return number(f.Coord.Joined.Load()) }),
	counter("coordinator_stale_total", "Requests that met a node with another topology, and were tried again.",
		func(f *Figures) float64 { return number(f.Coord.Stale.Load()) }),
	counter("coordinator_partial_total", "Writes that hold in this region and were not known in time to be in all regions that they asked for.",
		func(f *Figures) float64 { return number(f.Coord.Partial.Load()) }),
	counter("coordinator_region_repairs_total", "Regions whose owners were given what a read across regions found elsewhere.",
		func(f *Figures) float64 { return number(f.Coord.RegionRepairs.Load()) }),
	counter("coordinator_missed_applies_total", "Applies that an owner did not confirm; anti-entropy makes up for them.",
		func(f *Figures) float64 { return number(f.Coord.Missed.Load()) }),

	// Anti-entropy.
	counter("repair_rounds_total", "Comparisons with another owner.",
		func(f *Figures) float64 { return number(f.Repair.Rounds.Load()) }),
	counter("repair_failed_rounds_total", "Comparisons that were broken off.",
		func(f *Figures) float64 { return number(f.Repair.Failed.Load()) }),
	counter("repair_pulled_keys_total", "Records received because clocks lacked their dots.",
		func(f *Figures) float64 { return number(f.Repair.PulledKeys.Load()) }),
	counter("repair_repaired_keys_total", "Records received that changed something here.",
		func(f *Figures) float64 { return number(f.Repair.RepairedKeys.Load()) }),
	counter("repair_full_syncs_total", "Partitions read as a whole, because the other's index was too short.",
		func(f *Figures) float64 { return number(f.Repair.FullSyncs.Load()) }),
	counter("repair_mismatched_partitions_total", "Partitions with equal clocks and different digests: somebody lost a record.",
		func(f *Figures) float64 { return number(f.Repair.Mismatches.Load()) }),
	counter("repair_mismatched_keys_total", "Records that differed in mismatched partitions.",
		func(f *Figures) float64 { return number(f.Repair.MismatchedKeys.Load()) }),
	counter("repair_recounts_total", "Partitions whose digest was recounted from the store.",
		func(f *Figures) float64 { return number(f.Repair.Recounts.Load()) }),
	counter("repair_wrong_recounts_total", "Recounts that found other records than were written.",
		func(f *Figures) float64 { return number(f.Repair.RecountsWrong.Load()) }),
	counter("repair_failed_recounts_total", "Recounts that met an unreadable record.",
		func(f *Figures) float64 { return number(f.Repair.RecountsFailed.Load()) }),

	counter("repair_fetched_bytes_total", "Bytes of replies with records in them.",
		func(f *Figures) float64 { return number(f.Repair.Bytes.Load()) }),
	gauge("repair_running", "1 while a repair that somebody asked for runs on this node.",
		func(f *Figures) float64 { return truth(f.OnDemand.Running) }),
	gauge("repair_progress_ratio", "The part of that repair, or of the last one, that is done; 1 when there was none.",
		func(f *Figures) float64 { return f.OnDemand.Share() }),

	// Tombstones, and what came after they were gone.
	labelled(asGauge, "collect_floor_age_seconds", "Age of the oldest floor of the partitions that this node owns: deletes older than that are off its disk. Absent when no partition has one.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if !f.Collect.Oldest.IsZero() {
				put(time.Since(f.Collect.Oldest).Seconds())
			}
		}),
	gauge("collect_never_partitions", "Owned partitions that no round of collection has been through yet.",
		func(f *Figures) float64 { return number(f.Collect.Never) }),
	counter("collect_rounds_begun_total", "Rounds that this node has begun, one a partition.",
		func(f *Figures) float64 { return number(f.Collect.Begun) }),
	counter("collect_rounds_done_total", "Rounds of this node that were completed.",
		func(f *Figures) float64 { return number(f.Collect.Done) }),
	labelled(asCounter, "collect_rounds_off_total", "Rounds of this node that came to nothing.", []string{"reason"},
		func(f *Figures, put func(float64, ...string)) {
			for r, n := range f.CollectOff {
				put(number(n), r.String())
			}
		}),
	labelled(asGauge, "collect_stalled_partitions", "Partitions of which this node begins the rounds and whose last one came to nothing, by why and by the node it was for.", []string{"reason", "waits_for"},
		func(f *Figures, put func(float64, ...string)) {
			for _, g := range f.Collect.Stalls {
				put(number(g.Partitions), g.Why.Reason.String(), string(g.Why.Node))
			}
		}),
	counter("collect_dropped_records_total", "Dead records that this node has taken off its disk.",
		func(f *Figures) float64 { return number(f.Collect.Dropped) }),
	gauge("late_aside_entries", "Entries of the side log: old versions that came when their deletes had been collected.",
		func(f *Figures) float64 { return number(f.Collect.Aside) }),
	counter("late_set_aside_total", "Old versions that went to the side log, of messages and of this node's own store.",
		func(f *Figures) float64 { return number(f.Replica.LateKept.Load() + f.Replica.Sifted.Load()) }),
	counter("late_confirmed_total", "Old versions of messages that another owner stood for, and that were applied.",
		func(f *Figures) float64 { return number(f.Replica.LateConfirmed.Load()) }),
	counter("late_refused_total", "Messages with old versions of which nobody could tell whether they were deleted.",
		func(f *Figures) float64 { return number(f.Replica.LateRefused.Load()) }),

	// What the disk holds, and no longer gives back.
	gauge("unreadable_records", "Records that this node cannot read and has not got back from others yet.",
		func(f *Figures) float64 { return number(f.Unreadable) }),
	counter("unreadable_records_found_total", "Records that were found to be unreadable.",
		func(f *Figures) float64 { return number(f.Replica.Unreadable.Load()) }),
	counter("unreadable_records_healed_total", "Unreadable records that are whole again.",
		func(f *Figures) float64 { return number(f.Replica.Healed.Load()) }),
	gauge("quarantined_stores", "Damaged stores that were set aside and lie in the data directory.",
		func(f *Figures) float64 { return number(f.Quarantined) }),
	counter("index_pruned_dots_total", "Index entries given up because every owner has what they tell of, at most.",
		func(f *Figures) float64 { return number(f.Replica.Pruned.Load()) }),

	gauge("index_bytes", "Size of the dot index when it was last measured.",
		func(f *Figures) float64 { return number(f.Repair.IndexBytes.Load()) }),
	counter("index_regions_given_up_total", "Times that the index did not wait for a region any more, since it was above its budget.",
		func(f *Figures) float64 { return number(f.Repair.Unwaited.Load()) }),
	labelled(asGauge, "region_needs_full_sync", "1 for each region that lacks what the index has given up.", []string{"region"},
		func(f *Figures, put func(float64, ...string)) {
			for _, region := range f.NeedFullSync {
				put(1, string(region))
			}
		}),
	counter("repair_orphan_dots_total", "Writes of buckets of some regions that a dead node took with it before other owners had them.",
		func(f *Figures) float64 { return number(f.Repair.Orphans.Load()) }),

	// The group committer and its disk.
	counter("commit_groups_total", "Groups committed.",
		func(f *Figures) float64 { return number(f.Commits.Groups) }),
	counter("commit_syncs_total", "Groups that wrote something, each with one sync.",
		func(f *Figures) float64 { return number(f.Commits.Syncs) }),
	counter("commit_sync_seconds_total", "Time spent committing.",
		func(f *Figures) float64 { return f.Commits.SyncTime.Seconds() }),
	counter("commit_ops_total", "Operations in groups.",
		func(f *Figures) float64 { return number(f.Commits.Ops) }),
	counter("commit_bytes_total", "Bytes in groups, before the engine's own.",
		func(f *Figures) float64 { return number(f.Commits.Bytes) }),
	counter("commit_rejected_ops_total", "Operations that failed on their own account.",
		func(f *Figures) float64 { return number(f.Commits.Rejected) }),
	labelled(asCounter, "commit_refused_ops_total", "Operations that were not queued.", []string{"reason"},
		func(f *Figures, put func(float64, ...string)) {
			put(number(f.Commits.RefusedOverload), "overload")
			put(number(f.Commits.RefusedFull), "disk_full")
		}),
	gauge("commit_queue_ops", "Operations that wait to be committed.",
		func(f *Figures) float64 { return number(f.Commits.QueueOps) }),
	gauge("commit_queue_bytes", "Bytes that wait to be committed.",
		func(f *Figures) float64 { return number(f.Commits.QueueBytes) }),
	gauge("disk_state", "0 when the disk is fine, 1 when an operator should look, 2 when writes are refused.",
		func(f *Figures) float64 { return number(f.Commits.Disk) }),
	gauge("store_bytes", "What the store occupies on disk.",
		func(f *Figures) float64 { return number(f.Usage.Store) }),
	gauge("disk_free_bytes", "What is free on the store's file system.",
		func(f *Figures) float64 { return number(f.Usage.Free) }),
	gauge("disk_size_bytes", "The size of the store's file system.",
		func(f *Figures) float64 { return number(f.Usage.Total) }),

	// Links between nodes.
	labelled(asGauge, "link_up", "1 when there is a session with the other node.", byLink,
		eachLink(func(l Link) float64 { return truth(l.Up) })),
	labelled(asGauge, "link_pending", "Requests without a reply yet.", byLink,
		eachLink(func(l Link) float64 { return number(l.Pending) })),
	labelled(asCounter, "link_sessions_total", "Sessions that came up.", byLink,
		eachLink(func(l Link) float64 { return number(l.Sessions) })),
	labelled(asCounter, "link_refused_total", "Messages that were over a bound.", byLink,
		eachLink(func(l Link) float64 { return number(l.Refused) })),
	labelled(asCounter, "link_messages_total", "Requests one way, replies the other.", byWay,
		eachWay(func(l Link) uint64 { return l.MessagesOut }, func(l Link) uint64 { return l.MessagesIn })),
	labelled(asCounter, "link_frames_total", "Frames of messages.", byWay,
		eachWay(func(l Link) uint64 { return l.FramesOut }, func(l Link) uint64 { return l.FramesIn })),
	labelled(asCounter, "link_bytes_total", "Bytes of frames.", byWay,
		eachWay(func(l Link) uint64 { return l.BytesOut }, func(l Link) uint64 { return l.BytesIn })),

	// Between regions.
	labelled(asGauge, "geo_unconfirmed_dots", "Dots minted here that the region's log has not confirmed.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Pump != nil {
				put(number(f.Unconfirmed))
			}
		}),
	labelled(asGauge, "geo_pump_waiting", "1 while nothing is shipped since no region takes from the log.", nil,
		func(f *Figures, put func(float64, ...string)) {
			if f.Pump != nil {
				put(truth(f.Pump.Waiting))
			}
		}),
	labelled(asGauge, "geo_log_bytes", "Bytes that the region's log holds.", nil,
		ofLog(func(s *geo.LogState) float64 { return number(s.Bytes) })),
	labelled(asGauge, "geo_log_max_bytes", "Bytes at which the oldest batches of the log go.", nil,
		ofLog(func(s *geo.LogState) float64 { return number(s.MaxBytes) })),
	labelled(asGauge, "geo_log_batches", "Batches that the region's log holds.", nil,
		ofLog(func(s *geo.LogState) float64 { return number(s.Batches) })),
	labelled(asGauge, "geo_log_oldest_seconds", "Age of the oldest batch in the region's log.", nil, ofLog(logAge)),
	labelled(asGauge, "geo_log_open_batches", "Batches that another region has not pulled yet.", []string{"destination"},
		func(f *Figures, put func(float64, ...string)) {
			if f.Log != nil {
				for dst, n := range f.Log.Open {
					put(number(n), dst)
				}
			}
		}),
	labelled(asCounter, "geo_pump_batches_total", "Batches that the region's log has confirmed.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.Batches })),
	labelled(asCounter, "geo_pump_entries_total", "Records in confirmed batches.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.Entries })),
	labelled(asCounter, "geo_pump_raw_bytes_total", "Keys and records in confirmed batches.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.BytesRaw })),
	labelled(asCounter, "geo_pump_sent_bytes_total", "Confirmed batches as sent.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.BytesWire })),
	labelled(asCounter, "geo_pump_failures_total", "Batches that the log did not confirm in time.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.Failures })),
	labelled(asCounter, "geo_pump_rewinds_total", "Times the pump began again at what was confirmed.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.Rewinds })),
	labelled(asCounter, "geo_pump_unshippable_total", "Records too large for any message; clocks carry them.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.Unshippable })),
	labelled(asCounter, "geo_drain_batches_total", "Batches of another region applied.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Batches })),
	labelled(asCounter, "geo_drain_entries_total", "Records of another region applied.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Entries })),
	labelled(asCounter, "geo_drain_bytes_total", "Bytes of batches applied.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Bytes })),
	labelled(asCounter, "geo_pump_claims_total", "Large records of which the log got the claim only.", nil,
		ofPump(func(s *geo.PumpStats) uint64 { return s.Claims })),
	labelled(asCounter, "geo_claims_fetched_total", "Large records fetched from their owners in another region.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Claims })),
	labelled(asCounter, "geo_claims_fetched_bytes_total", "Bytes of them.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.ClaimBytes })),
	labelled(asCounter, "geo_claims_failed_total", "Tries to fetch a large record that failed.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.ClaimFailures })),
	labelled(asCounter, "geo_drain_failures_total", "Batches to be delivered again.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Failures })),
	labelled(asCounter, "geo_drain_poisoned_total", "Batches that can never be applied; clocks find what was in them.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Poisoned })),
	labelled(asCounter, "geo_drain_gaps_total", "Times the log said it lost or skipped something.", byOrigin,
		eachDrain(func(s geo.DrainStats) uint64 { return s.Gaps })),
	// Each node tells of the partitions that it looks after: the sum over the nodes
	// of a region, and the oldest age, are those of the region.
	labelled(asGauge, "geo_link_alive", "1 when the other region was heard in the last 2.5 s.", byOrigin,
		incoming(func(l geo.LagReport) float64 { return truth(l.Alive) })),
	labelled(asGauge, "geo_heartbeat_age_seconds", "Time since the other region was heard.", byOrigin,
		incoming(func(l geo.LagReport) float64 { return l.HeartbeatAge.Seconds() })),
	labelled(asGauge, "geo_lag_dots", "Writes known to exist in the other region and missing here, of this node's share.", byOrigin,
		incoming(func(l geo.LagReport) float64 { return number(l.Pending) })),
	labelled(asGauge, "geo_lag_age_seconds", "Time since the oldest missing write was announced.", byOrigin,
		incoming(func(l geo.LagReport) float64 { return l.PendingAge.Seconds() })),
	labelled(asGauge, "geo_lag_bytes", "Estimate of what is missing.", byOrigin,
		incoming(func(l geo.LagReport) float64 { return number(l.PendingBytes) })),
	labelled(asGauge, "geo_lag_unknown_partitions", "Partitions of this node's share of which nobody in the other region was heard since this node started.", byOrigin,
		incoming(func(l geo.LagReport) float64 { return float64(l.Unknown) })),
	labelled(asGauge, "geo_complete_as_of_seconds", "Unix time, by the other region's clocks, up to which this node's share has all that was written there; 0 for not known.", byOrigin,
		asOf(func(f *Figures) map[topology.Region]time.Time { return f.CompleteAsOf })),
	labelled(asGauge, "geo_converged_as_of_seconds", "Unix time since which every partition of this node's share was found equal, clocks and digests, to one in the other region; 0 for not yet.", byOther,
		asOf(func(f *Figures) map[topology.Region]time.Time { return f.ConvergedAsOf })),
	labelled(asGauge, "geo_pending_dots", "Writes of this region that no owner in the other region has, of this node's share.", byDestination,
		outgoing(func(l geo.LagReport) float64 { return number(l.Pending) })),
	labelled(asGauge, "geo_pending_age_seconds", "Time since the oldest of them was known to be missing there.", byDestination,
		outgoing(func(l geo.LagReport) float64 { return l.PendingAge.Seconds() })),
	labelled(asGauge, "geo_pending_bytes", "Estimate of what they take.", byDestination,
		outgoing(func(l geo.LagReport) float64 { return number(l.PendingBytes) })),
	labelled(asGauge, "geo_unheld_dots", "Writes of this region that some owner in the other region lacks, of this node's share.", byDestination,
		outgoing(func(l geo.LagReport) float64 { return number(l.Unheld) })),
	labelled(asGauge, "geo_pending_unknown_partitions", "Partitions of this node's share of which nobody in the other region was heard since this node started: their writes are not counted as pending.", byDestination,
		outgoing(func(l geo.LagReport) float64 { return float64(l.Unknown) })),
}
