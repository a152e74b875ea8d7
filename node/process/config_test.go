package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const small = `
node: n1
region: eu
data_dir: /data
nats: {listen: "127.0.0.1:7403"}
regions:
  - {name: eu, id: 1, members: [{id: n1, client: "h:7400", peer: "h:7401"}]}
`

func TestParse(t *testing.T) {
	c, err := parse(Default(), []byte(small+`
buckets:
  a.b_c: {kind: lww}
  big: {max_value: 2MiB}
memory: {block_cache: 33554432}
repair: {scrub_pass: 36h}
collect: {every: 0, grace: 48h}
hints: {max_bytes: 2GiB, max_age: 1h30m}
`), []string{
		"ATOLL_LISTEN_ADMIN=127.0.0.1:9", "ATOLL_PARTITIONS=64", "ATOLL_INSECURE=true", "ATOLL_NATS_MAX_STORE=1GiB",
		"ATOLL_REPAIR_BYTES_PER_SECOND=16MiB", "ATOLL_HINTS_MAX_AGE=2h",
		"ATOLL_ENDPOINTS=x", "ATOLL_PORT=tcp://10.0.0.1:7400", "ATOLL_SERVICE_HOST=10.0.0.1", "ATOLL_PORT_7400_TCP=y", "HOME=/",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Node, want.Region, want.DataDir = "n1", "eu", "/data"
	want.NATS.Listen, want.NATS.MaxStore = "127.0.0.1:7403", 1*GiB
	want.Regions = []Region{{Name: "eu", ID: 1, Members: []Member{{ID: "n1", Weight: 1, Client: "h:7400", Peer: "h:7401"}}}}
	want.Buckets = map[string]Bucket{"a.b_c": {Kind: KindLWW, MaxValue: 1 * MiB}, "big": {Kind: KindMV, MaxValue: 2 * MiB}}
	want.Memory.BlockCache = 32 * MiB
	want.Repair = Repair{BytesPerSecond: 16 * MiB, ScrubPass: Duration(36 * time.Hour), LargeBytesPerSecond: 32 * MiB, IndexBytes: 1 * GiB, IndexEvery: Duration(10 * time.Minute)}
	want.Collect = Collect{Every: 0, Grace: Duration(48 * time.Hour)}
	want.Hints = Hints{MaxBytes: 2 * GiB, MaxAge: Duration(2 * time.Hour), BytesPerSecond: 8 * MiB}
	want.Listen.Admin, want.Partitions, want.Insecure = "127.0.0.1:9", 64, true
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
}

// What YAML writes, parse reads.
func TestYAMLRoundTrip(t *testing.T) {
	c, err := Load("../../deploy/config/eu-1.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	back, err := parse(Default(), text, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if d := cmp.Diff(c, back); d != "" {
		t.Error(d)
	}
}

func TestYAMLHidesUsers(t *testing.T) {
	c := Dev("/d")
	c.Regions[0].NATS = []string{"nats://user:hunter2@h:1", "nats://token@h:2"}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"user", "hunter2", "token"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%q is in\n%s", secret, text)
		}
	}
	if c.Regions[0].NATS[0] != "nats://user:hunter2@h:1" {
		t.Error("the configuration itself was changed")
	}
}

