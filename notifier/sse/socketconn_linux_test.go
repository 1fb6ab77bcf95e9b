package sse

import (
	"bytes"
	"testing"
	"time"
)

// The progress time moves on only after a share of the backlog was taken, not with every byte.
func TestPendingWritesProgress(t *testing.T) {
	const least = 100
	began := time.Now().Add(-time.Hour)
	d := &pendingWrites{progressAt: began}
	for range 10 {
		d.append(bytes.Repeat([]byte("x"), 30))
	}
	for taken := 1; taken < least; taken++ {
		if d.advance(1, least); d.progressAt != began {
			t.Fatalf("%d bytes are enough", taken)
		}
	}
	if d.advance(1, least); d.progressAt == began || d.progress != 0 {
		t.Error("the least is not enough")
	}
	if d.bytes != 200 || len(d.frames) != 7 || len(d.frames[0]) != 20 {
		t.Errorf("%d bytes in %d frames are left", d.bytes, len(d.frames))
	}
	if d.advance(200, least); d.bytes != 0 || len(d.frames) != 0 {
		t.Errorf("%d bytes in %d frames are left", d.bytes, len(d.frames))
	}
}
