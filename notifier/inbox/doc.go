// Package inbox stores the notifications of users in SQLite or PostgreSQL, with the same behaviour. They can be listed, counted,
// marked as read and deleted, and are kept longer than in the stream.
//
//	store, err := inbox.Open("postgres://…", inbox.Options{}) // or the path of a SQLite file
//	ingester, err := inbox.NewIngester(inbox.IngesterOptions{Store: store, JetStream: js,
//		Epoch: queue.CurrentEpoch, BeginEpoch: queue.BeginEpoch})
//	go ingester.Run(ctx)
//
// # In a database of the program
//
// [NewPostgres] and [NewSQLite] use handles that the caller owns, and [Store.Close] leaves them open. The caller can choose the
// schema of the tables, or a prefix of their names:
//
//	store, err := inbox.NewPostgres(pool, inbox.Options{Schema: "hark"})
//	store, err := inbox.NewSQLite(write, read, inbox.Options{TablePrefix: "app_inbox_"})
//
// The first call migrates the tables. For that the database user needs the right to create a schema, or to create tables in an
// existing one. Without it the error says what to grant. In SQLite that is all. In PostgreSQL notifications are in partitions by time,
// which are created and dropped every four weeks, so the user must own the tables or be a member of their owner.
//
// # Audiences
//
// A notification has one audience: a user, or everyone ([jobs.Everyone]). A user's inbox has the user's own notifications and
// the broadcasts, newest first, in the order of the stream: by [jobs.NotificationID]. A broadcast is one row for all users; another
// table has what each user did with it.
//
// # Exactly once
//
// The database also has the inbox's position in the stream. An [Ingester] reads the messages after the position. It writes the
// rows and the new position in one transaction, which is conditional on the old position. So each notification is in the table
// once, and the inbox has every notification up to [Store.Position]: after crashes, with several ingesters at a time, and after
// a backup was restored. A lease in the same row keeps other processes from doing the same work. It saves effort; correctness
// does not depend on it.
//
// The ingester batches: after the first notification it waits for up to [batchDelay], so that one transaction stores many.
// [Store.WaitFor] and the first page of [Store.List] on the same Store make it flush early. Other processes wait.
//
// Appending is idempotent by audience and key, until [Store.Expire] deletes the row. A notification that a user has deleted
// stays as an empty row until then.
package inbox
