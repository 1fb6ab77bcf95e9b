// Package faults has what the users of a program that pushes messages to browsers expect, and the steps of docs/from-scratch.md
// lack. Each method of [App] plays one situation and returns what a user misses, or nil.
//
// The test of a step passes if the fault of that step is there and that of the step before is not. The last step, with hark, has none.
package faults

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// SecondTab: a user has two tabs. Both get a message.
func (a *App) SecondTab() error {
	one, two := a.Open("ana"), a.Open("ana")
	a.Send("ana", "hello")
	return errors.Join(a.gets(one, "hello"), a.gets(two, "hello"))
}

// SlowTab: a tab of one user does not read. Other users get their messages.
func (a *App) SlowTab() error {
	slow, bob := a.OpenSlow("ana"), a.Open("bob")
	if !a.sendMany("ana") {
		slow.Read() // so that the program can end
		return errors.New("the program waits for a tab that does not read, and everybody waits for the program")
	}
	a.Send("bob", "hello")
	return a.gets(bob, "hello")
}

// SlowTabMissesNothing: a tab does not read for a while. Then it reads, and gets all messages.
func (a *App) SlowTabMissesNothing() error {
	slow := a.OpenSlow("ana")
	a.sendMany("ana")
	return a.gets(slow, many()...)
}

// Away: a tab is away for a while. When it is back it gets what was sent meanwhile.
func (a *App) Away() error {
	tab := a.Open("ana")
	a.Send("ana", "one")
	tab.mustGet("one")
	tab.Close()
	a.Send("ana", "two")
	return a.gets(tab.Reopen(), "two")
}

// Restart: the program is restarted while a tab is away. The tab gets what was sent before the restart and after it.
func (a *App) Restart() error {
	tab := a.Open("ana")
	a.Send("ana", "one")
	tab.mustGet("one")
	tab.Close()
	a.Send("ana", "two")
	a.restart()
	a.Send("ana", "three")
	return a.gets(tab.Reopen(), "two", "three")
}

// SimilarNames: the name of one user is part of the name of another. Each gets their own messages.
func (a *App) SimilarNames() error {
	tab := a.Open("a@b.c")
	a.Send("aa@b.c", "for aa@b.c")
	a.Send("a@b.c", "for a@b.c")
	return a.gets(tab, "for a@b.c")
}

// Log: the log of the program has nothing with which somebody else could be this user.
func (a *App) Log() error {
	a.Open("ana")
	secret, log := a.process.as("ana").secret, a.o.Log()
	if !strings.Contains(log, "GET ") {
		a.t.Fatalf("the log has no requests: %q", log)
	}
	if strings.Contains(log, secret) {
		return fmt.Errorf("the log has the token of ana: %s", log)
	}
	return nil
}

// TabCloses: the tab that asked for a report is closed before the report is done. The user's other tab gets the message.
func (a *App) TabCloses() error {
	tab := a.Open("ana")
	leave := a.report("ana")
	leave()
	a.o.Work.Finish()
	a.process.waitUntilAnswered("/report")
	return a.gets(tab, "Report is done")
}

// Deploy: the program is restarted before a report is done. The report is made all the same.
func (a *App) Deploy() error {
	tab := a.Open("ana")
	a.Send("ana", "one")
	tab.mustGet("one")
	a.report("ana")
	a.restart()
	a.o.Work.Finish()
	return a.gets(tab.Reopen(), "Report is done")
}

// TwoProcesses: a message is sent through one process, and the tab is at another.
func (a *App) TwoProcesses() error {
	tab := a.Open("ana")
	a.start().send("ana", "hello")
	return a.gets(tab, "hello")
}

// JobTwice: another process starts while a report is made. The report is made once.
func (a *App) JobTwice() error {
	tab := a.Open("ana")
	a.report("ana")
	a.start()
	if a.o.Twice != nil {
		a.o.Twice()
	} else {
		a.o.Work.Finish()
		tab.mustGet("Report is done")
	}
	if n := a.o.Work.Runs(); n != 1 {
		return fmt.Errorf("the report is made %d times", n)
	}
	return nil
}

// gets returns an error unless the next messages of a tab are these.
func (a *App) gets(tab *Tab, want ...string) error {
	next := tab.next
	switch a.o.Lacks {
	case UntilMark:
		next = a.untilMark(tab)
	case UntilEnd:
		tab.process.end()
	}
	for i, text := range want {
		got, ok := next()
		if !ok {
			return fmt.Errorf("%s gets %d of %d messages: %.40q is missing", tab.user, i, len(want), text)
		}
		if got != text {
			return fmt.Errorf("%s gets %.40q, and not %.40q", tab.user, got, text)
		}
	}
	return nil
}

// untilMark sends a last message to the user of a tab until the tab gets it, and returns those before it, one by one.
func (a *App) untilMark(tab *Tab) (next func() (string, bool)) {
	const mark = "the last message"
	tab.Read()
	var got []string
	for end := time.Now().Add(limit); ; {
		a.Send(tab.user, mark)
		for again := time.After(50 * time.Millisecond); again != nil; {
			select {
			case text := <-tab.messages:
				if text == mark {
					return func() (string, bool) {
						if len(got) == 0 {
							return "", false
						}
						text := got[0]
						got = got[1:]
						return text, true
					}
				}
				got = append(got, text)
			case <-again:
				again = nil // a program may have had no room for it
			}
		}
		if time.Now().After(end) {
			a.t.Fatalf("the tab of %s does not get the last message", tab.user)
		}
	}
}

// many returns messages that no connection has room for.
func many() (all []string) {
	for i := range 300 {
		all = append(all, fmt.Sprint(i, strings.Repeat("…", 3900)))
	}
	return all
}

// sendMany sends many messages to a user. It returns false if the program waits for ever.
func (a *App) sendMany(user string) bool {
	answered := make(chan int, len(many()))
	go func() {
		defer close(answered)
		for i, text := range many() {
			a.Send(user, text)
			answered <- i + 1
		}
	}()
	sent := 0
	for end := time.Now().Add(limit); ; {
		select {
		case n, ok := <-answered:
			if !ok {
				return true
			}
			sent = n
		case <-time.After(5 * time.Millisecond):
			if a.o.Stuck != nil && a.o.Stuck(sent) {
				a.later(func() {
					for range answered {
					}
				})
				return false
			}
			if time.Now().After(end) {
				a.t.Fatalf("the program has answered %d messages and does not answer the next one", sent)
			}
		}
	}
}
