package notifier

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

var errNoFile = newProblem(http.StatusNotFound, "file_missing", "The job has left no file, or not yet.")

// authenticateFile is authenticate, but for requests with a link.
func (n *Notifier) authenticateFile(c *gin.Context) {
	if c.Query("link") == "" {
		n.authenticate(c)
	}
}

func (n *Notifier) getFile(c *gin.Context) {
	job, err := n.readable(c)
	if errors.Is(err, jobs.ErrNotFound) {
		err = n.forgottenJob(c)
	}
	if err == nil && job.File == nil {
		err = errNoFile
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	by := job.User // with a link
	if id, signedIn := c.Get(identityKey); signedIn {
		by = id.(auth.Identity).User
	}
	leave, err := n.gates.downloads.try(by)
	if err != nil {
		n.fail(c, err)
		return
	}
	defer leave()
	file, err := n.queue.OpenFile(c.Request.Context(), &job)
	if err != nil {
		n.fail(c, err)
		return
	}
	defer file.Close()
	h := c.Writer.Header()
	h.Set("Content-Type", job.File.ContentType)
	h.Set("Content-Disposition", attachment(job.File.Name))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", `"`+job.ID+"-"+job.FinishedAt.Format("20060102150405.000")+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	source, w := &source{ReadSeeker: file}, &fileWriter{ResponseWriter: c.Writer, patience: n.patience}
	http.ServeContent(w, boundRanges(c.Request, job.File.Size), "", job.FinishedAt, source)
	if w.badRange {
		h.Del("Content-Type")
		h.Del("Content-Disposition")
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", job.File.Size))
		h.Set("Cache-Control", "no-store") // ServeContent took ours away
		n.fail(c, newProblem(http.StatusRequestedRangeNotSatisfiable, "range_invalid",
			fmt.Sprintf("The file has %d bytes; ask for a range of those, or for %d at most, none of which overlap.", job.File.Size, maxRanges)))
		return
	}
	if err := source.err.Load(); err != nil && c.Request.Context().Err() == nil {
		// The status is sent. What is missing of Content-Length tells the client.
		n.log.Error("download broke off", "request_id", requestID(c), "job", job.ID, "err", *err)
	}
}

// forgottenJob answers for a job that the stream has forgotten: gone, if the user was told of it.
func (n *Notifier) forgottenJob(c *gin.Context) error {
	if _, signedIn := c.Get(identityKey); !signedIn {
		return jobs.ErrFileGone
	}
	known, err := n.inbox.ByJob(c.Request.Context(), user(c), c.Param("id"))
	switch {
	case err != nil:
		return inboxDown(err)
	case known:
		return jobs.ErrFileGone
	}
	return jobs.ErrNotFound
}

// source remembers why it could not be read to its end, which [http.ServeContent] does not tell. Of several ranges it
// reads in a goroutine that may outlast it by a moment.
type source struct {
	io.ReadSeeker
	err atomic.Pointer[error]
}

func (s *source) Read(p []byte) (n int, err error) {
	n, err = s.ReadSeeker.Read(p)
	if err != nil && err != io.EOF {
		s.err.Store(&err)
	}
	return n, err
}

// fileWriter gives each write of a long download its own time, and keeps back what [http.ServeContent] says,
// in plain text, of a range that cannot be.
type fileWriter struct {
	http.ResponseWriter
	patience time.Duration // with each write
	badRange bool
}

func (w *fileWriter) WriteHeader(status int) {
	if w.badRange = status == http.StatusRequestedRangeNotSatisfiable; !w.badRange {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if w.badRange {
		return len(p), nil
	}
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.patience))
	return w.ResponseWriter.Write(p)
}

// attachment is the Content-Disposition of a file that is to be saved under name (RFC 6266): once for old
// clients, in ASCII, and once as it is (RFC 8187).
func attachment(name string) string {
	name = safeFileName(name)
	ascii := strings.Map(func(r rune) rune {
		if r > '~' || r == '%' {
			return '_'
		}
		return r
	}, name)
	value := `attachment; filename="` + ascii + `"`
	if ascii != name {
		value += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	}
	return value
}

// maxFileName is how many bytes of a name are kept, with room for what a browser adds.
const maxFileName = 200

// device matches what Windows takes for a device, whatever it ends with.
var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

// safeFileName makes a name that means no other place and no device, on any system.
func safeFileName(name string) string {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || strings.ContainsRune(`<>:"|?*/`, r) {
			return '_'
		}
		return r
	}, name)
	name = strings.Trim(name, ". ")
	if ext := path.Ext(name); len(name) > maxFileName && len(ext) <= 20 {
		name = cut(strings.TrimSuffix(name, ext), maxFileName-len(ext)) + ext
	}
	name = strings.Trim(cut(name, maxFileName), ". ")
	switch {
	case name == "":
		return "file"
	case device.MatchString(name):
		return "_" + name
	}
	return name
}

// cut returns the first n bytes of s, or fewer, not to cut a character in two.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
