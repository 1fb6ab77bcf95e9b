// Package inbox is the log of what users were told: it can be listed, counted, marked and cleared, and it
// outlives the stream. It lives in SQLite or PostgreSQL, with the same behaviour.
//
//	store, err := inbox.Open("postgres://…") // or the path of a SQLite file
//	filler, err := inbox.NewFiller(inbox.FillerOptions{Store: store, JetStream: js, Epoch: queue.CurrentEpoch})
//	go filler.Run(ctx)
//
// # Who sees what
//
// A notification belongs to one audience: a user, or everyone ([jobs.Everyone]). A user's inbox is their
// own notifications and everyone's, newest first, in the order of the stream: by [jobs.EventID]. A
// broadcast is one row, however many users there are; what each did with it is kept beside it.
//
// # Exactly once
//
// The table also holds its own position in the stream. A [Filler] reads what stands behind it, and
// writes rows and the new position in one transaction, on the condition that the position is still where
// it read from. So whatever crashes, whoever else fills at the same time, and whichever backup is
// restored, each notification is in the table once, and [Store.Position] is exact: all that stands before
// it is there. A claim with a time limit, in the same row, keeps other processes from doing the same work;
// it saves effort, correctness does not rest on it.
//
// It gathers: after the first notification it rests for [gather], so that one transaction takes many. Who
// waits for a position ([Store.WaitFor]) or looks at the first page ([Store.List]) through the same Store
// ends the rest. In another process one waits for it to be over.
//
// Beside that, appending is idempotent on (audience, key), until [Store.Expire] forgets it.
// What a user deleted stays as an empty row for as long.
package inbox
