// Package web is the page, and the browser client that others import from /hark.js: plain files without
// a build step, embedded.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// CSP is the Content-Security-Policy of the page. It holds no inline script or style, and nothing from elsewhere.
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed index.html hark.js assets
var files embed.FS

// contentTypes are spelled out, because what package mime answers depends on the machine it runs on.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

type file struct {
	name, contentType, etag string
	body                    []byte
}

// Handler serves the page at "/", the client at "/hark.js" and what they load under "/assets/". Anything
// else is 404. It is safe for concurrent use.
func Handler() http.Handler {
	served := make(map[string]file)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		at := "/" + name
		if name == "index.html" {
			at = "/"
		}
		served[at] = file{name: name, contentType: contentTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:12]) + `"`, body: body}
		return nil
	})
	if err != nil {
		panic("web: reading an embedded file: " + err.Error()) // embedded files can always be read
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		f.serve(w, r)
	})
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	// Always asked for, seldom sent: page and modules must be of one version after an upgrade.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	switch path.Ext(f.name) {
	case ".html":
		h.Set("Content-Security-Policy", CSP)
		h.Set("Referrer-Policy", "same-origin")
	case ".js":
		// Pages of other origins import the client; a module is always fetched with CORS. It holds no secret.
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
