package sse

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
)

// The listeners of an announced topic get an event when a user begins or ends to listen, at whichever hub. Each hub publishes once
// a second which of its users have come and left. From that every hub has the whole audience, and sends its own listeners what
// has changed. A hub that may have lost such a message, as a gap in the beats shows, asks the others for all their users.

// audience is the users who listen to an announced topic, at all hubs. It exists while users of this hub listen. Users are named
// by their subject tokens.
type audience struct {
	name string // of the topic
	key  string // in the subject
	sub  *nats.Subscription

	// Hub.mu guards these.
	own     map[string]int       // the users at this hub with the number of their streams, which is 0 while they are leaving
	leaving map[string]time.Time // those without a stream, and since when
	came    map[string]bool      // those who have come since the last publication

	// The fields below belong to Run.
	droppedSeen int
	others      map[string]map[string]bool // the users at each other hub
	parts       map[string][]string        // the users of a hub that has not published all of them yet
	met         map[string]bool            // the hubs that have published all their users
	hubs        map[string]int             // the number of hubs at which a user listens
	changed     map[string]bool            // the users who have begun or ended to listen since the last announcement
}

// attendance is what a hub publishes about the audience of a topic.
type attendance struct {
	Hub  string   `json:"hub"`
	Came []string `json:"came,omitempty"`
	Left []string `json:"left,omitempty"`
	All  bool     `json:"all,omitempty"`  // Came has all users at the hub
	More bool     `json:"more,omitempty"` // the next message has more of them
	Ask  bool     `json:"ask,omitempty"`  // the other hubs publish all their users
}

// presenceChange is the data of the events join and leave.
type presenceChange struct {
	Users []string `json:"users"`
}

// The types of the live events that announce users.
const (
	joinType  = "join"
	leaveType = "leave"
)

const (
	// defaultLeaveGrace is the time after the last stream of a user until the user has left. A page that is loaded again, or
	// reconnects, takes less.
	defaultLeaveGrace = 5 * time.Second
	// maxAnnounced is the number of users whose changes are announced at a time. For more the listeners get a missed event, since
	// n events for n listeners each would be too many.
	maxAnnounced = 100
	// attendanceBuffer is the number of messages that may wait. More are dropped, and the hub asks for all users.
	attendanceBuffer = 1 << 10
)

func newAudience(name, key string) *audience {
	return &audience{
		name: name, key: key, own: make(map[string]int), leaving: make(map[string]time.Time), came: make(map[string]bool),
		others: make(map[string]map[string]bool), parts: make(map[string][]string), met: make(map[string]bool), hubs: make(map[string]int), changed: make(map[string]bool),
	}
}

// audienceLocked returns the audience of a topic, or nil if the topic is not announced.
func (h *Hub) audienceLocked(name, key string) (*audience, error) {
	if h.o.Announced == nil || !h.o.Announced(name) {
		return nil, nil
	}
	if a := h.audiences[key]; a != nil {
		return a, nil
	}
	a := newAudience(name, key)
	var err error
	if a.sub, err = h.nc.ChanSubscribe(h.ns.AudienceSubject(key), h.attendances); err != nil {
		return nil, fmt.Errorf("sse: audience of %s: %w", name, err)
	}
	h.audiences[key] = a
	h.publishAttendance(a, attendance{Ask: true})
	return a, nil
}

// joinLocked notes that a stream of a user listens.
func (a *audience) joinLocked(user string) {
	delete(a.leaving, user)
	if _, here := a.own[user]; !here {
		a.came[user] = true
	}
	a.own[user]++
}

// leaveLocked notes that a stream of a user no longer listens.
func (a *audience) leaveLocked(user string) {
	a.own[user]--
	if a.own[user] == 0 {
		a.leaving[user] = time.Now()
	}
}

