package notifier

import (
	"context"
	"fmt"
	"testing"
)

// The user of a job is looked up once. A bounded number is remembered: those that were needed last.
func TestOwners(t *testing.T) {
	searches := 0
	o := owners{find: func(_ context.Context, id string) (string, error) { searches++; return "user of " + id, nil }}
	of := func(id string) {
		t.Helper()
		if user, err := o.of(t.Context(), id); user != "user of "+id || err != nil {
			t.Fatalf("%s belongs to %q, %v", id, user, err)
		}
	}
	of("followed")
	for i := range 5 * maxOwners {
		of("followed")
		of(fmt.Sprint(i))
		if n := len(o.recent) + len(o.older); n > 2*maxOwners {
			t.Fatalf("%d are remembered, want %d at most", n, 2*maxOwners)
		}
	}
	if want := 1 + 5*maxOwners; searches != want {
		t.Errorf("%d searches, want %d", searches, want)
	}
	if o.of(t.Context(), "0"); searches != 2+5*maxOwners {
		t.Error("the oldest is still remembered")
	}
}
