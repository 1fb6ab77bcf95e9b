package notifier

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxRanges is how many parts of a file one request may ask for.
const maxRanges = 10

// boundRanges returns the request with a Range that [http.ServeContent] may answer. It asks for at most maxRanges parts,
// and for no byte twice, so an answer is never larger than the file and never many small reads.
//
// A set of ranges beyond that is answered with 416, as RFC 9110 allows (section 14.2, and 15.5.17 for the status), and
// not with the whole file, which it allows too: who wanted ten bytes is not sent a gigabyte. ServeContent looks at a
// Range last, after all conditions and If-Range; to keep that order it is given one here that no file can satisfy.
func boundRanges(r *http.Request, size int64) *http.Request {
	value := r.Header.Get("Range")
	if value == "" {
		return r
	}
	bounded := r.Clone(r.Context())
	unit, set, _ := strings.Cut(value, "=")
	switch {
	case !strings.EqualFold(strings.TrimSpace(unit), "bytes") || r.Method != http.MethodGet:
		bounded.Header.Del("Range") // it must be ignored (RFC 9110, section 14.2); ServeContent would refuse or answer it
	case !decentRanges(set, size):
		bounded.Header.Set("Range", fmt.Sprintf("bytes=%d-", size))
	default:
		bounded.Header.Set("Range", "bytes="+set)
	}
	return bounded
}

// decentRanges reports whether a set of ranges is small and no byte is asked for twice. What is not a range at all
// passes, for ServeContent to refuse it.
func decentRanges(set string, size int64) bool {
	if strings.Count(set, ",") >= 2*maxRanges { // empty elements are allowed
		return false
	}
	type span struct{ from, to int64 }
	var spans []span
	parts := 0
	for part := range strings.SplitSeq(set, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		parts++
		first, last, _ := strings.Cut(part, "-")
		s := span{number(first), number(last)}
		if first = strings.TrimSpace(first); first == "" { // the last so many bytes
			s = span{max(size-s.to, 0), size - 1}
		}
		s.to = min(s.to, size-1)
		if s.from < size { // what lies behind the end is left out of the answer
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i].from <= spans[i-1].to {
			return false
		}
	}
	return parts <= maxRanges
}

// number reads the end of a range; none, or one that is too large, is the greatest there is.
func number(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return math.MaxInt64
	}
	return n
}