// updateAudiences publishes what has changed here in the last second, and announces what has changed at all hubs. It ends the
// audiences without users here.
func (h *Hub) updateAudiences(now time.Time) {
	h.dropDeparted(now)
	h.mu.Lock()
	audiences := make([]*audience, 0, len(h.audiences))
	for key, a := range h.audiences {
		audiences = append(audiences, a)
		h.publishChangesLocked(a, now)
		if len(a.own) > 0 {
			continue
		}
		delete(h.audiences, key)
		if err := a.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			h.log.Warn("unsubscribe failed", "topic", key, "err", err)
		}
	}
	h.mu.Unlock()
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, a := range audiences {
		if n, err := a.sub.Dropped(); err == nil && n != a.droppedSeen {
			a.droppedSeen = n
			h.publishAttendance(a, attendance{Ask: true})
		}
		h.announceLocked(a)
	}
}

// publishChangesLocked publishes which users have come and left here since the last time.
func (h *Hub) publishChangesLocked(a *audience, now time.Time) {
	var came, left []string
	for user, since := range a.leaving {
		if now.Sub(since) < h.leaveGrace || a.came[user] {
			continue // who has just come is published first, since a listener may have fetched that user's name
		}
		delete(a.leaving, user)
		delete(a.own, user)
		left = append(left, user)
		a.remove(user)
	}
	for user := range a.came {
		came = append(came, user)
		a.add(user)
	}
	clear(a.came)
	for part := range slices.Chunk(came, namesPerMessage) {
		h.publishAttendance(a, attendance{Came: part})
	}
	for part := range slices.Chunk(left, namesPerMessage) {
		h.publishAttendance(a, attendance{Left: part})
	}
}

// publishAllLocked publishes all users who listen here, except for those who have just come and are published as such.
func (h *Hub) publishAllLocked(a *audience) {
	users := make([]string, 0, len(a.own))
	for user := range a.own {
		if !a.came[user] {
			users = append(users, user)
		}
	}
	for {
		n := min(len(users), namesPerMessage)
		h.publishAttendance(a, attendance{All: true, Came: users[:n], More: len(users) > n})
		if users = users[n:]; len(users) == 0 {
			return
		}
	}
}

// publishAttendance publishes a message to the other hubs with listeners of the topic. It does not block. An error is that of a
// closed connection, which Run notices.
func (h *Hub) publishAttendance(a *audience, m attendance) {
	m.Hub = h.name
	data, err := json.Marshal(m)
	if err == nil {
		_ = h.nc.Publish(h.ns.AudienceSubject(a.key), data)
	}
}

