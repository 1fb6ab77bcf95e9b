package notifier

import (
	"context"
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

var errNoFile = newProblem(http.StatusNotFound, "file_missing", "The job has no file, or does not have it yet.")

// authenticateFile is authenticate, except for requests with a link.
func (n *Notifier) authenticateFile(c *gin.Context) {
	if c.Query("link") == "" {
		n.authenticate(c)
	}
}

func (n *Notifier) getFile(c *gin.Context) (answer, error) {
	job, err := n.fileJob(c)
	if err != nil {
		return answer{}, err
	}
	downloader := job.User // with a link
	if id, signedIn := c.Get(identityKey); signedIn {
		downloader = id.(auth.Identity).User
	}
	release, err := n.gates.downloads.tryAcquire(downloader)
	if err != nil {
		return answer{}, err
	}
	defer release()
	file, err := n.store.OpenFile(c.Request.Context(), &job)
	if err != nil {
		return answer{}, err
	}
	defer file.Close()
	h := c.Writer.Header()
	h.Set("Content-Type", job.File.ContentType)
	h.Set("Content-Disposition", attachment(job.File.Name))
	// no-transform (RFC 9111, section 5.2.2.6): if a proxy compresses the file, it has no length and no ranges.
	h.Set("Cache-Control", "private, no-cache, no-transform")
	h.Set("ETag", `"`+job.ID+"-"+job.FinishedAt.Format("20060102150405.000")+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	source, w := &source{ReadSeeker: file}, &fileWriter{ResponseWriter: c.Writer, timeout: n.writeTimeout}
	http.ServeContent(w, boundRanges(c.Request, job.File.Size), "", job.FinishedAt, source)
	if w.badRange {
		h.Del("Content-Type")
		h.Del("Content-Disposition")
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", job.File.Size))
		h.Set("Cache-Control", "no-store") // ServeContent removed the header
		return answer{}, newProblem(http.StatusRequestedRangeNotSatisfiable, "range_invalid",
			fmt.Sprintf("The file has %d bytes; ask for a range within it, or for up to %d ranges that do not overlap.", job.File.Size, maxRanges))
	}
	if err := source.err.Load(); err != nil && c.Request.Context().Err() == nil {
		// The status is sent. The client notices that bytes of Content-Length are missing.
		n.log.Log(c.Request.Context(), levelOf(problemOf(*err).Status), "download failed", "request_id", requestID(c), "job", job.ID, "err", *err)
	}
	return answer{}, nil
}

// deleteFile deletes the file of a job, which frees space of the job's user.
func (n *Notifier) deleteFile(c *gin.Context) (answer, error) {
	return n.changeJob(c, toOwn, func(ctx context.Context, user, id string) (jobs.Job, error) {
		job, err := n.store.DiscardFile(ctx, user, id)
		if err == nil && job.File == nil {
			err = errNoFile
		}
		return job, err
	})
}

// fileJob returns the job whose file the path names, if it has one and the caller may download it now.
func (n *Notifier) fileJob(c *gin.Context) (jobs.Job, error) {
	job, err := n.permittedFileJob(c)
	if errors.Is(err, jobs.ErrNotFound) {
		err = n.expiredJob(c)
	}
	if err == nil && job.File == nil {
		err = errNoFile
	}
	return job, err
}

// expiredJob returns the error for a job that the log does not have: [jobs.ErrFileGone] if the inbox of the user has a
// notification about it, else [jobs.ErrNotFound].
func (n *Notifier) expiredJob(c *gin.Context) error {
	if _, signedIn := c.Get(identityKey); !signedIn {
		return jobs.ErrFileGone
	}
	known, err := n.inbox.ByJob(c.Request.Context(), user(c), param(c, "id"))
	switch {
	case err != nil:
		return inboxDown(err)
	case known:
		return jobs.ErrFileGone
	}
	return jobs.ErrNotFound
}

// source records the error of a read, which [http.ServeContent] does not return. For several ranges ServeContent reads
// in a goroutine, which may end a moment after it.
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

// fileWriter sets a deadline for each write of a download, and discards the plain text that [http.ServeContent] writes
// about an unsatisfiable range.
type fileWriter struct {
	http.ResponseWriter
	timeout  time.Duration // of each write
	badRange bool
}

func (w *fileWriter) WriteHeader(status int) {
	w.badRange = status == http.StatusRequestedRangeNotSatisfiable
	if !w.badRange {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if w.badRange {
		return len(p), nil
	}
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
	return w.ResponseWriter.Write(p)
}

// attachment returns the Content-Disposition that saves a file under name (RFC 6266). It has the name twice: in ASCII
// for old clients, and unchanged (RFC 8187).
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

// maxFileName is the largest size of a file name, in bytes. Browsers append to names, so it is below the usual 255.
const maxFileName = 200

// device matches the names that Windows reserves for devices, with any extension.
var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

// safeFileName returns a name that is neither a path nor a device on any system.
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

// cut returns the first n bytes of s, or fewer, so that no character is split.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
