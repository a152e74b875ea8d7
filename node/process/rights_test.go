package process_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// rights is what docs/operations.md has as the configuration of a server of region eu,
// from which us pulls, or with these two the other way round. The region's own user has
// the password own, the other one other.
func rights(t *testing.T, region topology.Region) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```conf\n(authorization .*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("docs/operations.md has no block with the rights of users")
	}
	conf := string(found[1])
	if region != "eu" {
		swap := strings.NewReplacer("eu", "us", "us", "eu")
		conf = regexp.MustCompile(`(user: |GEO_|TOPO_|geo\.|to_)(eu|us)\b`).ReplaceAllStringFunc(conf, func(s string) string {
			at := len(s) - 2
			return s[:at] + swap.Replace(s[at:])
		})
	}
	return "EU_PASSWORD: own\nUS_PASSWORD: other\n" + conf
}

// Two regions whose servers give their users the rights that docs/operations.md tells,
// and no others: all works both ways, nothing is refused, and who may pull a region's log
// can do nothing else to it.
func TestExternalNATSRights(t *testing.T) {
	regions, secret := twoOutside(t)
	var at []string
	for _, r := range regions {
		at = append(at, natsdtest.ExternalWith(t, rights(t, r.Name)))
	}
	var configs []process.Config
	said := &words{}
	for i := range regions {
		mine := append([]process.Region(nil), regions...)
		for j := range mine {
			user := string(regions[i].Name) + ":other"
			if i == j {
				user = string(regions[i].Name) + ":own"
			}
			mine[j].NATS, mine[j].NATSAccess = []string{fmt.Sprintf("nats://%s@%s", user, at[j])}, nil
		}
		configs = append(configs, outside(t, mine, i, secret))
	}
	ctx, nodes := runAll(t, hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: said}), configs...)
	for i, p := range nodes {
		other := nodes[1-i]
		put(t, kvOf(t, p), fmt.Sprint("of ", i), "v")
		eventually(t, "it comes by the log, and clocks are heard", func() error {
			if err := holds(ctx, kvOf(t, other), fmt.Sprint("of ", i), "v"); err != nil {
				return err
			}
			if other.Node().Figures().Drains[regions[i].Name].Entries == 0 {
				return errors.New("nothing came by the log")
			}
			if in, _ := other.Node().Lag(); len(in) != 1 || !in[0].Alive || in[0].Pending > 0 {
				return fmt.Errorf("%+v", in)
			}
			return nil
		})
	}
	for _, word := range []string{"trouble with a nats server", "ermission"} {
		if strings.Contains(said.String(), word) {
			t.Errorf("something is refused: %s", said)
		}
	}

	for _, c := range []struct {
		subject string
		own     bool // that the region's own nodes may do it
	}{
		{"geo.eu.log.us-1", true},
		{"$JS.API.STREAM.DELETE.GEO_eu", true},
		{"$KV.TOPO_eu.nothing", true},
		{"$JS.API.CONSUMER.MSG.NEXT.GEO_eu.to_ap", true},
		{"geo.us.log.eu-1", false},
	} {
		for user, may := range map[string]bool{"eu:own": c.own, "us:other": false} {
			refused, err := natsdtest.Refuses("nats://"+user+"@"+at[0], c.subject)
			if err != nil || refused == may {
				t.Errorf("%s to %s: refused: %v, %v", user, c.subject, refused, err)
			}
		}
	}
}
