-- The notifications. A broadcast is one row for each stream of the log: with the audience _all for the first stream, and for another
-- one with the byte 255 and the number of its first shard after that. Texts from requests are stored as bytes: a user id is compared
-- byte by byte, and the database refuses no character. Times are Unix milliseconds; 0 means not yet.
--
-- The table is partitioned by created_at. Each partition has a unique index of its key_id of its own, which a partitioned table cannot
-- have: see partition.go. There is no partition DEFAULT: creating another one would scan it, while readers wait.
CREATE TABLE {notifications} (
  audience   BYTEA   NOT NULL,
  epoch      BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL,
  key_id     BYTEA   NOT NULL, -- the key's first 10 bytes, then 16 bytes of a SHA-256 over audience and key
  job_id     BYTEA,
  created_at BIGINT  NOT NULL,
  read_at    BIGINT  NOT NULL DEFAULT 0, -- for a user's own; a broadcast's is in the two tables below
  deleted    SMALLINT NOT NULL DEFAULT 0, -- a deleted row stays, empty, so that it does not come back
  body       BYTEA   NOT NULL
) PARTITION BY RANGE (created_at);
CREATE INDEX {prefix}notifications_age    ON {notifications} USING brin (created_at);
-- With created_at, so that counting does not read the rows.
CREATE INDEX {prefix}notifications_unread ON {notifications} (audience, epoch, seq) INCLUDE (created_at) WHERE deleted = 0 AND read_at = 0;
CREATE INDEX {prefix}notifications_read   ON {notifications} (audience, epoch, seq) WHERE deleted = 0 AND read_at <> 0;

-- Notifications that were created before have expired. They are invisible, and deleted with their partition. Every transaction that
-- appends locks the one row.
CREATE TABLE {expiry} (
  one            BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  created_before BIGINT  NOT NULL DEFAULT 0
);
INSERT INTO {expiry} DEFAULT VALUES;

-- The receipts: a user has read or deleted one broadcast.
CREATE TABLE {receipts} (
  reader  BYTEA   NOT NULL,
  epoch   BIGINT  NOT NULL,
  seq     BIGINT  NOT NULL,
  read_at BIGINT  NOT NULL DEFAULT 0,
  deleted SMALLINT NOT NULL DEFAULT 0,
  PRIMARY KEY (reader, epoch, seq)
);
CREATE INDEX {prefix}receipts_event ON {receipts} (epoch, seq);

-- The read positions: at read_at a user has read all broadcasts up to this one. If several rows cover a broadcast, the first says when it
-- was read.
CREATE TABLE {read_positions} (
  reader  BYTEA   NOT NULL,
  epoch   BIGINT  NOT NULL,
  seq     BIGINT  NOT NULL,
  read_at BIGINT  NOT NULL,
  PRIMARY KEY (reader, epoch, seq)
);
CREATE INDEX {prefix}read_positions_event ON {read_positions} (epoch, seq);

-- The positions: up to which sequence of each epoch of a stream all notifications are in the table, and which ingester has the lease.
-- A stream has the name of the audience of its broadcasts.
CREATE TABLE {positions} (
  epoch       BIGINT  NOT NULL,
  stream      BYTEA   NOT NULL,
  seq         BIGINT  NOT NULL DEFAULT 0,
  ingester    TEXT    NOT NULL DEFAULT '',
  lease_until BIGINT  NOT NULL DEFAULT 0,
  PRIMARY KEY (epoch, stream)
);

-- How far a move of another inbox into these tables is, in one row: see move.go.
CREATE TABLE {moves} (
  id       INTEGER PRIMARY KEY,
  source   TEXT    NOT NULL,
  step     INTEGER NOT NULL DEFAULT 0,
  row_key  BYTEA   NOT NULL,
  epoch    BIGINT  NOT NULL DEFAULT 0,
  seq      BIGINT  NOT NULL DEFAULT 0,
  copied   BIGINT  NOT NULL DEFAULT 0,
  finished SMALLINT NOT NULL DEFAULT 0
);
