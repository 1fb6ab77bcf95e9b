package door

// DefaultMax is how many connections there may be, where that many files may be open: 20,000 streams, and room for the
// rest.
const DefaultMax = 25_000

// Fit returns how many connections this process can have open, if so many are wanted. Each is a file; some more files are
// for the inbox, NATS and the log.
func Fit(want int) int {
	n := files()
	return min(want, n-max(min(n/4, 512), 1))
}