// Every sample is a configuration that holds, and the long one shows every key.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/config/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	for _, file := range files {
		c, err := Load(file, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := newWorld(&c); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	text, err := os.ReadFile("../../deploy/config/eu-1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "join", "listen", "nats", "nats.cluster", "memory", "repair", "collect", "hints", "log", "regions[0]", "regions[0].members[0]", "buckets.x"} {
		for _, key := range keysAt(path + ".") {
			if !strings.Contains(string(text), key+":") && key != "weight" {
				t.Errorf("eu-1.yaml has no %s.%s", path, key)
			}
		}
	}
}

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		env        []string
		want       []string
	}{
		{name: "unknown keys", yaml: small + "partitons: 5\nlog: {levle: info, quite_other: 1}\nbuckets: {b: {knd: mv}}\n", want: []string{
			"partitons: is no key of the configuration; did you mean partitions?; seen: partitons",
			"log.levle: is no key of the configuration; did you mean level?",
			"log.quite_other: is no key of the configuration; there are level, format",
			"buckets[b].knd: is no key of the configuration; did you mean kind?",
		}},
		{name: "unknown in a list", yaml: strings.Replace(small, "client:", "clients:", 1), want: []string{
			"regions[0].members[0].clients: is no key of the configuration; did you mean client?",
			`regions[0].members[0].client: must be host:port; seen: ""`,
		}},
		{name: "types", yaml: small + "replicas: many\nlisten: 5\ninsecure: perhaps\nmemory: {memtable: 3 bananas}\nrepair: {scrub_pass: 7 weeks}\n", want: []string{
			`replicas: must be a whole number; seen: "many"`,
			`listen: `,
			`insecure: must be true or false; seen: "perhaps"`,
			`memory.memtable: size "3 bananas" is not`,
			`repair.scrub_pass: duration "7 weeks" is not`,
		}},
		{name: "values", yaml: `
node: N1
region: ""
partitions: 100
replicas: 0
listen: {client: nowhere, peer: "0.0.0.0:7401", admin: ":7402"}
regions:
  - {name: eu, id: 0, members: []}
  - {name: eu, id: 77, nats: ["http://x"], members: [{id: a, client: "h:0", peer: h, weight: -1}, {id: a, client: "h:1", peer: "h:2"}]}
nats: {mode: borrowed, max_store: 1MiB, name: EU_2, cluster: {listen: x, routes: ["r:0"]}}
buckets: {UP: {kind: set, max_value: 9MiB}}
memory: {block_cache: 1KiB, memtable: 2GiB}
ballast: 65GiB
repair: {bytes_per_second: 0, scrub_pass: 30m, index_every: 100ms}
collect: {every: 1m, grace: 1s}
geo: {max_bytes: 1MiB, max_age: 1m}
hints: {max_bytes: 1KiB, max_age: 5, bytes_per_second: 1KiB}
log: {level: loud, format: xml}
`, want: []string{
			`node: must be 1..63 of a-z, 0-9 and -; seen: "N1"`,
			`region: must be 1..32 of a-z, 0-9 and -; seen: ""`,
			`data_dir: must be a directory; seen: ""`,
			`secret_file: must be a file`,
			`partitions: must be a power of two in 1..65536; seen: 100`,
			`replicas: must be in 1..32; seen: 0`,
			`listen.client: must be host:port; seen: "nowhere"`,
			`listen.peer: listens outside of loopback in plain text: use a loopback address, or set insecure: true; seen: "0.0.0.0:7401"`,
			`listen.admin: listens outside of loopback`,
			`regions[0].id: must be in 1..63; seen: 0`,
			`regions[0].members: must list the region's nodes; seen: none`,
			`regions[0].nats: must list the region's NATS servers`,
			`regions[1].name: must be listed once; seen: "eu"`,
			`regions[1].id: must be in 1..63; seen: 77`,
			`regions[1].nats[0]: must be nats://host:port or tls://host:port; seen: "http://x"`,
			`regions[1].members[0].client: must be host:port with a port of 1..65535; seen: "h:0"`,
			`regions[1].members[0].peer: must be host:port with a port of 1..65535; seen: "h"`,
			`regions[1].members[0].weight: must be in 1..1000; seen: -1`,
			`regions[1].members[1].id: must be unique over all regions; seen: "a"`,
			`nats.mode: must be embedded or external; seen: "borrowed"`,
			`nats.max_store: must be 256MiB or more; seen: 1MiB`,
			`nats.name: must be 1..63 of a-z, 0-9 and -; seen: "EU_2"`,
			`nats.cluster: needs nats.listen`,
			`nats.cluster.listen: must be host:port`,
			`nats.cluster.routes[0]: must be host:port with a port of 1..65535; seen: "r:0"`,
			`nats.cluster.routes: must name at least three servers with the own one: fewer have no majority to spare; seen: 2`,
			`buckets.UP: name must be 1..63 of a-z, 0-9, -, _ and ., the first no dot; seen: "UP"`,
			`buckets.UP.kind: must be mv or lww; seen: "set"`,
			`buckets.UP.max_value: must be in 1B..8MiB; seen: 9MiB`,
			`memory.block_cache: must be 1MiB or more; seen: 1KiB`,
			`memory.memtable: must be in 8MiB..1GiB; seen: 2GiB`,
			`ballast: must be in 0..64GiB; seen: 65GiB`,
			`repair.bytes_per_second: must be 1MiB or more; seen: 0B`,
			`repair.index_every: must be in 1s..1h; seen: 100ms`,
			`repair.scrub_pass: must be in 1h..2160h; seen: 30m0s`,
			`collect.every: must be in 1h..720h, or 0s for none; seen: 1m0s`,
			`collect.grace: must be in 1m..8760h; seen: 1s`,
			`geo.max_bytes: must be in 16MiB..896KiB (seven eighths of nats.max_store), or 0 for half of nats.max_store; seen: 1MiB`,
			`geo.max_age: must be in 10m..720h; seen: 1m0s`,
			`hints.max_bytes: must be 1MiB or more; seen: 1KiB`,
			`hints.max_age: must be in 1m..720h; seen: 5ns`,
			`hints.bytes_per_second: must be 64KiB or more; seen: 1KiB`,
			`log.level: must be trace, debug, info, warn or error; seen: "loud"`,
			`log.format: must be auto, json or text; seen: "xml"`,
		}},
		{name: "own region", yaml: strings.Replace(small, "region: eu", "region: us", 1), want: []string{
			`regions: must contain the own region "us"; seen: eu`,
		}},
		{name: "others", yaml: small + "geo: {others: true}\n", want: []string{
			`regions[0].nats: must list the region's NATS servers; seen: none`,
			`secret_file: must be a file`,
		}},
		{name: "own node", yaml: strings.Replace(small, "node: n1", "node: n2", 1), want: []string{
			`regions: must have this node "n2" among the members of "eu", or join must be set; seen: n1`,
		}},
		{name: "join", yaml: small + "secret_file: s\njoin: {client: h, weight: 2000, rak: a}\n", want: []string{
			"join.rak: is no key of the configuration; did you mean rack?",
			`join.weight: must be in 1..1000; seen: 2000`,
			`join.client: must be host:port with a port of 1..65535; seen: "h"`,
			`join.peer: must be host:port with a port of 1..65535; seen: ""`,
		}},
		{name: "same address", yaml: small + "listen: {peer: '127.0.0.1:7400'}\n", want: []string{
			`listen.peer: must differ from listen.client; seen: "127.0.0.1:7400"`,
		}},
		{name: "the name of no server of a cluster", yaml: strings.Replace(small, "nats: {", "nats: {name: n2, ", 1), want: []string{
			`nats.name: is for a server of a cluster: needs nats.cluster; seen: "n2"`,
		}},
		{name: "external with a server", yaml: strings.Replace(small, "nats: {", "nats: {mode: external, ", 1), want: []string{
			`nats.listen: must be empty with mode external; seen: "127.0.0.1:7403"`,
			`regions[0].nats: must list the region's NATS servers; seen: none`,
		}},
		{name: "environment", yaml: small, env: []string{"ATOLL_PARTITION=8", "ATOLL_REPLICAS=x"}, want: []string{
			`ATOLL_PARTITION: is no variable of Atoll; did you mean ATOLL_PARTITIONS?; seen: "8"`,
			`replicas: must be a whole number; seen: "x"`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(Default(), []byte(c.yaml), c.env)
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v", err)
			}
			var left []string
			for _, p := range ps {
				left = append(left, p.String())
			}
			for _, want := range c.want {
				i := slices.IndexFunc(left, func(s string) bool { return strings.HasPrefix(s, want) })
				if i < 0 {
					t.Errorf("no problem %q", want)
					continue
				}
				left = slices.Delete(left, i, i+1)
			}
			if len(left) > 0 {
				t.Errorf("beyond what was wanted:\n%s", strings.Join(left, "\n"))
			}
		})
	}
}

