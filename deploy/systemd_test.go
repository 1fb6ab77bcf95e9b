package deploy_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
)

// unit has the keys of a unit and their values in order. The checks ignore sections.
type unit map[string][]string

func (u unit) last(key string) string {
	if len(u[key]) == 0 {
		return ""
	}
	return u[key][len(u[key])-1]
}

func readUnits(t *testing.T) map[string]unit {
	t.Helper()
	paths, err := filepath.Glob("systemd/*.service")
	if err != nil || len(paths) < 4 {
		t.Fatalf("got %q, %v", paths, err)
	}
	units := make(map[string]unit)
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		u := make(unit)
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), "="); ok && key[0] != '#' {
				u[key] = append(u[key], value)
			}
		}
		f.Close()
		units[filepath.Base(path)] = u
	}
	return units
}

// TestUnitCommands checks each unit's command line and variables against the program.
func TestUnitCommands(t *testing.T) {
	for name, u := range readUnits(t) {
		line := strings.Fields(u.last("ExecStart"))
		if len(line) == 0 || line[0] != "/usr/bin/hark" {
			t.Errorf("%s: ExecStart is %q", name, line)
			continue
		}
		checkCommand(t, line[1:], u["Environment"])
	}
}

// TestUnitSecrets checks that secrets are files: each credential of a variable is loaded, and no others.
func TestUnitSecrets(t *testing.T) {
	named := regexp.MustCompile(`%d/(\S+)`)
	for name, u := range readUnits(t) {
		var loaded, used []string
		for _, credential := range u["LoadCredential"] {
			id, path, _ := strings.Cut(credential, ":")
			loaded = append(loaded, id)
			if !strings.HasPrefix(path, "/etc/hark/") {
				t.Errorf("%s: the credential %s is of %s", name, id, path)
			}
		}
		for _, match := range named.FindAllStringSubmatch(strings.Join(append(u["Environment"], u["ExecStart"]...), "\n"), -1) {
			used = append(used, match[1])
		}
		slices.Sort(loaded)
		slices.Sort(used)
		if len(loaded) == 0 || !slices.Equal(loaded, used) {
			t.Errorf("%s loads %q and uses %q", name, loaded, used)
		}
		for _, v := range u["Environment"] {
			if secret := regexp.MustCompile(`^HARK_(\w+_)?(PASSWORD|SECRET|TOKEN|DATABASE)=`); secret.MatchString(v) {
				t.Errorf("%s: %s is visible to others", name, v)
			}
		}
	}
}

// TestUnitStop checks that systemd waits for the longest stop: three times --drain.
func TestUnitStop(t *testing.T) {
	for name, u := range readUnits(t) {
		if u.last("Type") == "oneshot" {
			continue
		}
		timeout, err := strconv.Atoi(strings.TrimSuffix(u.last("TimeoutStopSec"), "s"))
		if err != nil || timeout < 3*10 {
			t.Errorf("%s: TimeoutStopSec is %q", name, u.last("TimeoutStopSec"))
		}
		if u.last("Restart") != "always" || u.last("KillSignal") != "SIGTERM" {
			t.Errorf("%s: Restart is %q, KillSignal %q", name, u.last("Restart"), u.last("KillSignal"))
		}
	}
}

// exposure is the largest allowed result of `systemd-analyze security`, of 10. The units have 1.1, mostly for the network.
const exposure = 1.2

// TestUnitsVerify verifies the units with systemd, with the path of the program on this machine.
func TestUnitsVerify(t *testing.T) {
	dir := t.TempDir()
	overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for name := range readUnits(t) {
		text, err := os.ReadFile(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), "ExecStart=/usr/bin/hark ", "ExecStart="+harkproc.Binary(t)+" ", 1)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		// A template is checked as one of its instances.
		instance := filepath.Join(dir, strings.Replace(name, "@.", "@4281.", 1))
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", instance).CombinedOutput()
		if err != nil || len(out) != 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
		out, err = exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", path).CombinedOutput()
		match := overall.FindSubmatch(out)
		if err != nil || match == nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
			continue
		}
		if level, err := strconv.ParseFloat(string(match[1]), 64); err != nil || level > exposure {
			t.Errorf("%s: the exposure level is %s, more than %v\n%s", name, match[1], exposure, out)
		}
	}
}

// TestUnitUser verifies the file that creates the units' user with systemd.
func TestUnitUser(t *testing.T) {
	root := t.TempDir()
	file, err := filepath.Abs("systemd/hark.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-sysusers", "--root="+root, file).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !strings.Contains(string(passwd), ":/var/lib/hark:") {
		t.Errorf("got %q, %v", passwd, err)
	}
	for name, u := range readUnits(t) {
		if user := u.last("User"); !strings.HasPrefix(string(passwd), user+":") {
			t.Errorf("%s runs as %q", name, user)
		}
	}
}
