// Package web has the page, and the browser client that other pages import from /hark.js: embedded plain files, without a
// build step.
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

// CSP is the Content-Security-Policy of the page. The page has no inline scripts and styles, and loads nothing from other
// servers.
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed index.html hark.js assets
var files embed.FS

// contentTypes are listed here, because the results of package mime depend on the machine.
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

// Handler returns a handler that serves the page at "/", the client at "/hark.js" and their files under "/assets/". All other
// paths get 404. It is safe for concurrent use.
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
	// Browsers must revalidate, since the page and its modules must have the same version after an upgrade.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	switch path.Ext(f.name) {
	case ".html":
		h.Set("Content-Security-Policy", CSP)
		h.Set("Referrer-Policy", "same-origin")
	case ".js":
		// Pages of other origins import the client, and browsers fetch modules with CORS. It has no secrets.
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
