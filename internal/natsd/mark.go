package natsd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// markFile is the synced file with the positions of a server's streams. It is in the folder of the streams, so that a copy of
// the folder has both.
const markFile = "hark-mark.json"

// mark is the content of markFile.
type mark struct {
	// Boot is the [bootID] at the time of writing. Until the next boot all writes are visible, synced or not.
	Boot string `json:"boot,omitempty"`
	// Clean says that the server was stopped and everything was synced. Blocks has the size of each block then.
	Clean  bool             `json:"clean"`
	Blocks map[string]int64 `json:"blocks,omitempty"`
	// Sync says that each write was synced before its ack.
	Sync bool `json:"sync"`
	// Epoch is the epoch of the last [Server.Settle].
	Epoch   int64               `json:"epoch"`
	Streams map[string]position `json:"streams"`
	// Open has the unsettled losses.
	Open []Loss `json:"open,omitempty"`
	// Known has the keys of settled damage ([Loss.key]), which is found again until the server drops it.
	Known []string `json:"known,omitempty"`
}

// position is the creation time and the last sequence of a stream.
type position struct {
	Created time.Time `json:"created"`
	Last    uint64    `json:"last"`
}

// Reasons of a [Loss].
const (
	Damaged  = "damaged"    // stored data is not what was written
	WentBack = "went back"  // a stream ends before messages that it had
	Missing  = "missing"    // a stream does not exist any more
	Maybe    = "maybe lost" // data was not synced, and the operating system was restarted
	Unknown  = "not known"  // there is no mark with the positions of the streams
)

// Loss is data that the folder has lost, or may have lost.
type Loss struct {
	Reason string `json:"reason"`
	Stream string `json:"stream,omitempty"`
	File   string `json:"file,omitempty"` // in the folder
	// Detail says what is lost, if that is known.
	Detail string `json:"detail"`
	// Certain losses have happened. Others are possible.
	Certain bool `json:"certain"`

	// Place is the offset of the damage in File, and Bytes its size. Place is -1 if the size of File differs from that after
	// the last orderly stop.
	Place int `json:"place,omitempty"`
	Bytes int `json:"bytes,omitempty"`
}

func (l Loss) String() string {
	of := strings.TrimSpace(l.Stream + " " + l.File)
	if of == "" {
		return l.Reason + ": " + l.Detail
	}
	return l.Reason + ": " + of + ": " + l.Detail
}

// key identifies damage, which is found again at each start until the file changes.
func (l Loss) key() string { return fmt.Sprintf("%s %s@%d+%d", l.Stream, l.File, l.Place, l.Bytes) }

// stays reports whether the loss is found again at each start. Losses that are found by comparison are found once, since the next
// orderly stop records the new sizes.
func (l Loss) stays() bool { return l.Reason == Damaged && l.Place >= 0 }

// readMark returns the mark in a folder, nil if there is none. A malformed mark counts as none: the positions are unknown then,
// which is a [Loss] of its own.
func readMark(dir string) (*mark, error) {
	text, err := os.ReadFile(filepath.Join(dir, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("natsd: %w", err)
	}
	var m mark
	if json.Unmarshal(text, &m) != nil {
		return nil, nil
	}
	return &m, nil
}

// write replaces the mark in a folder, and syncs it. If the disk has no room for both, it overwrites the old mark: a crash at that
// moment leaves a malformed mark, and so a [Loss].
func (m *mark) write(dir string) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, markFile)
	if err := writeSynced(path+".new", text); err != nil {
		os.Remove(path + ".new") // frees space
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) || overwriteSynced(path, text) != nil {
			return fmt.Errorf("natsd: %w", err)
		}
		return nil
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	return syncPath(dir)
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// overwriteSynced overwrites a file with JSON without truncating it, so that it needs no further disk space.
func overwriteSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if more := info.Size() - int64(len(text)); more > 0 {
		text = append(text, bytes.Repeat([]byte(" "), int(more))...)
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// syncPath syncs a file, or the entries of a folder, to the disk. It ignores a path that does not exist. Windows cannot sync
// folders, and files only if they are writable.
func syncPath(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() && runtime.GOOS == "windows" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	mode := os.O_RDWR
	if info.IsDir() {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	return nil
}

// syncAll syncs everything in a folder to the disk, since the server closes its files without syncing them.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return syncPath(path)
	})
}

// findLosses compares the survey of the folder from before the start, and the positions of the running server, with the mark of the
// last run, which may be nil. boot is the current [bootID]; empty if it is unknown.
func findLosses(m *mark, found survey, now map[string]position, boot string) (losses []Loss) {
	losses = append(losses, found.losses...)
	if m == nil {
		if len(now) > 0 {
			losses = append(losses, Loss{Reason: Unknown, Detail: "there are streams, and no mark with their positions"})
		}
		return losses
	}
	losses = append(losses, m.Open...)
	rebooted := boot == "" || boot != m.Boot
	for _, name := range slices.Sorted(maps.Keys(m.Streams)) {
		was := m.Streams[name]
		is, there := now[name]
		if !there {
			losses = append(losses, Loss{Reason: Missing, Stream: name, Certain: true,
				Detail: fmt.Sprintf("the stream does not exist any more; it had messages up to %d", was.Last)})
			continue
		}
		if !is.Created.Equal(was.Created) {
			continue // the stream was created again
		}
		last := is.Last
		if n, ok := found.last[name]; ok {
			last = min(last, n) // the server's index may be ahead of its blocks
		}
		if last < was.Last {
			losses = append(losses, Loss{Reason: WentBack, Stream: name, Certain: true,
				Detail: fmt.Sprintf("the stream ends at message %d; it had messages up to %d or more", last, was.Last)})
		}
	}
	switch {
	case m.Clean:
		losses = append(losses, changed(m.Blocks, found)...)
	case rebooted && !m.Sync:
		losses = append(losses, Loss{Reason: Maybe, Detail: "the operating system was restarted while the server was running, and the last messages may not have been synced"})
	}
	return losses
}

// changed returns the losses of blocks that have changed since the last orderly stop.
func changed(blocks map[string]int64, found survey) (losses []Loss) {
	for _, file := range slices.Sorted(maps.Keys(blocks)) {
		size, there := found.sizes[file]
		detail := ""
		switch {
		case !there:
			detail = fmt.Sprintf("the file is gone; it had %d bytes", blocks[file])
		case size < blocks[file]:
			detail = fmt.Sprintf("the file has %d bytes; it had %d", size, blocks[file])
		case slices.Contains(found.torn, file):
			detail = "its last message is incomplete"
		default:
			continue
		}
		losses = append(losses, Loss{Reason: Damaged, Stream: streamOf(file), File: file, Detail: detail, Certain: true, Place: -1})
	}
	return losses
}

// streamOf returns the stream whose block has this path in the folder: jetstream/<account>/streams/<stream>/msgs/<n>.blk.
func streamOf(file string) string { return filepath.Base(filepath.Dir(filepath.Dir(file))) }

// positions returns the positions of a server's streams.
func positions(ns *server.Server) (map[string]position, error) {
	detail, err := ns.JszAccount(&server.JSzOptions{Account: server.DEFAULT_GLOBAL_ACCOUNT, Streams: true, Config: true})
	if err != nil {
		return nil, fmt.Errorf("natsd: %w", err)
	}
	now := make(map[string]position, len(detail.Streams))
	for _, s := range detail.Streams {
		if s.Config == nil || s.Config.Storage != server.FileStorage {
			continue // in memory
		}
		now[s.Name] = position{s.Created, s.State.LastSeq}
	}
	return now, nil
}
