// Package jobs is the language that every part of hark speaks: what a [Job] and a [Notification] are,
// how they are named in NATS subjects, and the [Queue] that reads and writes them in JetStream.
//
// # The life of a job
//
//	              enqueue                     lease
//	(nothing) ───────────────▶ queued ─────────────────▶ running ──────▶ succeeded
//	                             ▲  │                     │   │  ▲
//	                       retry │  │ cancel        fails │   │  │ lease again, when the delay is over
//	                             │  │                     │   ▼  │
//	                             │  │                     │  retrying ──▶ cancelled
//	                             │  ▼                     ▼
//	                             ├─ cancelled           failed
//	                             └────────────────────────┘
//
// One stream holds everything. A job is one message on its own subject, and where it stands is the last
// message on another; a job without a state message is queued. Every write of a state is a
// compare-and-swap on the revision (the stream sequence) last read: that is the fence against a worker
// that lost its lease, and the way a cancel arrives.
//
// # The commit rule
//
// A job ends in four steps: its file is stored whole, its state goes to a terminal value by
// compare-and-swap, its notification is published under a key of its own, and its message is acked. A
// crash between any two is repaired by redelivery: whoever finds a terminal state repeats the last two
// steps, and never runs the handler again.
package jobs
