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
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/jobs"
)

// LinkTTL is how long a link to a file is valid.
const LinkTTL = time.Minute

// linkBucket holds the key that links are signed with.
const (
	linkBucket = "hark_link_key"
	linkKey    = "key"
)

// Links signs links that download one file for a minute, whoever follows them: for a browser, which sends no header when
// it follows a link. All processes on one JetStream share the key. It is safe for concurrent use.
type Links struct{ key []byte }

// OpenLinks returns the Links whose key is kept on js, and makes the key if it is missing. It blocks for a few round trips.
func OpenLinks(ctx context.Context, js jetstream.JetStream, replicas int) (*Links, error) {
	kv, err := jobs.BindBucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: linkBucket, Description: "hark: the key of links to files", Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err != nil {
		return nil, fmt.Errorf("auth: open the links: %w", err)
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	// Of several processes one makes the key, and all read it. A replica that lags has none yet: that is an error of this
	// call, which is made again.
	if _, err := kv.Create(ctx, linkKey, key); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return nil, fmt.Errorf("auth: open the links: %w", err)
	}
	entry, err := kv.Get(ctx, linkKey)
	if err != nil {
		return nil, fmt.Errorf("auth: open the links: %w", err)
	}
	if len(entry.Value()) != len(key) {
		return nil, fmt.Errorf("auth: the key of links has %d bytes, not %d", len(entry.Value()), len(key))
	}
	return &Links{entry.Value()}, nil
}

// Sign returns the text of a link to the file of a user's job, and when it ends to be valid.
func (l *Links) Sign(user, job string, run int) (link string, expiresAt time.Time) {
	expiresAt = time.Now().Add(LinkTTL).UTC().Truncate(time.Second)
	return l.sign(user, job, run, expiresAt), expiresAt
}

func (l *Links) sign(user, job string, run int, expiresAt time.Time) string {
	payload := fmt.Sprintf("%d %s %d %s", expiresAt.Unix(), job, run, user)
	return base64.RawURLEncoding.EncodeToString(append(l.mac(payload), payload...))
}

// Verify returns whose job a link is for, and which run of it, or an [*Error].
func (l *Links) Verify(link, job string) (user string, run int, err error) {
	invalid := refuse(CodeLinkInvalid, "The link to the file is not valid, or not any more; ask for a new one.")
	text, err := base64.RawURLEncoding.Strict().DecodeString(link)
	if err != nil || len(text) < sha256.Size || strings.ContainsAny(link, "\r\n") { // which the decoder passes over
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
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte("hark: link to a file\n" + payload))
	return h.Sum(nil)
}
