package notifier

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestIsLocalHost(t *testing.T) {
	for _, host := range []string{
		"localhost", "LOCALHOST", "LocalHost:4280", "localhost.", "localhost.:4280", "localhost:", "app.localhost", "a-b.c_d.localhost:1", "app.localhost.",
		"127.0.0.1", "127.0.0.1:4280", "127.255.255.254", "127.1.2.3:80", "[::1]", "[::1]:4280", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]:80", "[::FFFF:7f00:1]",
	} {
		if !isLocalHost(host) {
			t.Errorf("%q is refused", host)
		}
	}
	for _, host := range []string{
		"", ":4280", ".", "evil.example", "evil.example:4280", "localhost.evil.example", "evil-localhost", "evillocalhost", "localhost..", ".localhost", "a..localhost",
		"127.0.0.1.evil.example", "127.0.0.1.nip.io", "127.evil.localhost.example", "localhost@evil.example", "evil.example@localhost", "evil.example/.localhost",
		"evil.example\\.localhost", "evil.example#.localhost", "evil.example .localhost", "evil.example%2elocalhost", "evil.example:80.localhost", "localhost:x", "localhost:80:80",
		"localhost:-1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.01", "127.0.0.1.", "128.0.0.1", "10.0.0.1", "0.0.0.0", "0",
		"::1", "::1:4280", "[::1", "::1]", "[::1]x", "[::1]4280", "[::1]:x", "[::1%25lo]", "[::1%lo]", "[::]", "[::2]", "[127.0.0.1]", "[fe80::1%lo]", "[::ffff:10.0.0.1]", "[localhost]",
		"lоcalhost" /* a Cyrillic o */, "localhost\u3002", "ⓛocalhost", "localhost\x00", " localhost", "localhost,evil.example",
	} {
		if isLocalHost(host) {
			t.Errorf("%q is taken for this machine", host)
		}
	}
}

// With HTTP/2 the host is in :authority, and there may be another one in Host.
func TestLocalChecksHostBesideAuthority(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.ProtoMajor, r.Host = 2, "localhost"
	if err := checkLocal(r); err != nil {
		t.Error(err)
	}
	r.Header["Host"] = []string{"localhost", "evil.example"}
	if err := checkLocal(r); err != errNotLocal {
		t.Error(err)
	}
}
