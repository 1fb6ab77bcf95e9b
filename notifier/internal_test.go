package notifier

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/prometheus/client_golang/prometheus"
)

func init() { gin.SetMode(gin.TestMode) } // Gin itself takes a test for a program that is being debugged

// param matches the parameter of a path of the router, which OpenAPI writes in braces.
var wildcard = regexp.MustCompile(`[:*]([a-z]+)`)

// bare returns a notifier without a store.
func bare(t *testing.T, log *slog.Logger) *Notifier {
	t.Helper()
	origins, err := auth.NewOrigins(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Notifier{meter: newMeter(func() int { return 0 }, func() uint64 { return 0 }), origins: origins, log: log,
		verifier: &auth.Verifier{}, tickets: &auth.Tickets{}, revoked: &auth.Revocations{}}
}

// A notifier does not change Gin's mode, which belongs to the embedding program.
func TestGinsModeIsLeftAlone(t *testing.T) {
	before := gin.Mode()
	bare(t, slog.Default()).newRouter()
	if gin.Mode() != before {
		t.Errorf("it was %s and is %s", before, gin.Mode())
	}
}

func TestOpenAPIHasEveryRoute(t *testing.T) {
	var spec struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(openapiJSON, &spec); err != nil {
		t.Fatal(err)
	}
	documented, routed := []string{}, []string{"GET /livez", "GET /readyz", "GET /metrics"} // the process serves these itself
	for path, item := range spec.Paths {
		for method := range item {
			if method != "parameters" {
				documented = append(documented, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, route := range bare(t, slog.Default()).newRouter().(*gin.Engine).Routes() {
		if route.Method != http.MethodHead && route.Method != http.MethodOptions { // HEAD is GET without a body, and every path accepts OPTIONS
			routed = append(routed, route.Method+" "+wildcard.ReplaceAllString(route.Path, "{$1}"))
		}
	}
	slices.Sort(documented)
	slices.Sort(routed)
	for _, r := range routed {
		if !slices.Contains(documented, r) {
			t.Error("openapi.json does not know", r)
		}
	}
	for _, d := range documented {
		if !slices.Contains(routed, d) {
			t.Error("openapi.json knows, and nobody else,", d)
		}
	}
}

func TestOpenAPIRefs(t *testing.T) {
	var root any
	if err := json.Unmarshal(openapiJSON, &root); err != nil {
		t.Fatal(err)
	}
	codes := codesInSource(t)
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok && !resolves(root, ref) {
				t.Errorf("%s: %s leads nowhere", at, ref)
			}
			if code, ok := v["code"].(string); ok && strings.Contains(at, "example") && v["status"] != nil && !slices.Contains(codes, code) {
				t.Errorf("%s: the code %s is in no source", at, code)
			}
			for name, child := range v {
				walk(at+"/"+name, child)
			}
		case []any:
			for _, child := range v {
				walk(at+"[]", child)
			}
		}
	}
	walk("#", root)
}

func resolves(root any, ref string) bool {
	path, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		object, _ := root.(map[string]any)
		if root, ok = object[part]; !ok {
			return false
		}
	}
	return true
}

// openapi.json lists exactly the codes of the source.
func TestOpenAPICodes(t *testing.T) {
	var spec struct {
		Components struct {
			Schemas struct {
				Problem struct {
					Properties struct {
						Code struct {
							Enum []string `json:"enum"`
						} `json:"code"`
					} `json:"properties"`
				} `json:"Problem"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(openapiJSON, &spec); err != nil {
		t.Fatal(err)
	}
	promised, written := spec.Components.Schemas.Problem.Properties.Code.Enum, codesInSource(t)
	slices.Sort(promised)
	if !slices.Equal(promised, written) {
		t.Errorf("openapi.json: %v\nthe source:   %v", promised, written)
	}
}

func codesInSource(t *testing.T) (codes []string) {
	t.Helper()
	patterns := map[string]*regexp.Regexp{
		"*.go":           regexp.MustCompile(`(?:newProblem\(|\w+\.Err\w+, )http\.Status\w+, "([a-z_]+)"`),
		"auth/errors.go": regexp.MustCompile(`Code\w+\s+= "([a-z_]+)"`),
		"../jobs/*.go":   regexp.MustCompile(`InvalidError\{Code: "([a-z_]+)"`),
	}
	for glob, pattern := range patterns {
		names, err := filepath.Glob(glob)
		if err != nil || len(names) == 0 {
			t.Fatal(glob, err)
		}
		for _, name := range names {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range pattern.FindAllSubmatch(source, -1) {
				if !strings.HasSuffix(name, "_test.go") {
					codes = append(codes, string(match[1]))
				}
			}
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

func TestPanicDoesNotLeak(t *testing.T) {
	var log logtest.Buffer
	n := bare(t, slog.New(slog.NewTextHandler(&log, nil)))
	engine := gin.New()
	engine.Use(gin.RecoveryWithWriter(io.Discard)) // the embedding program recovers, too
	_, routes := n.mount(engine)
	routes.get("/early", func(*gin.Context) { panic("the secret cause") })
	routes.get("/late", func(c *gin.Context) {
		c.String(http.StatusOK, "half")
		c.Writer.Flush()
		panic("the secret cause")
	})
	server := httptest.NewServer(engine)
	defer server.Close()
	get := func(path string) (*http.Response, string, error) {
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res, string(body), err
	}
	res, body, err := get("/early")
	if err != nil || res.StatusCode != 500 || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "secret") || strings.Contains(body, "goroutine") {
		t.Errorf("%v %d %s", err, res.StatusCode, body)
	}
	if !strings.Contains(log.String(), "secret cause") || !strings.Contains(log.String(), res.Header.Get("X-Request-Id")) {
		t.Errorf("the log does not know: %s", log.String())
	}
	if _, body, err = get("/late"); err == nil || body != "half" {
		t.Errorf("half an answer looks whole: %q, %v", body, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.meter.requests)
	families, err := registry.Gather()
	if counted := fmt.Sprint(families); err != nil || !strings.Contains(counted, `"/early"`) || !strings.Contains(counted, `"500"`) {
		t.Errorf("the panic is not counted: %s, %v", counted, err)
	}
}

// The deadline of a body must not end a request that waits for its job after the body was read.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	gone := make(chan bool, 1)
	engine := gin.New()
	engine.POST("/", func(c *gin.Context) {
		if _, err := readBody(c, 50*time.Millisecond); err != nil {
			t.Error(err)
		}
		select {
		case <-c.Request.Context().Done():
			gone <- true
		case <-time.After(300 * time.Millisecond):
			gone <- false
		}
	})
	server := httptest.NewServer(engine)
	defer server.Close()
	res, err := server.Client().Post(server.URL, "", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if <-gone {
		t.Error("the request was cancelled while its client waited")
	}
}

func TestSlowBody(t *testing.T) {
	engine := gin.New()
	n := bare(t, slog.New(slog.DiscardHandler))
	engine.POST("/", func(c *gin.Context) {
		_, err := readBody(c, 50*time.Millisecond)
		n.fail(c, bodyProblem(err))
	})
	server := httptest.NewServer(engine)
	defer server.Close()
	r, w := io.Pipe()
	defer w.Close()
	res, err := server.Client().Post(server.URL, "", r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 408 || !strings.Contains(string(body), "body_too_slow") {
		t.Errorf("%s %s", res.Status, body)
	}
}

// A request that times out gets a response. A request whose client has disconnected gets none.
func TestOutOfTime(t *testing.T) {
	n := bare(t, slog.New(slog.DiscardHandler))
	engine := gin.New()
	engine.GET("/", timeLimit(time.Millisecond), func(c *gin.Context) {
		<-c.Request.Context().Done()
		n.fail(c, c.Request.Context().Err())
	})
	w := httptest.NewRecorder()
	engine.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "queue_unavailable") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestPreferredWait(t *testing.T) {
	for given, want := range map[string]time.Duration{
		"":                             0,
		"respond-async":                0,
		"wait=10":                      10 * time.Second,
		"Wait=10":                      10 * time.Second,
		`respond-async, wait = "7"`:    7 * time.Second,
		"wait=5; because=why":          5 * time.Second,
		"wait=61":                      time.Minute,
		"wait=9223372036854775807":     time.Minute,
		"wait=0":                       0,
		"wait=-1":                      -1,
		"wait=soon":                    -1,
		"wait":                         -1,
		"wait=1e3":                     -1,
		"wait=92233720368547758070000": -1,
	} {
		h := http.Header{}
		if given != "" {
			h.Set("Prefer", given)
		}
		got, err := preferredWait(h)
		if want == -1 != (err != nil) || want >= 0 && got != want {
			t.Errorf("%q: %v, %v", given, got, err)
		}
	}
}

func TestAttachment(t *testing.T) {
	long := strings.Repeat("ä", 300)
	for name, want := range map[string]string{
		"orders.xlsx":         `attachment; filename="orders.xlsx"`,
		"Aufträge 1.xlsx":     `attachment; filename="Auftr_ge 1.xlsx"; filename*=UTF-8''Auftr%C3%A4ge%201.xlsx`,
		"100%.csv":            `attachment; filename="100_.csv"; filename*=UTF-8''100%25.csv`,
		`a"b\c.csv`:           `attachment; filename="c.csv"`,
		"../../etc/passwd":    `attachment; filename="passwd"`,
		`C:\Windows\evil.exe`: `attachment; filename="evil.exe"`,
		"a\r\nSet-Cookie: x":  `attachment; filename="a__Set-Cookie_ x"`,
		"..":                  `attachment; filename="file"`,
		"":                    `attachment; filename="file"`,
		"con.xlsx":            `attachment; filename="_con.xlsx"`,
		"NUL":                 `attachment; filename="_NUL"`,
		"console.txt":         `attachment; filename="console.txt"`,
		"exe.\u202efdp":       `attachment; filename="exe._fdp"`,
		long + ".xlsx":        "",
	} {
		got := attachment(name)
		if want != "" && got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
		if want == "" && (!strings.HasSuffix(got, "%C3%A4.xlsx") || len(safeFileName(name)) > maxFileName) {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func FuzzAttachment(f *testing.F) {
	f.Add("orders.xlsx")
	f.Add("\xff/\u2028\"")
	f.Fuzz(func(t *testing.T, name string) {
		got := attachment(name)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Count(got, `"`) != 2 || len(got) > 1200 {
			t.Errorf("%q: %q", name, got)
		}
	})
}

// openapi.json lists every type of a param.
func TestOpenAPIKnowsTheTypesOfParams(t *testing.T) {
	var spec struct {
		Components struct {
			Schemas struct {
				Param struct {
					Properties struct {
						Type struct {
							Enum []jobs.ParamType
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal(openapiJSON, &spec); err != nil {
		t.Fatal(err)
	}
	if known := spec.Components.Schemas.Param.Properties.Type.Enum; !slices.Equal(known, jobs.ParamTypes) {
		t.Errorf("openapi.json knows %v; the types are %v", known, jobs.ParamTypes)
	}
}
