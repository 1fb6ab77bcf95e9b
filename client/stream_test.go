package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hark-jobs/hark/client"
)

// script serves the n-th connection with the n-th function, and all later ones with the last.
func script(seen *[]string, steps ...func(http.ResponseWriter, *http.Request)) http.Handler {
	var n atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*seen = append(*seen, r.Header.Get("Last-Event-ID"))
		steps[min(int(n.Add(1)), len(steps))-1](w, r)
	})
}

// say writes events and ends the stream.
func say(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		fmt.Fprint(w, text)
	}
}

func refuse(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestStreamResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		_, c := serve(t, script(&seen,
			say("retry: 7000\n\nevent: hello\nid: e-5\ndata: {}\n\nevent: notification\nid: e-6\ndata: {}\n\nid: e-7\ndata: cut off"),
			refuse(503, `{"code":"unavailable","detail":"Later."}`),
			say("event: hello\nid: e-6\ndata: {}\n\nevent: notification\nid: e-7\ndata: {}\n\n"),
			refuse(401, `{"code":"token_expired","detail":"The token has expired."}`),
		))
		var got, waits []string
		var last error
		o := client.StreamOptions{LastEventID: "e-4", OnRetry: func(err error, in time.Duration) {
			waits = append(waits, in.String())
		}}
		for event, err := range c.Stream(t.Context(), o) {
			if err != nil {
				last = err
				continue
			}
			got = append(got, event.Type+" "+event.ID)
		}
		if want := "[hello e-5 notification e-6 hello e-6 notification e-7]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
		if want := "[e-4 e-6 e-6 e-7]"; fmt.Sprint(seen) != want {
			t.Errorf("resumed after %v, want %s", seen, want)
		}
		if want := "[7s 7s 7s]"; fmt.Sprint(waits) != want {
			t.Errorf("waited %v, want %s as the server said", waits, want)
		}
		var problem *client.Problem
		if !errors.As(last, &problem) || problem.Code != "token_expired" || client.Temporary(last) {
			t.Errorf("ended with %v, want the problem token_expired", last)
		}
	})
}

func TestStreamBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		m, c := serve(t, script(&seen, say("event: hello\nid: e-1\ndata: {}\n\n")))
		m.stop()
		began := time.Now()
		var waits []time.Duration
		o := client.StreamOptions{OnRetry: func(err error, in time.Duration) {
			waits = append(waits, in)
			if len(waits) == 12 {
				m.start()
			}
		}}
		for event, err := range c.Stream(t.Context(), o) {
			if err != nil || event.Type != client.EventHello {
				t.Fatalf("got %v, %v", event, err)
			}
			break
		}
		for i, w := range waits {
			full := min(time.Second<<i, 30*time.Second)
			if w < full/2 || w > full*3/2 {
				t.Errorf("wait %d: %v, want %v give or take half", i, w, full)
			}
		}
		if d := time.Since(began); len(waits) != 12 || d > 6*time.Minute {
			t.Errorf("%d waits, %v", len(waits), d)
		}
	})
}

// TestStreamNoticesSilence checks that a connection without any bytes, not even heartbeats, is closed, and that heartbeats are not
// yielded.
func TestStreamNoticesSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(w http.ResponseWriter, r *http.Request) {
			say("event: hello\nid: e-1\ndata: {}\n\n")(w, r)
			for range 4 {
				w.(http.Flusher).Flush()
				time.Sleep(15 * time.Second)
				fmt.Fprint(w, "event: heartbeat\ndata: {}\n\n")
			}
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		var seen []string
		_, c := serve(t, script(&seen, hang, say("event: bye\ndata: {}\n\n")))
		began, hellos := time.Now(), 0
		for event, err := range c.Stream(t.Context(), client.StreamOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Type == client.EventBye {
				break
			}
			hellos++
		}
		if d := time.Since(began); hellos != 1 || d < 95*time.Second || d > 105*time.Second {
			t.Errorf("%d hellos, given up after %v, want one and 60 s of heartbeats + 40 s + a second or so", hellos, d)
		}
	})
}

func TestStreamEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(w http.ResponseWriter, r *http.Request) {
			say("event: hello\nid: e-1\ndata: {}\n\n")(w, r)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		var seen []string
		_, c := serve(t, script(&seen, hang))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var last error
		for _, err := range c.Stream(ctx, client.StreamOptions{}) {
			last = err
		}
		if !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("ended with %v", last)
		}
	})
}

func TestStreamGivesUpForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, step := range map[string]func(http.ResponseWriter, *http.Request){
			"204":  refuse(204, ""),
			"404":  refuse(404, ""),
			"html": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
			"huge": say("data: " + strings.Repeat("x", 5<<20) + "\n\n"),
		} {
			var seen []string
			_, c := serve(t, script(&seen, step))
			n := 0
			for _, err := range c.Stream(t.Context(), client.StreamOptions{}) {
				n++
				if err == nil || client.Temporary(err) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n != 1 || len(seen) != 1 {
				t.Errorf("%s: %d events, %d connections", name, n, len(seen))
			}
		}
	})
}
