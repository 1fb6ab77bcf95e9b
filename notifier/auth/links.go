package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
)

// LinkTTL is how long a link to a file is valid.
const LinkTTL = time.Minute

// linkKey is the name of the key in its bucket.
const linkKey = "key"

// Links signs links that download one file. A link needs no token and is valid for [LinkTTL]. It is for browsers, which send
// no header when they follow a link. All processes of one hark share the key. Links is safe for concurrent use.
type Links struct {
	kv  *joblog.Bucket
	key atomic.Pointer[[]byte]
}

// OpenLinks returns the Links whose key is stored beside the log of the store, and creates the key if it is missing. It blocks
// for a few round trips.
func OpenLinks(ctx context.Context, store *joblog.Store) (*Links, error) {
	kv, err := store.BindBucket(ctx, joblog.LinkConfig(store.Namespace()), "nothing: a running process stores the key of links again")
	if err != nil {
		return nil, fmt.Errorf("auth: open the links: %w", err)
	}
	key := make([]byte, linkKeySize)
	rand.Read(key) // never fails
	l := &Links{kv: kv}
	l.key.Store(&key)
	if err := l.sync(ctx); err != nil {
		return nil, fmt.Errorf("auth: open the links: %w", err)
	}
	return l, nil
}

// linkKeySize is the size of the key in bytes.
const linkKeySize = 32

// linkPeriod is how often it is checked that the key is still stored.
const linkPeriod = 10 * time.Second

// Run stores the key again when its bucket was deleted or lost, and uses the key that another process has stored, until
// ctx ends. Errors are retried. It always returns nil.
func (l *Links) Run(ctx context.Context) error {
	tick := time.NewTicker(linkPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = l.sync(ctx) // JetStream cannot be reached, which the health checks report
		}
	}
}

// sync makes the stored key the key of the links. If none is stored, it stores the key of this process. Of several processes
// one stores its key, and all read it.
func (l *Links) sync(ctx context.Context) error {
	entry, err := l.kv.Get(ctx, linkKey) // before anything is written: the disk may be full
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if _, err := l.kv.Create(ctx, linkKey, *l.key.Load()); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		entry, err = l.kv.Get(ctx, linkKey)
	}
	if err != nil {
		return err
	}
	key := entry.Value()
	if len(key) != linkKeySize {
		return fmt.Errorf("the key of links has %d bytes, not %d", len(key), linkKeySize)
	}
	l.key.Store(&key)
	return nil
}

// Sign returns the text of a link to the file of a run of a user's job, and when the link expires. It does not block.
func (l *Links) Sign(user, job string, run int) (link string, expiresAt time.Time) {
	expiresAt = time.Now().Add(LinkTTL).UTC().Truncate(time.Second)
	return l.sign(user, job, run, expiresAt), expiresAt
}

func (l *Links) sign(user, job string, run int, expiresAt time.Time) string {
	payload := fmt.Sprintf("%d %s %d %s", expiresAt.Unix(), job, run, user)
	return base64.RawURLEncoding.EncodeToString(append(l.mac(payload), payload...))
}

// Verify returns the user and the run of a link to the file of job. If the link is invalid, the error is an [*Error].
func (l *Links) Verify(link, job string) (user string, run int, err error) {
	invalid := newError(CodeLinkInvalid, "The link to the file is invalid or has expired; request a new one.")
	text, err := base64.RawURLEncoding.Strict().DecodeString(link)
	if err != nil || len(text) < sha256.Size || strings.ContainsAny(link, "\r\n") { // the decoder ignores these
		return "", 0, invalid
	}
	payload := string(text[sha256.Size:])
	if !hmac.Equal(text[:sha256.Size], l.mac(payload)) {
		return "", 0, invalid
	}
	parts := strings.SplitN(payload, " ", 4)
	expires, err1 := strconv.ParseInt(parts[0], 10, 64)
	if len(parts) < 4 || err1 != nil || parts[1] != job || !time.Now().Before(time.Unix(expires, 0)) {
		return "", 0, invalid
	}
	if run, err = strconv.Atoi(parts[2]); err != nil {
		return "", 0, invalid
	}
	return parts[3], run, nil
}

func (l *Links) mac(payload string) []byte {
	h := hmac.New(sha256.New, *l.key.Load())
	h.Write([]byte("hark: link to a file\n" + payload))
	return h.Sum(nil)
}
