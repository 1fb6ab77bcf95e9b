package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// composeFile is the part of docker-compose.yml that the tests read.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
	Networks map[string]any            `yaml:"networks"`
}

type composeService struct {
	Image       string            `yaml:"image"`
	Build       any               `yaml:"build"`
	Command     []string          `yaml:"command"`
	Entrypoint  []string          `yaml:"entrypoint"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	Networks    []string          `yaml:"networks"`
	NetworkMode string            `yaml:"network_mode"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
	Restart     string         `yaml:"restart"`
	ReadOnly    bool           `yaml:"read_only"`
	CapDrop     []string       `yaml:"cap_drop"`
	SecurityOpt []string       `yaml:"security_opt"`
	MemLimit    string         `yaml:"mem_limit"`
	CPUs        float64        `yaml:"cpus"`
	Logging     map[string]any `yaml:"logging"`
}

func readComposeFile(t *testing.T) (file composeFile, text string) {
	t.Helper()
	data, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	// A key that the merged mapping has, too, counts as a duplicate here; the key itself takes precedence.
	if err := yaml.UnmarshalWithOptions(data, &file, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	return file, string(data)
}

// oneShots are the services that end.
var oneShots = []string{"secrets", "setup"}

// docker-compose.yml is consistent, and refers only to existing things.
func TestComposeFile(t *testing.T) {
	file, text := readComposeFile(t)
	want := []string{"nats-1", "nats-2", "nats-3", "notifier-1", "notifier-2", "postgres", "proxy", "secrets", "setup", "worker-1", "worker-2"}
	var names []string
	for name := range file.Services {
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Fatalf("services %v, want %v", names, want)
	}
	for name, s := range file.Services {
		complain := func(format string, args ...any) {
			t.Helper()
			t.Errorf(name+": "+format, args...)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			complain("is not locked down: read_only %v, cap_drop %v, security_opt %v", s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if s.MemLimit == "" || s.CPUs == 0 || s.Logging["options"] == nil {
			complain("lacks a limit: mem_limit %q, cpus %v, logging %v", s.MemLimit, s.CPUs, s.Logging)
		}
		if !slices.Contains(oneShots, name) && (s.Restart != "unless-stopped" || len(s.Healthcheck.Test) == 0) {
			complain("restart %q, healthcheck %v", s.Restart, s.Healthcheck.Test)
		}
		if slices.Contains(oneShots, name) && s.Restart != "" && s.Restart != "no" {
			complain("restart %q, but it ends", s.Restart)
		}
		if (len(s.Ports) > 0) != (name == "proxy") {
			complain("publishes %v; the proxy alone publishes a port", s.Ports)
		}
		for other := range s.DependsOn {
			if _, ok := file.Services[other]; !ok {
				complain("depends on %s, which is not there", other)
			}
		}
		for _, volume := range s.Volumes {
			checkComposeVolume(t, file, name, volume)
		}
		for _, network := range s.Networks {
			if _, ok := file.Networks[network]; !ok {
				complain("network %s is not there", network)
			}
		}
		if stand := strings.TrimPrefix(s.Image, "${HARK_IMAGE"); stand == s.Image && !hasStandIn(t, s.Image) {
			complain("image %s has no stand-in in standin/", s.Image)
		}
	}
	for _, name := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(text, "#   "+name[1]+" ") {
			t.Errorf("the variable %s is not in the list at the top of the file", name[1])
		}
	}
}

// checkComposeVolume checks that a volume is declared, or a file exists, and that only their readers get secrets.
func checkComposeVolume(t *testing.T, file composeFile, service, volume string) {
	t.Helper()
	source, _, _ := strings.Cut(volume, ":")
	if strings.HasPrefix(source, ".") {
		if _, err := os.Stat(filepath.Join("..", source)); err != nil {
			t.Errorf("%s: %v", service, err)
		}
		return
	}
	if _, ok := file.Volumes[source]; !ok {
		t.Errorf("%s: volume %s is not declared", service, source)
	}
	if kind, secret := strings.CutPrefix(source, "secrets-"); secret && service != "secrets" {
		reader := map[string]string{"hark": "notifier", "worker": "worker", "nats": "nats", "postgres": "postgres"}[kind]
		if !strings.HasPrefix(service, reader) && (service != "setup" || kind != "worker") {
			t.Errorf("%s has the secrets of %s", service, reader)
		}
		if !strings.HasSuffix(volume, ":ro") {
			t.Errorf("%s can write secrets: %s", service, volume)
		}
	}
}

func hasStandIn(t *testing.T, image string) bool {
	t.Helper()
	script, err := os.ReadFile("standin/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(script), "todo+=(\""+image+" ")
}

// The real program has every command, flag and variable of docker-compose.yml.
func TestComposeFileCommands(t *testing.T) {
	t.Parallel()
	file, text := readComposeFile(t)
	checked := 0
	for name, s := range file.Services {
		if !strings.Contains(s.Image, "HARK_IMAGE") {
			continue
		}
		if len(s.Command) == 0 {
			t.Errorf("%s: no command", name)
			continue
		}
		var env []string
		for variable, value := range s.Environment {
			env = append(env, variable+"="+value)
			if !strings.HasPrefix(variable, "HARK_") {
				continue
			}
			checked++
			if regexp.MustCompile(`PASSWORD|SECRET|DATABASE|TOKEN`).MatchString(variable) && !strings.HasSuffix(variable, "_FILE") {
				t.Errorf("%s: the secret %s is not in a file", name, variable)
			}
		}
		checkCommand(t, s.Command, env)
		if test := s.Healthcheck.Test; len(test) > 0 {
			if test[0] != "CMD" || test[1] != "/hark" {
				t.Errorf("%s: healthcheck %v; the image has no shell", name, test)
			}
			checkCommand(t, test[2:], nil)
		}
	}
	if checked < 10 {
		t.Errorf("only %d variables were looked at", checked)
	}
	// The commands in its comments.
	for _, line := range regexp.MustCompile(`/hark ([a-z]+(?: [^#\n]*)?)`).FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(line[1], "health ") {
			checkCommand(t, strings.Fields(line[1]), nil)
		}
	}
}
