-- The notifications. A broadcast is one row for each stream of the log: with the audience _all for the first stream, and for another
-- one with the byte 255 and the number of its first shard after that. Texts from requests are stored as bytes: a user id is compared
-- byte by byte, and the database refuses no character. Times are Unix milliseconds; 0 means not yet.
CREATE TABLE {notifications} (
  id         INTEGER PRIMARY KEY,
  audience   BLOB    NOT NULL,
  epoch      INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  key_id     BLOB    NOT NULL, -- the key's first 10 bytes, then 16 bytes of a SHA-256 over audience and key
  job_id     BLOB,
  created_at INTEGER NOT NULL,
  read_at    INTEGER NOT NULL DEFAULT 0, -- for a user's own; a broadcast's is in the two tables below
  deleted    INTEGER NOT NULL DEFAULT 0, -- a deleted row stays, empty, so that it does not come back
  body       BLOB    NOT NULL
);
-- New rows go to the end of the first two indexes, since keys tend to begin with the time: hark's own begin with a ULID, and the key
-- of the notification of a job's end begins with the job's id. Only in the third index a new row goes to a random place.
CREATE UNIQUE INDEX {prefix}notifications_key    ON {notifications} (key_id);
CREATE INDEX        {prefix}notifications_age    ON {notifications} (created_at);
CREATE INDEX        {prefix}notifications_unread ON {notifications} (audience, epoch, seq) WHERE deleted = 0 AND read_at = 0;
CREATE INDEX        {prefix}notifications_read   ON {notifications} (audience, epoch, seq) WHERE deleted = 0 AND read_at <> 0;

-- The receipts: a user has read or deleted one broadcast.
CREATE TABLE {receipts} (
  reader  BLOB    NOT NULL,
  epoch   INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  read_at INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (reader, epoch, seq)
) WITHOUT ROWID;
CREATE INDEX {prefix}receipts_event ON {receipts} (epoch, seq);

-- The read positions: at read_at a user has read all broadcasts up to this one. If several rows cover a broadcast, the first says when it
-- was read.
CREATE TABLE {read_positions} (
  reader  BLOB    NOT NULL,
  epoch   INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  read_at INTEGER NOT NULL,
  PRIMARY KEY (reader, epoch, seq)
) WITHOUT ROWID;
CREATE INDEX {prefix}read_positions_event ON {read_positions} (epoch, seq);

-- The positions: up to which sequence of each epoch of a stream all notifications are in the table, and which ingester has the lease.
-- A stream has the name of the audience of its broadcasts.
CREATE TABLE {positions} (
  epoch       INTEGER NOT NULL,
  stream      BLOB    NOT NULL,
  seq         INTEGER NOT NULL DEFAULT 0,
  ingester    TEXT    NOT NULL DEFAULT '',
  lease_until INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (epoch, stream)
);

-- How far a move of another inbox into these tables is, in one row: see move.go.
CREATE TABLE {moves} (
  id       INTEGER PRIMARY KEY,
  source   TEXT    NOT NULL,
  step     INTEGER NOT NULL DEFAULT 0,
  row_key  BLOB    NOT NULL,
  epoch    INTEGER NOT NULL DEFAULT 0,
  seq      INTEGER NOT NULL DEFAULT 0,
  copied   INTEGER NOT NULL DEFAULT 0,
  finished INTEGER NOT NULL DEFAULT 0
);
