package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
)

// checkCommand fails the test unless the real hark takes the command line args (the command first, without the
// program's name) and each variable of env (NAME=value; those that do not begin with HARK_ are not hark's).
// It runs nothing but --help.
func checkCommand(t testing.TB, args, env []string) {
	t.Helper()
	for _, fault := range commandFaults(t, args, env) {
		t.Errorf("hark %s: %s", strings.Join(args, " "), fault)
	}
}

var variable = regexp.MustCompile(`\$(HARK_[A-Z0-9_]+)`)

func commandFaults(t testing.TB, args, env []string) (faults []string) {
	t.Helper()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return []string{"there is no command"}
	}
	help, err := helpOf(t, args[:1])
	if err != nil {
		return []string{help}
	}
	var known []string
	for _, match := range variable.FindAllStringSubmatch(help, -1) {
		known = append(known, match[1])
	}
	line := slices.Clone(args)
	for _, one := range env {
		name, value, _ := strings.Cut(one, "=")
		flag, ours := strings.CutPrefix(name, "HARK_")
		switch {
		case !ours:
		case !slices.Contains(known, name):
			faults = append(faults, "it does not know the variable "+name)
		default: // --help reads no variables, and checks the values of flags
			line = append(line, "--"+strings.ReplaceAll(strings.ToLower(flag), "_", "-")+"="+value)
		}
	}
	if out, err := helpOf(t, line); err != nil {
		faults = append(faults, out)
	}
	return faults
}

// helpOf runs a command line with --help, which hark refuses if the command line is invalid.
func helpOf(t testing.TB, args []string) (string, error) {
	t.Helper()
	cmd := exec.Command(harkproc.Binary(t), append(slices.Clone(args), "--help")...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HARK_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line, env, fault string
	}{
		{"serve --drain 5s --log-json", "HARK_LISTEN=:80 GOMEMLIMIT=1GiB", ""},
		{"token --user ana", "HARK_TTL=1h", ""},
		{"serf", "", "unexpected argument serf"},
		{"", "", "there is no command"},
		{"serve --nonsense", "", "unknown flag --nonsense"},
		{"serve more", "", "unexpected argument more"},
		{"serve --drain soon", "", "expected duration"},
		{"worker", "HARK_DATABASE=x", "it does not know the variable HARK_DATABASE"},
		{"serve", "HARK_DRAIN=soon", "expected duration"},
		{"serve", "HARK_LIST=:80", "it does not know the variable HARK_LIST"},
	} {
		faults := commandFaults(t, strings.Fields(c.line), strings.Fields(c.env))
		if c.fault == "" && len(faults) != 0 || c.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.fault)) {
			t.Errorf("hark %s with %s: got %q, want %q", c.line, c.env, faults, c.fault)
		}
	}
}
