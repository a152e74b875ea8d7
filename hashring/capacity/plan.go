package capacity

import "fmt"

// Report is what a deployment takes. All of it is told of the busiest node,
// unless it says of a region or a link.
type Report struct {
	// Input as it was taken, with what was left out filled in.
	Input    Input     `json:"input"`
	Ring     Ring      `json:"ring"`
	Disk     Disk      `json:"disk"`
	Clocks   Clocks    `json:"clocks"`
	Repair   Repair    `json:"repair"`
	Liveness Liveness  `json:"liveness"`
	Loss     Loss      `json:"node_loss"`
	NATS     NATS      `json:"nats"`
	Geo      Geo       `json:"geo"`
	CPU      CPU       `json:"cpu"`
	Memory   Memory    `json:"memory"`
	Warnings []Warning `json:"warnings"`
}

// Plan calculates. It refuses an input that is out of bounds.
func Plan(in Input) (Report, error) {
	in, err := in.complete()
	if err != nil {
		return Report{}, fmt.Errorf("plan capacity: %w", err)
	}
	out := Report{Input: in, Liveness: in.liveness(), NATS: in.nats()}
	if out.Ring, err = in.ring(); err != nil {
		return Report{}, fmt.Errorf("plan capacity: %w", err)
	}
	out.Clocks = in.clocks(out.Ring)
	out.Disk = in.disk(out.Ring, out.Clocks)
	out.Repair = in.repair(out.Ring, out.Clocks)
	out.Loss = in.loss(out.Ring, out.Disk)
	out.Loss.DiskUsed = in.usedAfter(out.Ring, out.Disk, out.Loss.most)
	out.Geo = in.geo(out.Ring, out.Clocks, out.Repair)
	out.CPU = in.cpu(out.Ring, out.Repair, out.Liveness)
	out.Memory = in.memory(out.Ring, out.Clocks, out.Disk)
	out.Warnings = out.warnings()
	return out, nil
}
