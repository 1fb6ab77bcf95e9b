package e2e_test

import (
	"testing"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/tlstest"
)

// With a certificate a browser speaks HTTP/2 with hark, and the page works, its stream and its cookie included.
func TestPageOverHTTP2(t *testing.T) {
	t.Parallel()
	files, addr := tlstest.New(t), harkproc.FreeAddr(t)
	harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", t.TempDir(), "--tls-cert", files.Cert, "--tls-key", files.Key)
	url := "https://" + addr
	harkproc.Ready(t, url)
	b := browsertest.New(t, browsertest.Options{Flags: []string{"ignore-certificate-errors"}})
	page := b.Tab(url)
	page.Fill(browsertest.ID("sign-in-name"), "ana")
	page.Click(browsertest.ID("sign-in"))
	page.Shows(browsertest.ID("user"), "ana")
	page.Until("the stream is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	if got := browsertest.Eval[string](page, `performance.getEntriesByType("navigation")[0].nextHopProtocol`); got != "h2" {
		t.Errorf("the page came over %q", got)
	}
	// More tabs than HTTP/1.1 would have connections for: all have their stream, and calls go through.
	for range 8 {
		tab := b.Tab(url)
		tab.Until("the stream is live", `document.querySelector('[data-testid="connection"]')?.dataset.state === "live"`)
	}
	browsertest.Eval[bool](page, `fetch("/v1/session").then((res) => { window.answered = res.status; }), true`)
	page.Until("a call is answered", `window.answered === 200`)
}