// onAttendance handles a message of another hub about an audience.
func (h *Hub) onAttendance(msg *nats.Msg) {
	var m attendance
	if json.Unmarshal(msg.Data, &m) != nil || !hubName.MatchString(m.Hub) || m.Hub == h.name {
		return // its own, or not sent by a hub
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	a := h.audiences[strings.TrimPrefix(msg.Subject, h.ns.AudienceSubject(""))]
	switch {
	case a == nil: // the last user here has left
	case m.Ask:
		h.publishAllLocked(a)
	case m.All:
		a.parts[m.Hub] = append(a.parts[m.Hub], m.Came...)
		if !m.More {
			if all := a.parts[m.Hub]; a.met[m.Hub] {
				a.replace(m.Hub, all)
			} else {
				a.met[m.Hub] = true
				a.begin(m.Hub, all)
			}
			delete(a.parts, m.Hub)
		}
	default:
		a.change(m.Hub, m.Came, m.Left)
	}
}

// change notes who has come and left at another hub.
func (a *audience) change(hub string, came, left []string) {
	users := a.others[hub]
	if users == nil {
		users = make(map[string]bool)
		a.others[hub] = users
	}
	for _, user := range came {
		if _, err := joblog.UnescapeUser(user); err == nil && !users[user] {
			users[user] = true
			a.add(user)
		}
	}
	for _, user := range left {
		switch {
		case users[user]:
			delete(users, user)
			a.remove(user)
		case a.hubs[user] == 0: // not noted yet here, but a listener here may have fetched the name from that hub
			a.changed[user] = true
		}
	}
	if len(users) == 0 {
		delete(a.others, hub)
	}
}

// begin notes all users at another hub for the first time. They listened before the audience of this hub existed, or while its beats
// were lost, so they are not announced. A listener here fetches who listens after that.
func (a *audience) begin(hub string, all []string) {
	changed := maps.Clone(a.changed)
	a.replace(hub, all)
	for _, user := range all {
		if !changed[user] {
			delete(a.changed, user)
		}
	}
}

// replace notes all users at another hub.
func (a *audience) replace(hub string, all []string) {
	here := make(map[string]bool, len(all))
	for _, user := range all {
		here[user] = true
	}
	var left []string
	for user := range a.others[hub] {
		if !here[user] {
			left = append(left, user)
		}
	}
	a.change(hub, all, left)
}

// add notes that a user listens at one hub more.
func (a *audience) add(user string) {
	if a.hubs[user]++; a.hubs[user] == 1 {
		a.changed[user] = true
	}
}

// remove notes that a user listens at one hub less.
func (a *audience) remove(user string) {
	if a.hubs[user]--; a.hubs[user] == 0 {
		delete(a.hubs, user)
		a.changed[user] = true
	}
}

// takeChanges returns the users to announce, as they are named outside, and forgets that they have changed. Who has left and come again
// meanwhile, or the other way round, is announced, too: a listener may have fetched the list in between.
func (a *audience) takeChanges() (join, leave []string) {
	for token := range a.changed {
		user, err := joblog.UnescapeUser(token)
		switch {
		case err != nil: // not sent by a hub
		case a.hubs[token] > 0:
			join = append(join, user)
		default:
			leave = append(leave, user)
		}
	}
	clear(a.changed)
	return join, leave
}

// announceLocked sends the listeners here the changes since the last announcement.
func (h *Hub) announceLocked(a *audience) {
	join, leave := a.takeChanges()
	t := h.topics[a.key]
	if t == nil || len(join)+len(leave) == 0 {
		return
	}
	joined, okJoin := presenceEvent(a.name, joinType, join)
	left, okLeave := presenceEvent(a.name, leaveType, leave)
	if len(join)+len(leave) > maxAnnounced || !okJoin || !okLeave {
		h.liveEvents.noteLost(t)
		t.miss()
		return
	}
	for _, frame := range [][]byte{joined, left} {
		if frame != nil {
			h.deliverEventLocked(delivery{a.name, frame, t.listeners})
		}
	}
}

// presenceEvent returns the frame of an event that announces users, or nil without users. It reports false if the event would be
// too large.
func presenceEvent(topic, typ string, users []string) (frame []byte, ok bool) {
	if len(users) == 0 {
		return nil, true
	}
	slices.Sort(users)
	data, err := json.Marshal(presenceChange{users})
	e := jobs.LiveEvent{Topic: topic, Type: typ, Data: data}
	if err != nil || len(data) > jobs.MaxLiveEventBytes/2 {
		return nil, false
	}
	return jsonFrame("live", e), true
}

// askAudiencesLocked asks the other hubs for all their users, after messages may have been lost.
func (h *Hub) askAudiencesLocked() {
	for _, a := range h.audiences {
		h.publishAttendance(a, attendance{Ask: true})
	}
}

// publishAudiencesLocked publishes all users who listen here, after own messages may have been lost.
func (h *Hub) publishAudiencesLocked() {
	for _, a := range h.audiences {
		h.publishAllLocked(a)
	}
}

// dropDeparted removes the users of hubs that have closed or become silent, once these have had the time to connect elsewhere.
func (h *Hub) dropDeparted(now time.Time) {
	for hub, since := range h.beats.departed {
		if now.Sub(since) < h.leaveGrace+h.o.Drain {
			continue
		}
		delete(h.beats.departed, hub)
		h.mu.RLock()
		for _, a := range h.audiences {
			delete(a.parts, hub)
			a.replace(hub, nil)
		}
		h.mu.RUnlock()
	}
}
