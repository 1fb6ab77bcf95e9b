package deploy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
)

// testImage is the image of the tests, so that an image with the usual name on the machine does not change.
const testImage = "hark:compose-test"

// project is a run of docker-compose.yml with a name of its own.
type project struct {
	t       *testing.T
	compose []string // docker compose, or docker-compose
	name    string
	url     string
	http    *http.Client
	http2   atomic.Int64 // requests over HTTP/2
	other   atomic.Int64
}

// engine reports whether a Docker engine responds, and returns the command of Compose. Without Compose the test fails.
func engine(t *testing.T) ([]string, bool) {
	t.Helper()
	if err := exec.Command("docker", "version").Run(); err != nil {
		return nil, false
	}
	for _, compose := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.Command(compose[0], append(slices.Clone(compose[1:]), "version")...).Run() == nil {
			return compose, true
		}
	}
	t.Fatal("a Docker engine answers, but there is neither `docker compose` nor docker-compose: run scripts/test-setup.sh")
	return nil, false
}

// newProject builds the image and prepares a project. It is removed with all its data when the test ends.
func newProject(t *testing.T, compose []string) *project {
	t.Helper()
	_, port, err := net.SplitHostPort(harkproc.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &project{t: t, compose: compose, name: "harktest" + strings.ToLower(rand.Text()[:8]), url: "https://localhost:" + port}
	p.run(nil, "../deploy/standin/build.sh")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", p.try("ps"))
			t.Logf("%s", p.try("logs", "--no-color", "--tail=60"))
		}
		p.do("down", "--volumes", "--timeout", "3")
	})
	p.build()
	return p
}

// build builds the image, and removes the images of earlier builds except the last one's layers.
func (p *project) build() {
	p.t.Helper()
	old := imageID(testImage)
	p.do("build", "--quiet", "setup")
	if old != "" && old != imageID(testImage) {
		exec.Command("docker", "image", "rm", old).Run() // it may be in use
	}
	stages := strings.Fields(p.run(nil, "docker", "image", "ls", "--quiet", "--filter", "dangling=true", "--filter", "label=hark.stage=build"))
	for i, id := range stages {
		if i > 0 {
			exec.Command("docker", "image", "rm", id).Run()
		}
	}
}

func imageID(name string) string {
	out, err := exec.Command("docker", "image", "inspect", "--format", "{{.Id}}", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// do runs a command of Compose, and fails the test if that fails.
func (p *project) do(args ...string) string {
	p.t.Helper()
	return p.run(p.env(), append(p.command(), args...)...)
}

// try runs a command of Compose and returns its output, also after an error.
func (p *project) try(args ...string) string {
	args = append(p.command(), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = p.env()
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func (p *project) command() []string {
	return append(slices.Clone(p.compose), "--project-name", p.name, "--file", "../docker-compose.yml")
}

func (p *project) env() []string {
	return append(os.Environ(), "HARK_IMAGE="+testImage, "HARK_PUBLISH="+strings.TrimPrefix(p.url, "https://localhost:"),
		"HARK_SITE=https://localhost", "COMPOSE_HTTP_TIMEOUT=300")
}

// run runs a command and returns its stdout.
func (p *project) run(env []string, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, &out, &log)
	}
	return out.String()
}

// up starts the stopped services, waits until all are healthy, and trusts the proxy's certificates.
func (p *project) up() {
	p.t.Helper()
	p.do("up", "--detach", "--no-build")
	p.healthy()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(p.exec("proxy", "cat", "/data/caddy/pki/authorities/local/root.crt"))) {
		p.t.Fatal("the proxy has no certificate of its authority")
	}
	p.http = &http.Client{Transport: p.counting(&http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (p *project) counting(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(r)
		if err == nil && res.ProtoMajor == 2 {
			p.http2.Add(1)
		} else if err == nil {
			p.other.Add(1)
		}
		return res, err
	})
}

// container is a container of the project.
type container struct{ id, service, state, health string }

// containers lists the project's containers, those that have ended included.
func (p *project) containers() (all []container) {
	p.t.Helper()
	ids := strings.Fields(p.run(nil, "docker", "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+p.name))
	if len(ids) == 0 {
		return nil
	}
	var inspected []struct {
		ID     string
		Config struct{ Labels map[string]string }
		State  struct {
			Status   string
			ExitCode int
			Health   struct{ Status string }
		}
		Mounts []struct{ Type, Name, Destination string }
	}
	if err := json.Unmarshal([]byte(p.run(nil, append([]string{"docker", "inspect"}, ids...)...)), &inspected); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range inspected {
		for _, m := range c.Mounts {
			if m.Type == "volume" && !strings.HasPrefix(m.Name, p.name) { // `down` would not remove it
				p.t.Errorf("%s has a volume without a name at %s", c.Config.Labels["com.docker.compose.service"], m.Destination)
			}
		}
		state := fmt.Sprintf("%s/%d", c.State.Status, c.State.ExitCode)
		all = append(all, container{c.ID, c.Config.Labels["com.docker.compose.service"], state, c.State.Health.Status})
	}
	return all
}

// id returns the id of a service's container.
func (p *project) id(service string) string {
	p.t.Helper()
	for _, c := range p.containers() {
		if c.service == service {
			return c.id
		}
	}
	p.t.Fatalf("there is no container of %s", service)
	return ""
}

// healthy waits until all services are healthy, and the one-shot services have succeeded.
func (p *project) healthy() {
	p.t.Helper()
	var missing []string
	p.until("everything is healthy", 3*time.Minute, func() bool {
		all := p.containers()
		missing = nil
		for _, c := range all {
			if slices.Contains(oneShots, c.service) && c.state == "exited/0" {
				continue
			}
			if c.state != "running/0" || c.health != "healthy" {
				missing = append(missing, c.service+" "+c.state+" "+c.health)
			}
		}
		return len(all) == 11 && len(missing) == 0
	}, func() string { return strings.Join(missing, ", ") })
}

// until polls until ok is true.
func (p *project) until(what string, limit time.Duration, ok func() bool, state func() string) {
	p.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(300 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("in vain: %s: %s", what, state())
		}
	}
}

// exec runs a command in a service's container.
func (p *project) exec(service string, args ...string) string {
	p.t.Helper()
	return p.run(nil, append([]string{"docker", "exec", p.id(service)}, args...)...)
}

// token returns a token from the project's own hark.
func (p *project) token(user, scope string) string {
	p.t.Helper()
	return strings.TrimSpace(p.exec("notifier-1", "/hark", "token", "--user", user, "--scope", scope))
}

// client returns a client of the proxy.
func (p *project) client(token string) *client.Client {
	p.t.Helper()
	c, err := client.New(client.Options{URL: p.url, Token: token, HTTPClient: p.http})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// get returns the status of a GET through the proxy.
func (p *project) get(path string) int {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := p.http.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// metric returns a metric of a notifier or worker, read by the proxy inside the network.
func (p *project) metric(address, name string) string {
	p.t.Helper()
	for line := range strings.Lines(p.exec("proxy", "wget", "-q", "-O", "-", "http://"+address+"/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	p.t.Fatalf("%s has no metric %s", address, name)
	return ""
}

// step logs the duration of a step.
func (p *project) step(what string, f func()) {
	p.t.Helper()
	begin := time.Now()
	f()
	p.t.Logf("%-60s %6.1fs", what, time.Since(begin).Seconds())
}