func TestNotYAML(t *testing.T) {
	if _, err := parse(Default(), []byte("a: [\n"), nil); err == nil || !strings.Contains(err.Error(), "yaml") {
		t.Errorf("got %v", err)
	}
	if _, err := parse(Default(), []byte("node: a\nnode: b\n"), nil); err == nil || !strings.Contains(err.Error(), "already defined") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "100": 100, "1B": 1, "512KiB": 512 * KiB, "64 MiB": 64 * MiB, "2GB": 2e9, "1TiB": TiB, "3MB": 3e6, "5KB": 5000,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "64 mib", "1PiB", "9999999999GiB", "0x10"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, s)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := Size(rapid.Int64Min(0).Draw(t, "size"))
		if rapid.Bool().Draw(t, "round") {
			s = s >> 30 << 30
		}
		var back Size
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("%d is %s is %d, %v", s, s, back, err)
		}
	})
}

// slowDistance is the definition.
func slowDistance(a, b string) int {
	switch {
	case a == "":
		return len(b)
	case b == "":
		return len(a)
	case a[0] == b[0]:
		return slowDistance(a[1:], b[1:])
	}
	return 1 + min(slowDistance(a[1:], b), slowDistance(a, b[1:]), slowDistance(a[1:], b[1:]))
}

func TestDistance(t *testing.T) {
	word := rapid.StringMatching(`[abc]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		if got, want := distance(a, b), slowDistance(a, b); got != want {
			t.Errorf("%q to %q: %d, not %d", a, b, got, want)
		}
	})
}

// Whatever the file says, there is an answer and no panic.
//
//fuzz:slow 10
func FuzzParse(f *testing.F) {
	f.Add(small)
	f.Add("regions: [[1]]\nbuckets: {a: 1}\nnats: {cluster: []}")
	f.Add("listen: null\nmemory: ~\n? [a]: b")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse(Default(), []byte(text), nil)
		if err == nil {
			if _, err := newWorld(&c); err != nil {
				t.Errorf("a valid configuration has no topology: %v", err)
			}
		}
	})
}
