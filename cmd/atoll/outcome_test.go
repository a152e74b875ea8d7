package main

import (
	"strings"
	"testing"
)

// Where a region lacks, and not an owner, nobody is told to ask fewer owners: it would not
// help, and at SERIAL it would give up what was asked for.
func TestWhatToDoWhenARegionLacks(t *testing.T) {
	const owners = "see 'atoll status'; --consistency local-one needs one owner only"
	for _, c := range []struct {
		text string
		want []string
	}{
		{"put at n1: local-quorum needs 2 of 3 owners, 1 answered (down: n2, n3)", []string{owners}},
		{"put at n1: each-quorum needs 2 of 2 regions, and no node can be reached of: eu", []string{"region-failover", "local-quorum"}},
		{"get at n1: quorum needs 2 of 2 regions, 1 answered; missing: eu (eu-3: quorum needs 2 of 3 owners, 1 answered)", []string{"region-failover", "local-quorum"}},
		{"put at n1: serial is decided in the bucket's home region eu, and no node of it could be asked", []string{"region-failover"}},
		{"put at n1: serial: the home region us decides nothing now: its lease has run out, too few other regions grant it one", []string{"region-failover"}},
	} {
		next := acrossRegions(c.text, owners)
		for _, want := range c.want {
			if !strings.Contains(next, want) {
				t.Errorf("%s\n  next: %s\n  does not say %q", c.text, next, want)
			}
		}
		if serial := strings.Contains(c.text, "serial"); serial && strings.Contains(next, "--consistency") || next != owners && strings.Contains(next, "local-one") {
			t.Errorf("%s\n  next: %s", c.text, next)
		}
	}
}
