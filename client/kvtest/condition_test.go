package kvtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/client/kvtest"
)

// counter counts, and knows what each of those who count has added, so that one
// whose outcome is unknown can find out.
type counter struct {
	N  int
	By map[string]int
}

// Sixteen clients of real nodes increment one counter by compare-and-set: none of
// what they add is lost, and nothing happens twice. Some write by hand, others by
// Update.
func TestCompareAndSetCounts(t *testing.T) {
	const clients, each = 16, 12
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster := kvtest.NewCluster(t, "eu")
	tries := make([]int, clients)
	var all sync.WaitGroup
	for i := range clients {
		c := cluster.Client("eu", client.Timeout(30*time.Second), client.NoSession())
		all.Go(func() {
			who := fmt.Sprint("client-", i)
			for done := 0; done < each; {
				_, err := c.Update(ctx, "n", func(cur client.Object) ([]byte, error) {
					tries[i]++
					return incremented(cur, who)
				}, client.LocalSerial)
				if i%2 == 0 && err == nil {
					done++
					err = byHand(ctx, c, who, &tries[i])
				}
				if err == nil {
					done++
					continue
				}
				t.Logf("%s: %v", who, err)
				if !errors.Is(err, client.ErrUnknownOutcome) && !errors.Is(err, client.ErrUnavailable) {
					t.Errorf("%s: %v", who, err)
					return
				}
				now, err := counted(c.Get(ctx, "n", client.LocalSerial))
				if err != nil {
					t.Error(err)
					return
				}
				done = now.By[who]
			}
		})
	}
	all.Wait()
	c := cluster.Client("eu")
	obj, err := c.Get(ctx, "n")
	now, err := counted(obj, err)
	if err != nil || now.N != clients*each || len(obj.Siblings()) != 1 {
		t.Errorf("%d, with %d siblings: %v", now.N, len(obj.Siblings()), err)
	}
	sum := 0
	for i := range clients {
		sum += tries[i]
		if n := now.By[fmt.Sprint("client-", i)]; n != each {
			t.Errorf("client %d has added %d", i, n)
		}
	}
	if sum == clients*each {
		t.Error("nobody met another: the test shows nothing")
	}
	t.Logf("%d increments in %d tries", now.N, sum)
}

// byHand increments as a program does that uses no Update.
func byHand(ctx context.Context, c *client.Client, who string, tries *int) error {
	cur, err := c.Get(ctx, "n", client.LocalSerial)
	for {
		if err != nil {
			return err
		}
		*tries++
		value, err := incremented(cur, who)
		if err != nil {
			return err
		}
		_, err = c.Put(ctx, "n", value, client.IfUnchanged(cur.Version()), client.LocalSerial)
		var e *client.Error
		if !errors.Is(err, client.ErrConditionFailed) || !errors.As(err, &e) {
			return err
		}
		var shown bool
		if cur, shown = e.Current(); !shown {
			return errors.New("nothing is shown in place of what was there")
		}
	}
}

func incremented(cur client.Object, who string) ([]byte, error) {
	now, err := counted(cur, nil)
	if err != nil {
		return nil, err
	}
	now.N++
	now.By[who]++
	return json.Marshal(now)
}

func counted(cur client.Object, err error) (counter, error) {
	now := counter{By: map[string]int{}}
	if err != nil || !cur.Exists() {
		return now, err
	}
	err = json.Unmarshal(cur.Value(), &now)
	return now, err
}
