package notifier_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker"
)

// large is the handler of a kind that writes a file of 24 MiB in which no two chunks are equal.
var large = worker.Handle(jobs.Define[struct{}](jobs.Kind{Name: "large"}), func(ctx context.Context, job *worker.Job, _ struct{}) (jobs.Result, error) {
	return jobs.Result{}, job.WriteFile(ctx, "large.txt", "text/plain", func(w io.Writer) error {
		_, err := w.Write(largeFile())
		return err
	})
})

// largeFile returns 24 MiB with a number at each 4 KiB. It is made once, since that is slow with the race detector.
var largeFile = sync.OnceValue(func() []byte {
	b := bytes.Repeat([]byte("012345678901234\n"), 24<<20/16)
	for i := 0; i < len(b); i += 4096 {
		copy(b[i:], fmt.Sprintf("%08d", i))
	}
	return b
})

// parts reads a multipart/byteranges response.
func (a answer) parts() (parts []string) {
	a.t.Helper()
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		a.t.Fatalf("%s: Content-Type %s", a.call, a.Header.Get("Content-Type"))
	}
	for r := multipart.NewReader(bytes.NewReader(a.body), params["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			a.t.Fatal(err)
		}
		text, err := io.ReadAll(p)
		if err != nil || p.Header.Get("Content-Range") == "" || p.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			a.t.Fatal(p.Header, err)
		}
		parts = append(parts, string(text))
	}
}

func TestRanges(t *testing.T) {
	s := start(t, harktest.Handlers(leave))
	text := strings.Repeat("0123456789", 10)
	job := s.finish("ana", `{"kind":"leave","params":{"name":"a.html","text":"`+text+`"}}`)
	get := func(method string, headers ...string) answer {
		t.Helper()
		return s.call(method, filePath(job), "", append(s.as("ana"), headers...)...)
	}
	etag, modified := get("GET").Header.Get("ETag"), get("GET").Header.Get("Last-Modified")
	ten := "bytes=90-90,80-80,70-70,60-60,50-50,40-40,30-30,20-20,10-10,0-0"
	for _, c := range []struct {
		what  string
		value string
		want  []string
	}{
		{"ascending", "bytes=0-1,10-12", []string{"01", "012"}},
		{"descending", "bytes=50-52, 10-11 ,0-0", []string{"012", "01", "0"}},
		{"ten", ten, strings.Split(strings.Repeat("0", 10), "")},
		{"a suffix and the beginning", "bytes=-3,0-1", []string{"789", "01"}},
		{"adjacent", "bytes=0-4,5-9", []string{"01234", "56789"}},
		{"open-ended", "bytes=0-1,98-", []string{"01", "89"}},
		{"empty elements", "bytes=0-1,,10-12,", []string{"01", "012"}},
	} {
		if got := get("GET", "Range", c.value).want(206).parts(); strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	many := make([]string, 700)
	for i := range many {
		many[i] = fmt.Sprintf("%d-%d", 99-i%100, 99-i%100)
	}
	for what, value := range map[string]string{
		"7 KB of ranges":             "bytes=" + strings.Join(many, ","),
		"eleven":                     ten + ",95-95",
		"overlapping":                "bytes=0-10,10-20",
		"twice the same":             "bytes=5-5,5-5",
		"suffixes":                   "bytes=-1,-1",
		"a suffix of all and a byte": "bytes=-1000,7-7",
		"open-ended twice":           "bytes=50-,60-",
		"not a range":                "bytes=x-y",
		"backwards":                  "bytes=9-3",
	} {
		a := get("GET", "Range", value)
		if a.problem(416, "range_invalid"); a.Header.Get("Content-Range") != "bytes */100" {
			t.Errorf("%s: Content-Range %q", what, a.Header.Get("Content-Range"))
		}
		// Conditions that make the server ignore Range, or not send the file, come first (RFC 9110, section 13.2.2).
		get("GET", "Range", value, "If-Range", `"other"`).want(200)
		get("GET", "Range", value, "If-None-Match", etag).want(304)
		get("HEAD", "Range", value).want(200)
	}
	for what, headers := range map[string][]string{
		"If-Range with the tag":  {"Range", "bytes=0-3", "If-Range", etag},
		"If-Range with the date": {"Range", "bytes=0-3", "If-Range", modified},
		"a unit in capitals":     {"Range", "BYTES=0-3"},
		"an end behind the file's end, and a range wholly there": {"Range", "bytes=0-3,100-,200-300"},
	} {
		if a := get("GET", headers...).want(206); string(a.body) != "0123" && !strings.Contains(string(a.body), "0123") {
			t.Errorf("%s: %s", what, a.body)
		}
	}
	if a := get("GET", "Range", "lines=1-2").want(200); len(a.body) != 100 {
		t.Errorf("a unit that is not known must be ignored: %s", a.body)
	}
}

// No choice of ranges makes the server read much more than it sends.
func TestRangesReadLittle(t *testing.T) {
	s := start(t, harktest.Handlers(large))
	job := s.finish("ana", `{"kind":"large"}`)
	whole := largeFile()
	reads := natstest.WatchReads(t, s.Queue.Store().Conn(), defaultNS.FilesStream())
	var ranges []string
	for i := 9; i >= 0; i-- {
		ranges = append(ranges, fmt.Sprintf("%d-%d", i<<21+99, i<<21+99))
	}
	for what, headers := range map[string][]string{
		"ten single bytes, descending": {"Range", "bytes=" + strings.Join(ranges, ",")},
		"the last byte":                {"Range", "bytes=-1"},
	} {
		res := s.open(t.Context(), "GET", filePath(job), "", append(s.as("ana"), headers...)...)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusPartialContent {
			t.Fatal(res.Status, err)
		}
		if what == "the last byte" && string(body) != string(whole[len(whole)-1:]) {
			t.Errorf("%s: %q", what, body)
		}
		if n := reads.Next(); n > 10 { // of 192
			t.Errorf("%s: %d chunks were read", what, n)
		}
	}
}
