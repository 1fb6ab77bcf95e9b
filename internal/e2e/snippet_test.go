package e2e_test

import (
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/tlstest"
)

// snippetProxy is a proxy with what docs/proxies.md has for it.
type snippetProxy struct {
	name string
	// run runs it before the hark at that address until the test ends. Without files it speaks plain HTTP, below /tools/hark/.
	run func(t *testing.T, hark string, files *tlstest.Files) (addr, plain string)
}

var snippetProxies = []snippetProxy{{"nginx", nginxSnippet}, {"caddy", caddySnippet}, {"apache", apacheSnippet}}

// documented returns the first block of that language below a heading of docs/proxies.md.
func documented(t *testing.T, heading, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(readFile(t, "../../docs/proxies.md"), "\n## "+heading+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	_, rest, ok := strings.Cut(rest, "```"+language+"\n")
	block, _, whole := strings.Cut(rest, "```\n")
	if !found || !ok || !whole {
		t.Fatalf("docs/proxies.md has no %s below %s", language, heading)
	}
	return block
}

// filled replaces pairs of old and new, each of which must be there.
func filled(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("there is no %q in\n%s", pairs[i], text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// inPlace puts what is for a path in place of all from begin to end, as docs/proxies.md says.
func inPlace(t *testing.T, text, begin, end, path string) string {
	t.Helper()
	before, rest, found := strings.Cut(text, begin)
	_, after, ok := strings.Cut(rest, end)
	if !found || !ok {
		t.Fatalf("there is nothing from %q to %q in\n%s", begin, end, text)
	}
	return before + path + strings.TrimPrefix(end, "\n") + after
}

// certificates puts them where a proxy can read them.
func certificates(t *testing.T, dir string, files *tlstest.Files) (cert, key string) {
	t.Helper()
	return place(t, dir, "fullchain.pem", readFile(t, files.Cert)), place(t, dir, "privkey.pem", readFile(t, files.Key))
}

func nginxSnippet(t *testing.T, hark string, files *tlstest.Files) (addr, plain string) {
	dir, addr, plain := folder(t), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	conf := filled(t, documented(t, "nginx", "nginx"), "127.0.0.1:4280", hark, "hark.example.com", "localhost", "listen 80;", "listen "+plain+";")
	if files != nil {
		cert, key := certificates(t, dir, files)
		conf = filled(t, conf, "listen 443 ", "listen "+addr+" ", "/etc/ssl/hark/fullchain.pem", cert, "/etc/ssl/hark/privkey.pem", key)
	} else {
		conf = inPlace(t, conf, "    location / {", "\n}\n", documented(t, "Below a path", "nginx"))
		conf = filled(t, conf, "listen 443 ssl http2;", "listen "+addr+";", "ssl_certificate ", "# ", "ssl_certificate_key ", "# ")
	}
	// The snippet is to hold where all else is compressed.
	runNginx(t, dir, "gzip on;\ngzip_types *;\ngzip_proxied any;\n"+conf, addr)
	return addr, plain
}

func caddySnippet(t *testing.T, hark string, files *tlstest.Files) (addr, plain string) {
	dir, addr := folder(t), harkproc.FreeAddr(t)
	conf := documented(t, "Caddy", "caddy")
	if files != nil {
		cert, key := certificates(t, dir, files)
		conf = filled(t, conf, "hark.example.com {\n", "https://localhost:"+port(addr)+" {\n\tbind 127.0.0.1\n", "# tls /etc/ssl/hark/fullchain.pem /etc/ssl/hark/privkey.pem", "tls "+cert+" "+key)
	} else {
		conf = inPlace(t, conf, "\t@metrics", "\n}\n", documented(t, "Below a path", "caddy"))
		conf = filled(t, conf, "hark.example.com {\n", "http://"+addr+" {\n")
	}
	runCaddy(t, dir, filled(t, conf, "127.0.0.1:4280", hark), addr)
	return addr, ""
}

func apacheSnippet(t *testing.T, hark string, files *tlstest.Files) (addr, plain string) {
	dir, addr, plain := folder(t), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	conf := documented(t, "Apache", "apache")
	if files != nil {
		cert, key := certificates(t, dir, files)
		conf = filled(t, conf, "/etc/ssl/hark/fullchain.pem", cert, "/etc/ssl/hark/privkey.pem", key)
	} else {
		conf = inPlace(t, conf, "    ProxyPass ", "\n</VirtualHost>\n", documented(t, "Below a path", "apache"))
		conf = filled(t, conf, "SSLEngine on", "SSLEngine off", "SSLCertificateFile ", "# ", "SSLCertificateKeyFile ", "# ")
	}
	conf = filled(t, conf, "127.0.0.1:4280", hark, "hark.example.com", "localhost", "*:443", addr, "*:80", plain)
	runApache(t, dir, "Listen "+addr+"\nListen "+plain+"\nSetOutputFilter DEFLATE\n"+conf, addr)
	return addr, plain
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
