-- What users were told. A broadcast is one row, whose audience is _all. Text that comes from outside is
-- kept as bytes: a user id is compared byte by byte, and nothing in it can be refused. Times are Unix
-- milliseconds; 0 means not yet.
CREATE TABLE hark_notes (
  id         BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  audience   BYTEA   NOT NULL,
  epoch      BIGINT  NOT NULL,
  seq        BIGINT  NOT NULL,
  key_id     BYTEA   NOT NULL, -- the key's first 10 bytes, then 16 bytes of a SHA-256 over audience and key
  job_id     BYTEA,
  created_at BIGINT  NOT NULL,
  read_at    BIGINT  NOT NULL DEFAULT 0, -- of a user's own; a broadcast's is in the two tables below
  deleted    SMALLINT NOT NULL DEFAULT 0, -- a deleted row stays, empty, so that it does not come back
  body       BYTEA   NOT NULL
);
-- What is new goes to the end of the first two, since keys tend to begin with the time: hark's own with a
-- ULID, and so does the key of what is told of a job, with the job's id. Only the third takes it anywhere.
CREATE UNIQUE INDEX hark_notes_key    ON hark_notes (key_id);
CREATE INDEX        hark_notes_age    ON hark_notes (created_at);
CREATE INDEX        hark_notes_unread ON hark_notes (audience, epoch, seq) WHERE deleted = 0 AND read_at = 0;
CREATE INDEX        hark_notes_read   ON hark_notes (audience, epoch, seq) WHERE deleted = 0 AND read_at <> 0;

-- What a user did with one broadcast: read it, or deleted it.
CREATE TABLE hark_marks (
  reader  BYTEA   NOT NULL,
  epoch   BIGINT  NOT NULL,
  seq     BIGINT  NOT NULL,
  read_at BIGINT  NOT NULL DEFAULT 0,
  deleted SMALLINT NOT NULL DEFAULT 0,
  PRIMARY KEY (reader, epoch, seq)
);
CREATE INDEX hark_marks_event ON hark_marks (epoch, seq);

-- A user read all broadcasts up to this one, then. Of several rows the first that covers a broadcast says
-- when it was read.
CREATE TABLE hark_read_up_to (
  reader  BYTEA   NOT NULL,
  epoch   BIGINT  NOT NULL,
  seq     BIGINT  NOT NULL,
  read_at BIGINT  NOT NULL,
  PRIMARY KEY (reader, epoch, seq)
);
CREATE INDEX hark_read_up_to_event ON hark_read_up_to (epoch, seq);

-- How far each incarnation of the stream is in hark_notes, and which process fills it until when.
CREATE TABLE hark_positions (
  epoch         BIGINT  PRIMARY KEY,
  seq           BIGINT  NOT NULL DEFAULT 0,
  filler        TEXT    NOT NULL DEFAULT '',
  claimed_until BIGINT  NOT NULL DEFAULT 0
);
