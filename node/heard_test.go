package node

import (
	"sync"
	"testing"
	"time"
)

// What was asked for earlier and answered later takes no news back.
func TestHeard(t *testing.T) {
	s := newNews(nil)
	if s.age() < 24*time.Hour {
		t.Error("it begins with news")
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { s.heard(began.Add(-time.Duration(i*37%100) * time.Hour)) })
	}
	wg.Wait()
	s.heard(began.Add(-time.Hour))
	if got := *s.at.Load(); !got.Equal(began) {
		t.Errorf("heard %v before the newest", began.Sub(got))
	}
}
