package freeport

import "fmt"

const (
	// Below are ports that people know by heart, and give to what they start.
	lowest = 10_000
	// enough is how many ports are worth looking among.
	enough = 2_000
)

// span is where to look, as [from, to), when the kernel's own range is as in
// Linux's ip_local_port_range: "32768\t60999\n". Below it if there is enough, else
// above. Where nothing is known of the kernel's range, it is taken to begin where
// those of Linux and others begin at the earliest.
func span(kernel string) (from, to int) {
	var first, last int
	if n, err := fmt.Sscan(kernel, &first, &last); n < 2 || err != nil {
		first, last = 32_768, 65_535
	}
	switch {
	case first-lowest >= enough:
		return lowest, first
	case 65_535-last >= enough:
		return max(last+1, lowest), 65_536
	default: // the kernel has them all; P1 cannot be kept
		return lowest, 65_536
	}
}
