package main

import (
	"math"
	"testing"
	"time"
)

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100",
		math.MaxInt64: "9,223,372,036,854,775,807",
	} {
		if got := formatCount(n); got != want {
			t.Errorf("comma(%d) = %s, want %s", n, got, want)
		}
	}
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1500: "1.5 kB", 9949: "9.9 kB", 9951: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		12_300_000: "12 MB", 4_200_000_000: "4.2 GB", math.MaxInt64: "9223 PB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 8400 * time.Millisecond: "8s", 59600 * time.Millisecond: "1m00s", 65 * time.Second: "1m05s",
		150 * time.Minute: "2h30m", 72 * time.Hour: "3d",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
	for in, want := range map[string]string{
		" a\tb\r\nc ": "a b  c", "\x1b[2J": "�[2J", "a\u202eb": "a�b", "né 🦊": "né 🦊",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
