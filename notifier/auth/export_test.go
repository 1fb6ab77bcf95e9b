package auth

// SeenSize is seenSize for the tests.
const SeenSize = seenSize

// Remembered says how many tokens v remembers.
func Remembered(v *Verifier) int { return len(v.seen.young) + len(v.seen.old) }
