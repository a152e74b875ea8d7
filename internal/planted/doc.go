// Package planted holds the switch for faults that are built into the code on
// purpose, to prove that the tests would catch them: a checker that never fails
// proves nothing. Without the build tag "planted" Bug is false, and the compiler
// removes every planted line.
//
// make planted plants one after the other and tells by which check, and after
// how many seeds of the World, each is caught.
package planted

// The bugs, each named for the rule that it breaks.
const (
	// ReuseActor resumes the last actor after any stop.
	ReuseActor = "reuse-actor"
	// AckBeforeSync counts the local vote when a write is decided, not durable.
	AckBeforeSync = "ack-before-sync"
	// ServeBehind answers reads from a disk that has not caught up.
	ServeBehind = "serve-behind"
	// DenseDelta ships the new version alone, with the whole record's context.
	DenseDelta = "dense-delta"
	// MintTwice has another owner mint after an unknown outcome.
	MintTwice = "mint-twice"
	// ShortQuorum is content with one owner less.
	ShortQuorum = "short-quorum"
	// ClockFirst takes over a peer's clock without its records.
	ClockFirst = "clock-first"
	// TrustClocks never compares digests.
	TrustClocks = "trust-clocks"
	// NoHoles lets the context of an answer cover what its writer never saw.
	NoHoles = "no-holes"
	// EarlySettled takes what one owner has for what all have.
	EarlySettled = "early-settled"
	// NearSettled takes what all owners in one region have for what all have.
	NearSettled = "near-settled"
	// SayNotApplied reports an unknown outcome as not applied.
	SayNotApplied = "say-not-applied"
	// HalfSlot counts a slot in transition with one of its nodes.
	HalfSlot = "half-slot"
	// IgnoreEpoch acknowledges what was sent by an old topology.
	IgnoreEpoch = "ignore-epoch"
	// SwitchUnsynced lets a copy be read from before it is complete.
	SwitchUnsynced = "switch-unsynced"
	// ReuseDropped counts from 1 again in a partition that was dropped.
	ReuseDropped = "reuse-dropped"
	// LatestWins drops concurrent versions but the latest.
	LatestWins = "latest-wins"
	// NoLateRule lets everything in, however old.
	NoLateRule = "no-late-rule"
	// NoRejoin takes no floor over from others.
	NoRejoin = "no-rejoin"
	// ForgetRequest does not look whether a request was carried out before.
	ForgetRequest = "forget-request"
	// IgnoreSession takes tokens of sessions for nothing.
	IgnoreSession = "ignore-session"
	// HideLosses answers sessions as if what they knew had never been.
	HideLosses = "hide-losses"
	// DropByAge collects what is old without asking anybody.
	DropByAge = "drop-by-age"
	// LastCommit takes up proposals that a later decision has passed over.
	LastCommit = "last-commit"
	// SkipFence tells of a failed condition, or answers a serial read, although
	// something is undecided.
	SkipFence = "skip-fence"
	// SpendPromises deletes acceptor states whose promises nothing has taken over.
	SpendPromises = "spend-promises"
	// ReadThenWrite judges a condition by a quorum's records and then writes.
	ReadThenWrite = "read-then-write"
	// ShipToAll ships the records of all buckets to all regions.
	ShipToAll = "ship-to-all"
	// NoLevelling moves homes before survivors have the same of a lost region.
	NoLevelling = "no-levelling"
	// NoSettling moves homes away although something is undecided there, and leaves
	// that to who asks for the key, as LeaveUndecided does: else a switchover that takes
	// some seconds finds it settled.
	NoSettling = "no-settling"
	// LeaveUndecided leaves what is undecided to who asks for the key.
	LeaveUndecided = "leave-undecided"
	// TellMissed tells the others of what was decided although nobody has minted an
	// event of it.
	TellMissed = "tell-missed"
	// NoLease decides at SERIAL without a lease.
	NoLease = "no-lease"
	// StaleMap goes by the map of regions that was heard last, old or not.
	StaleMap = "stale-map"
	// AckBeforeApply acknowledges what came from another region, and then applies it.
	AckBeforeApply = "ack-before-apply"
	// Republish ships what came from other regions once more.
	Republish = "republish"
)

// All lists them, with what must catch each.
var All = []struct{ Name, Breaks string }{
	{ReuseActor, "a dot names one payload: actors end with an unclean stop"},
	{AckBeforeSync, "an acknowledgement means durable"},
	{ServeBehind, "a wiped disk votes on nothing, not even absent"},
	{DenseDelta, "the complete record travels"},
	{MintTwice, "one request mints at most one version"},
	{ShortQuorum, "a level needs its number of owners"},
	{ClockFirst, "a clock is joined after the records it speaks for"},
	{TrustClocks, "clocks say what was delivered, digests what is held"},
	{NoHoles, "a context covers only what was seen"},
	{EarlySettled, "only what all owners have is settled"},
	{NearSettled, "only what all owners have is settled: in all regions"},
	{SayNotApplied, "not applied means never applied"},
	{HalfSlot, "a slot in transition counts with both its nodes"},
	{IgnoreEpoch, "who knows of a change refuses who does not"},
	{SwitchUnsynced, "a copy is complete before it is read"},
	{ReuseDropped, "a dot names one payload: also where a partition returns"},
	{NoLateRule, "what is old and unknown is asked about before it is let in"},
	{NoRejoin, "who has lost its floor takes it over before it answers"},
	{HideLosses, "who knew of writes that are lost is told"},
	{DropByAge, "tombstones are collected by proof, not by age"},
	{ShipToAll, "a record goes to no region that its bucket is not in"},
	{ForgetRequest, "a request that comes again is one event"},
	{IgnoreSession, "who answers a session has what the session has seen"},
	{LatestWins, "concurrent versions are siblings"},
	{SpendPromises, "what a state has promised outlives it"},
	{ReadThenWrite, "a condition is judged and the write decided at once"},
	{SkipFence, "a serial answer waits for what is undecided"},
	{LastCommit, "what a decision has passed over is dead"},
	{NoLevelling, "survivors of a region are equal before they go on without it"},
	{NoSettling, "nothing is undecided in a home when it moves by a switchover"},
	{LeaveUndecided, "what was accepted is finished though nobody asks for it"},
	{TellMissed, "what was decided travels by an event"},
	{NoLease, "who is cut off decides nothing when its lease has run out"},
	{StaleMap, "a map of regions replaces only older ones"},
	{AckBeforeApply, "what is acknowledged to another region is durable here"},
	{Republish, "a foreign record is not published again"},
}
