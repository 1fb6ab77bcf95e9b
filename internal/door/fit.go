package door

// DefaultMax is the default limit of connections, if the process may open enough files: 20,000 streams, and others.
const DefaultMax = 25_000

// Fit returns the number of connections that this process can have open, up to want. Each needs a file. Some files are reserved for
// the inbox, NATS and the log.
func Fit(want int) int {
	n := files()
	return min(want, n-max(min(n/4, 512), 1))
}
