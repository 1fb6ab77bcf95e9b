package sse

import (
	"bytes"
	"testing"
	"time"
)

// A reader has taken enough when it has taken a certain number of bytes since it last had, and not when it takes any.
func TestDebtIsPaidAtALeastRate(t *testing.T) {
	const least = 100
	began := time.Now().Add(-time.Hour)
	d := &debt{since: began}
	for range 10 {
		d.add(bytes.Repeat([]byte("x"), 30))
	}
	for taken := 1; taken < least; taken++ {
		if d.take(1, least); d.since != began {
			t.Fatalf("%d bytes are enough", taken)
		}
	}
	if d.take(1, least); d.since == began || d.taken != 0 {
		t.Error("the least is not enough")
	}
	if d.size != 200 || len(d.frames) != 7 || len(d.frames[0]) != 20 {
		t.Errorf("%d bytes in %d frames are left", d.size, len(d.frames))
	}
	if d.take(200, least); d.size != 0 || len(d.frames) != 0 {
		t.Errorf("%d bytes in %d frames are left", d.size, len(d.frames))
	}
}
