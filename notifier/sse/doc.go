// Package sse serves event streams (Server-Sent Events) and delivers each user's events to them.
//
//	NATS hark.live.<shard>.<user>.> ──▶ hub ──▶ user's streams ──▶ stream ──▶ conn ──▶ browser
//	                                                                │ ▲
//	                                               catching up? ────┘ └── the log (JetStream)
//
// A [Hub] has one core NATS subscription per connected user, or one for all users ([Options.SubscribeAll]).
// It encodes each message once, as a frame that all of the user's streams share. A stream writes frames to its
// connection. Nothing else is kept per stream while its reader keeps up.
//
// # Guarantees
//
// A stream writes every notification of its user and every broadcast, once, in the order of the log. Job states
// are merged: the latest wins.
//
//  1. A stream is subscribed before it asks for the end of the log. So it knows every message as stored before
//     that end, or as live.
//  2. A live notification names its predecessor on its subject. A stream with another position has missed
//     something, and catches up from the log.
//  3. A stream that catches up does not keep live notifications. It keeps only their greatest sequence, and reads
//     the log up to there. The log is the buffer.
//  4. The id of an event speaks for two subjects: the user's notifications and the broadcasts. Nothing is written
//     before all that is older on either subject. So a replay stops at a sequence that was known before it began,
//     and a user gets all earlier broadcasts before a notification (broadcast.go).
//  5. NATS counts a dropped message, and signals a reconnect, before it delivers anything later. So a check before
//     each notification is enough to find what was lost (loss.go).
//
// # Live events
//
// A live event is published on the subject of its topic (topics.go). It is not in the log, and has no id. The hub has one
// subscription per topic, whatever the number of listeners, and delivers the events of all topics in the order of their
// arrival (liveevent.go), beside notifications and in no order with them. A stream without room for one does not keep it. It
// writes a missed event instead, once there is room, and so does every stream with topics when events may have been lost on
// their way to the hub: with the connection, by a full channel, or with a route between NATS servers (beat.go).
//
// # Locks
//
// A goroutine acquires locks in this order, and may skip some:
//
//	Hub.mu → stream.mu → the connection's mu (socketConn, handlerConn, pollSession) → poller.mu
//	Hub.mu → pollSessions.mu → pollSession.mu
//
// A method whose name ends in Locked needs a lock that its caller holds: its receiver's own mu, or Hub.mu for the
// methods of Hub, userStreams and broadcasts, and for those that end in HubLocked. Hub.mu may be held for reading
// unless the method adds or removes a stream.
//
// Two calls go against the order, and run on goroutines of their own: a stream that ends removes itself from the
// hub (cutLocked), and a socket that is closed ends its stream (socketConn.closeLocked).
//
// The fields of Hub that belong to Run have no lock. While Run calls forEachParallel, each goroutine has other
// users.
package sse
