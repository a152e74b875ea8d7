package admin

import (
	"fmt"
	"net/http"
	"strings"
)

// Check is one thing that /readyz looks at.
type Check struct {
	Name string
	// Critical: while it fails, /readyz does. What would take all nodes of a
	// region out of service at once, although they still serve, is not: a
	// link to another region that is cut, a disk too full for writes.
	Critical bool
	// Run returns what is wrong, within a fraction of a second.
	Run func() error
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	if s.cfg.Dead != nil {
		if err := s.cfg.Dead(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

// readyz answers with a line for each check that fails; with ?verbose, for
// each check:
//
//	ok       store
//	FAILED   actor: no actor yet
//	warning  geo link: region us: no heartbeat for 12s
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	verbose := r.URL.Query().Has("verbose")
	var b strings.Builder
	ready := true
	for _, c := range s.cfg.Checks {
		err := c.Run()
		switch {
		case err != nil && c.Critical:
			ready = false
			fmt.Fprintf(&b, "FAILED   %s: %v\n", c.Name, err)
		case !verbose:
		case err != nil:
			fmt.Fprintf(&b, "warning  %s: %v\n", c.Name, err)
		default:
			fmt.Fprintf(&b, "ok       %s\n", c.Name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if ready {
		b.WriteString("ready\n")
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
		b.WriteString("not ready\n")
	}
	_, _ = w.Write([]byte(b.String())) // whoever asked has gone
}
