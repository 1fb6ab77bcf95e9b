package notifier

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/notifier/auth"
)

// A request that lists counts for the user's limit until its response is written, also if its handler panics.
func TestListIsReleased(t *testing.T) {
	n := bare(t, slog.New(slog.DiscardHandler))
	n.gates = newGates()
	engine := gin.New()
	_, routes := n.mount(engine)
	kept := 0
	list := func(then func()) gin.HandlerFunc {
		return n.handle(func(c *gin.Context) (answer, error) {
			c.Set(identityKey, auth.Identity{User: "ana"})
			err := n.list(c, func(context.Context) error { return nil })
			kept = len(n.gates.lists.users)
			if err == nil {
				then()
			}
			return answer{http.StatusOK, "listed"}, err
		})
	}
	routes.get("/works", list(func() {}))
	routes.get("/panics", list(func() { panic("in the list") }))
	for path, want := range map[string]int{"/works": 200, "/panics": 500} {
		w := httptest.NewRecorder()
		engine.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if left := len(n.gates.lists.users); w.Code != want || kept != 1 || left != 0 {
			t.Errorf("%s: got status %d, %d places while it was answered and %d after; want %d, 1 and 0", path, w.Code, kept, left, want)
		}
	}
}
