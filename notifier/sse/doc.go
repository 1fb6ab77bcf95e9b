// Package sse keeps browsers' event streams open and brings each user's news to theirs.
//
//	NATS live.<user>.> ──▶ hub ──▶ feed of the user ──▶ stream ──▶ wire ──▶ browser
//	                                                      │ ▲
//	                                  behind? reads ──────┘ └── the log (JetStream)
//
// A [Hub] has one core subscription per connected user, or one for all ([Options.HearAll]), and turns each
// message into one frame, which all of the user's streams share. A stream is where the log and the live
// messages meet:
//
//   - It is subscribed first, or its feed is among those that all messages are for. Then it learns where the
//     log stands, and from there on it knows, by the marks it keeps and by what each live message says of its
//     predecessor, whether it has missed anything.
//   - What it missed it reads from the log. Notifications that arrive live meanwhile are not kept, only the
//     greatest sequence of theirs: the log has them all, so the log is the buffer.
//   - When it has read up to there, it is live, and gets frames as they come.
//
// A reader resumes from one id, and it speaks for two subjects: the user's notifications and everyone's.
// So no id may be written before everything older is, on either subject. The log is read only up to where it
// was known to stand before the reading began; and before a live notification is handed out the hub looks
// whether the connection was lost or messages were dropped until then, for a drop is counted, and a new
// connection told of, before anything that follows gets through (loss.go).
//
// A broadcast goes to some feeds at a time, and what else is heard meanwhile comes in between. Before a feed is
// handed a notification of its user it is handed the broadcasts stored before that one (broadcast.go).
//
// So notifications are written whole, in order, once; job states are merged, the latest wins.
package sse
