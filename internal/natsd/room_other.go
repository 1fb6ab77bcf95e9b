//go:build !linux

package natsd

import "math"

// Room returns [math.MaxInt64], since the free space is unknown.
func Room(string) int64 { return math.MaxInt64 }
