package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
)

// The page links to where the application signs in, if the operator has said where that is.
func TestPageLinksToTheApplication(t *testing.T) {
	t.Parallel()
	dir, web, out := t.TempDir(), harkproc.FreeAddr(t), new(logtest.Buffer)
	key := writeFile(t, filepath.Join(dir, "jwt-secret"), secret+"\n")
	harkproc.Start(t, out, "serve", "--listen", web, "--data", filepath.Join(dir, "data"), "--jwt-secret-file", key, "--sign-in-url", "https://shop.example.com/login?to=hark")
	harkproc.Ready(t, "http://"+web)
	page := browsertest.New(t, browsertest.Options{}).Tab("http://" + web)
	page.Shows(browsertest.ID("sign-in-closed"), "Sign in there and come back")
	page.Until("the link is the operator's", `document.querySelector('[data-testid="sign-in-link"]').href === "https://shop.example.com/login?to=hark"`)
	page.Shows(browsertest.ID("sign-in-link"), "Go to the sign-in page")
	page.Shows(browsertest.ID("sign-in-with-token"), "Sign in")
}

// Where a key is configured, a token signs in on the page: a refused one says why, a good one signs in all
// tabs, and the page keeps it nowhere.
func TestPageSignInWithToken(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	hark := harktest.Start(t, harktest.Secret(secret))
	b := browsertest.New(t, browsertest.Options{})
	one, two := b.Tab(hark.URL), b.Tab(hark.URL)
	for _, p := range []*browsertest.Tab{one, two} {
		p.Shows(browsertest.ID("sign-in-closed"), "Sign in there and come back")
		p.Hides(browsertest.ID("sign-in-name"))
		p.Hides(browsertest.ID("sign-in-link"))
	}

	// The field is private, has a label and a hint, and is where one types.
	one.Shows(`label[for="token"]`, "Token")
	one.Shows("#token-hint", "hark token --user NAME")
	one.Until("the field is a private one with a hint, and has the focus", `(() => {
		const e = document.activeElement;
		return e.matches('[data-testid="sign-in-token"][type="password"][autocomplete="off"]:not([name])') && e.getAttribute("aria-describedby") === "token-hint"
	})()`)

	good := hark.Token("ana")
	expired, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject: "ana", ExpiresAt: jwt.NewNumericDate(time.Now().Add(-time.Hour)),
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ token, says string }{
		{"", "Enter a token."},
		{"ana", "The token is not a well-formed JWT."},
		{"🦉", "This is not a token."},
		{expired, "The token has expired."},
		{good[:strings.LastIndex(good, ".")+1] + strings.Repeat("A", 43), "The token is not signed with an accepted key and method."},
	} {
		one.Fill(browsertest.ID("sign-in-token"), c.token)
		one.Hides(browsertest.ID("sign-in-token-error")) // what was said of the one before
		one.Click(browsertest.ID("sign-in-with-token"))
		one.Shows(browsertest.ID("sign-in-token-error"), c.says)
		one.Until("the field is empty, has the focus, and is described by what is wrong", `(() => {
			const e = document.querySelector('[data-testid="sign-in-token"]');
			return e.value === "" && e === document.activeElement && e.getAttribute("aria-invalid") === "true" &&
				e.getAttribute("aria-describedby") === "token-error token-hint"
		})()`)
	}
	one.Hides(browsertest.ID("user"))

	one.Fill(browsertest.ID("sign-in-token"), " "+good+" ") // as copied from a terminal
	one.Click(browsertest.ID("sign-in-with-token"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Shows(browsertest.ID("user"), "ana")
		p.Hides(browsertest.ID("sign-in-token"))
		p.Until("the stream is live", `document.querySelector('[data-testid="connection"]').dataset.state === "live"`)
	}
	one.Until("the page has kept the token nowhere", fmt.Sprintf(`![document.cookie, location.href, JSON.stringify(history.state),
		JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.documentElement.outerHTML,
		...[...document.querySelectorAll("input")].map(e => e.value)].some(text => text?.includes(%q))`, good))

	two.Click(browsertest.ID("sign-out"))
	for _, p := range []*browsertest.Tab{one, two} {
		p.Hides(browsertest.ID("user"))
		p.Shows(browsertest.ID("sign-in-closed"), "You are not signed in")
		p.Hides(browsertest.ID("sign-in-token-error"))
		p.Until("the field has the focus", `document.activeElement.id === "token"`)
	}
}
