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

// maxRanges is the largest number of ranges in one request.
const maxRanges = 10

// boundRanges returns the request with a Range header that is safe to pass to [http.ServeContent]: at most maxRanges
// ranges that do not overlap. So a response is never larger than the file, and never consists of many small reads.
//
// Other sets of ranges get the status 416 (RFC 9110, sections 14.2 and 15.5.17). The RFC allows the whole file, too, but
// a client that wants ten bytes should not get a gigabyte. ServeContent evaluates Range last, after all conditions and
// If-Range. boundRanges keeps that order: it sets a Range that no file can satisfy.
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
	case !acceptableRanges(set, size):
		bounded.Header.Set("Range", fmt.Sprintf("bytes=%d-", size))
	default:
		bounded.Header.Set("Range", "bytes="+set)
	}
	return bounded
}

// acceptableRanges reports whether a set has at most maxRanges ranges that do not overlap. A malformed set passes, since
// ServeContent refuses it.
func acceptableRanges(set string, size int64) bool {
	if strings.Count(set, ",") >= 2*maxRanges { // empty elements are allowed
		return false
	}
	type span struct{ from, to int64 }
	var spans []span
	parts := 0
	for part := range strings.SplitSeq(set, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		parts++
		first, last, _ := strings.Cut(part, "-")
		s := span{number(first), number(last)}
		if strings.TrimSpace(first) == "" { // a suffix range: the last s.to bytes
			s = span{max(size-s.to, 0), size - 1}
		}
		s.to = min(s.to, size-1)
		if s.from < size { // ServeContent ignores ranges after the end
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

// number parses a position of a range. It returns [math.MaxInt64] for none, and for one that is too large or malformed.
func number(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return math.MaxInt64
	}
	return n
}
