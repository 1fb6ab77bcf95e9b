package e2e_test

import (
	"bytes"
	"fmt"
	"go/format"
	"go/parser"
	gotoken "go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
)

// The Go of README works as printed in a module of its own, which imports nothing internal: it is tidy, its test passes, and its
// worker and its service do what they say beside a running hark. TestReadmeIsVetted vets it.
func TestReadmeInAnotherModule(t *testing.T) {
	t.Parallel()
	if strings.Contains(readFile(t, "../../go.mod"), "\nreplace ") {
		t.Error("go.mod replaces modules, which does not hold in other modules")
	}
	dir, web, natsAddr, out := t.TempDir(), harkproc.FreeAddr(t), harkproc.FreeAddr(t), new(logtest.Buffer)
	p := newModule(t, dir, strings.NewReplacer("localhost:4280", web, "localhost:4222", natsAddr))
	p.run("mod", "tidy")
	p.run("test", "-vet=off", "./...")
	for path := range strings.FieldsSeq(p.run("list", "-f", `{{join .Imports "\n"}}`+"\n"+`{{join .TestImports "\n"}}`, "./...")) {
		if strings.Contains(path, "/internal/") {
			t.Errorf("the program imports %s", path)
		}
	}

	key := writeFile(t, filepath.Join(t.TempDir(), "jwt-secret"), secret+"\n")
	harkproc.Start(t, out, "serve", "--listen", web, "--data", t.TempDir(), "--jwt-secret-file", key, "--nats-listen", natsAddr, "--drain", "1s")
	harkproc.Ready(t, "http://"+web)
	binary := filepath.Join(t.TempDir(), "shop")
	p.run("build", "-o", binary, ".")
	shop := exec.CommandContext(t.Context(), binary)
	shop.Env = append(os.Environ(), "TOKEN="+token(t, "shop", "enqueue", "notify", "admin"))
	said, err := shop.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "succeeded ") {
		t.Fatalf("the program ends with %v and says\n%s\nhark says\n%s", err, said, out)
	}
	inbox := titles(t, newClient(t, "http://"+web, "ana"), 2)
	if want := []string{"Report is done", "Your order is on its way"}; !slices.Equal(inbox, want) {
		t.Errorf("the inbox has %q, want %q", inbox, want)
	}
}

// module is a module outside this one.
type module struct {
	t   *testing.T
	dir string
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// newModule writes the Go of README into a module in dir. Blocks that are whole declarations stand in files as they are. Those
// of statements (the worker, the service, the program with hark inside) become the bodies of functions.
func newModule(t *testing.T, dir string, addresses *strings.Replacer) *module {
	t.Helper()
	var declarations, tests string
	var bodies []string
	for _, block := range goBlock.FindAllStringSubmatch(readFile(t, "../../README.md"), -1) {
		code := block[1]
		switch _, err := parser.ParseFile(gotoken.NewFileSet(), "", "package p\n"+code, 0); {
		case err != nil:
			bodies = append(bodies, code)
		case strings.Contains(code, "testing.T"):
			tests += code
		default:
			declarations += code
		}
	}
	if declarations == "" || tests == "" || len(bodies) != 3 {
		t.Fatalf("README has declarations %q, tests %q, and %d blocks of statements, want 3: the worker, the service and the program with hark inside", declarations, tests, len(bodies))
	}
	main := declarations + fmt.Sprintf(`
func work(ctx context.Context) error {
%s
return err
}

func serve(ctx context.Context, token string) error {
%s
return err
}

func inside(ctx context.Context, nc *nats.Conn, pool *pgxpool.Pool, router *gin.Engine, login notifier.Authenticator) error {
%s
return err
}
`, bodies[0], bodies[1], bodies[2]) + `
func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() { fmt.Println("the worker ends:", work(ctx)) }()
	for !published(ctx) {
		time.Sleep(20 * time.Millisecond)
	}
	if err := serve(ctx, os.Getenv("TOKEN")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// published reports whether the worker has started, or ctx has ended.
func published(ctx context.Context) bool {
	c, err := client.New(client.Options{URL: "http://localhost:4280", Token: os.Getenv("TOKEN")})
	if err != nil {
		panic(err)
	}
	kinds, _ := c.Kinds(ctx)
	return ctx.Err() != nil || slices.ContainsFunc(kinds, func(k jobs.Kind) bool { return k.Name == "report" })
}
`
	p := &module{t, dir}
	p.write("main.go", addresses.Replace(main))
	p.write("main_test.go", tests)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// With the versions and the sums of this module there is nothing to resolve.
	_, requirements, _ := strings.Cut(readFile(t, "../../go.mod"), "\n")
	requirements, _, _ = strings.Cut(requirements, "\ntool ")
	writeFile(t, filepath.Join(dir, "go.mod"), "module example.com/shop\n"+requirements+
		"\nrequire github.com/hark-jobs/hark v0.0.0\n\nreplace github.com/hark-jobs/hark => "+root+"\n")
	writeFile(t, filepath.Join(dir, "go.sum"), readFile(t, "../../go.sum"))
	return p
}

// packages are those that the program may use. README does not show its imports.
var packages = []string{"context", "errors", "fmt", "os", "slices", "testing", "time", "github.com/nats-io/nats.go", "github.com/gin-gonic/gin",
	"github.com/jackc/pgx/v5/pgxpool", "github.com/hark-jobs/hark", "github.com/hark-jobs/hark/client",
	"github.com/hark-jobs/hark/harktest", "github.com/hark-jobs/hark/jobs", "github.com/hark-jobs/hark/notifier",
	"github.com/hark-jobs/hark/notifier/inbox", "github.com/hark-jobs/hark/queue", "github.com/hark-jobs/hark/worker"}

// write writes a file of package main that imports what it uses of [packages].
func (p *module) write(name, code string) {
	p.t.Helper()
	var file bytes.Buffer
	file.WriteString("package main\n\n")
	for _, path := range packages {
		used := strings.TrimSuffix(filepath.Base(path), ".go") + "."
		// The test's variable has the name of package hark.
		if strings.Contains(code, "hark := harktest.") && used == "hark." {
			continue
		}
		if regexp.MustCompile(`\b` + regexp.QuoteMeta(used) + `[A-Z]`).MatchString(code) {
			fmt.Fprintf(&file, "import %q\n", path)
		}
	}
	file.WriteString(code)
	text, err := format.Source(file.Bytes())
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, &file)
	}
	writeFile(p.t, filepath.Join(p.dir, name), string(text))
}

// run runs go in the module, and returns what it prints to stdout.
func (p *module) run(args ...string) string {
	p.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(p.t.Context(), "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &stdout, &stderr
	cmd.Env = append(harkproc.GoEnv(), "GOFLAGS=-mod=mod -trimpath '-ldflags=-s -w'", "GOWORK=off")
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// go.mod and go.sum have what the packages need, and nothing else.
func TestTidy(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "tidy", "-diff")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go mod tidy fails or changes something: %v\n%s", err, out)
	}
}
