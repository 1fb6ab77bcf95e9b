package sse

import (
	"slices"
	"strings"
	"testing"
)

// What is announced is right for every listener, whenever it has fetched the list: also for one who did that between two changes which
// cancel each other, or before this hub had what another one has published.
func TestAnnouncedChanges(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, then func(*audience)
		join, leave  string
	}{
		"a user comes":  {then: func(a *audience) { a.change("two", []string{"bo"}, nil) }, join: "bo"},
		"a user leaves": {before: func(a *audience) { a.change("two", []string{"bo"}, nil) }, then: func(a *audience) { a.change("two", nil, []string{"bo"}) }, leave: "bo"},
		"a user comes and leaves": {then: func(a *audience) {
			a.change("two", []string{"bo"}, nil)
			a.change("two", nil, []string{"bo"})
		}, leave: "bo"},
		"a user leaves and comes at another hub": {
			before: func(a *audience) { a.change("two", []string{"bo"}, nil) },
			then: func(a *audience) {
				a.change("two", nil, []string{"bo"})
				a.change("three", []string{"bo"}, nil)
			},
			join: "bo",
		},
		"a user moves to another hub": {
			before: func(a *audience) { a.change("two", []string{"bo"}, nil) },
			then: func(a *audience) {
				a.change("three", []string{"bo"}, nil)
				a.change("two", nil, []string{"bo"})
			},
		},
		"a user leaves who was not noted yet":          {then: func(a *audience) { a.change("two", nil, []string{"bo"}) }, leave: "bo"},
		"all users of a hub are noted":                 {then: func(a *audience) { a.begin("two", []string{"bo", "cyd"}) }},
		"a user comes before all of the hub are noted": {then: func(a *audience) { a.change("two", []string{"bo"}, nil); a.begin("two", []string{"bo", "cyd"}) }, join: "bo"},
		"a hub is gone":                                {before: func(a *audience) { a.begin("two", []string{"bo"}) }, then: func(a *audience) { a.replace("two", nil) }, leave: "bo"},
		"a name that no hub sends":                     {then: func(a *audience) { a.change("two", nil, []string{"b o"}) }},
	} {
		a := newAudience("room.1", "room=2E1")
		if c.before != nil {
			c.before(a)
			a.takeChanges()
		}
		c.then(a)
		join, leave := a.takeChanges()
		if got := strings.Join(slices.Sorted(slices.Values(join)), " "); got != c.join {
			t.Errorf("%s: join %q, want %q", name, got, c.join)
		}
		if got := strings.Join(slices.Sorted(slices.Values(leave)), " "); got != c.leave {
			t.Errorf("%s: leave %q, want %q", name, got, c.leave)
		}
		if join, leave := a.takeChanges(); len(join)+len(leave) > 0 {
			t.Errorf("%s: announced again: join %q, leave %q", name, join, leave)
		}
	}
}
