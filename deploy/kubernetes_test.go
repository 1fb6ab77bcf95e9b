package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// object is a YAML or JSON object, as encoding/json decodes it.
type object = map[string]any

// at returns the value at a path of keys and indexes; nil if there is none.
func at(v any, keys ...any) any {
	for _, key := range keys {
		switch k := key.(type) {
		case string:
			m, _ := v.(object)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func list(v any, keys ...any) []any { l, _ := at(v, keys...).([]any); return l }

func text(v any, keys ...any) string { s, _ := at(v, keys...).(string); return s }

func number(v any, keys ...any) int { f, _ := at(v, keys...).(float64); return int(f) }

// readYAML reads the documents of a file.
func readYAML(t *testing.T, file string) (documents []object) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var document object
		if err := json.Unmarshal(asJSON, &document); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		documents = append(documents, document)
	}
}

// manifests returns the objects that kubectl apply -k creates, by kind and name.
func manifests(t *testing.T) map[string]object {
	t.Helper()
	kustomization := readYAML(t, "kubernetes/kustomization.yaml")[0]
	files, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects := make(map[string]object)
	for _, file := range files {
		if path.Base(file) == "kustomization.yaml" {
			continue
		}
		if !slices.Contains(list(kustomization, "resources"), any(path.Base(file))) {
			t.Errorf("%s is not a resource of the kustomization", file)
		}
		for _, o := range readYAML(t, file) {
			name := text(o, "kind") + " " + text(o, "metadata", "name")
			if objects[name] != nil {
				t.Errorf("there are two of %s", name)
			}
			objects[name] = o
		}
	}
	if want := len(list(kustomization, "resources")); want != len(files)-1 || len(objects) < 10 {
		t.Errorf("%d resources, %d files, %d objects", want, len(files), len(objects))
	}
	return objects
}

// pods returns the objects that create pods.
func pods(t *testing.T) map[string]object {
	all := manifests(t)
	maps.DeleteFunc(all, func(_ string, o object) bool { return at(o, "spec", "template") == nil })
	if len(all) != 3 {
		t.Errorf("there are %d", len(all))
	}
	return all
}

// environment returns the environment of a container, and its files of the Secret.
func environment(t *testing.T, container any) (env []string) {
	t.Helper()
	all := manifests(t)
	for _, from := range list(container, "envFrom") {
		name := text(from, "configMapRef", "name")
		m, ok := at(all["ConfigMap "+name], "data").(object)
		if !ok {
			t.Errorf("there is no ConfigMap %q", name)
		}
		for key := range m {
			env = append(env, key+"="+text(m, key))
		}
	}
	for _, one := range list(container, "env") {
		if _, ok := at(one, "value").(string); !ok {
			t.Errorf("%s has no value", text(one, "name"))
		}
		env = append(env, text(one, "name")+"="+text(one, "value"))
	}
	return env
}

func value(env []string, name string) string {
	for _, one := range env {
		if v, ok := strings.CutPrefix(one, name+"="); ok {
			return v
		}
	}
	return ""
}

// TestManifestCommands checks each container's command line and variables against the program, and that the files of the variables are mounted, and
// created by docs/deploy.md.
func TestManifestCommands(t *testing.T) {
	guide, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range pods(t) {
		pod := at(o, "spec", "template", "spec")
		container := at(pod, "containers", 0)
		var args []string
		for _, arg := range list(container, "args") {
			args = append(args, arg.(string))
		}
		env := environment(t, container)
		checkCommand(t, args, env)

		mounted := make(map[string]bool)
		for _, volume := range list(pod, "volumes") {
			for _, mount := range list(container, "volumeMounts") {
				if text(mount, "name") != text(volume, "name") {
					continue
				}
				if at(volume, "emptyDir") != nil {
					mounted[text(mount, "mountPath")] = true
				}
				for _, item := range list(volume, "secret", "items") {
					mounted[path.Join(text(mount, "mountPath"), text(item, "path"))] = true
					if made := " --from-file=" + text(item, "key") + "="; !strings.Contains(string(guide), made) {
						t.Errorf("%s: docs/deploy.md does not say%s…", name, made)
					}
				}
			}
		}
		named := make(map[string]bool)
		for _, one := range env {
			variable, file, _ := strings.Cut(one, "=")
			if !strings.HasPrefix(file, "/") {
				continue
			}
			if !mounted[file] && !mounted[path.Dir(file)] {
				t.Errorf("%s: %s: %s is in no volume", name, variable, file)
			}
			named[file], named[path.Dir(file)] = true, true
		}
		for file := range mounted {
			if !named[file] {
				t.Errorf("%s: no variable names %s", name, file)
			}
		}
	}
}

// TestManifestPods checks that each pod has probes on existing ports, time to stop, limits, and no privileges.
func TestManifestPods(t *testing.T) {
	for name, o := range pods(t) {
		pod := at(o, "spec", "template", "spec")
		container := at(pod, "containers", 0)
		env := environment(t, container)
		if len(list(pod, "containers")) != 1 {
			t.Errorf("%s: only one container is checked", name)
		}
		if text(o, "kind") == "Deployment" {
			_, port, _ := strings.Cut(value(env, "HARK_LISTEN"), ":")
			if declared := number(container, "ports", 0, "containerPort"); strconv.Itoa(declared) != port {
				t.Errorf("%s declares port %d and listens on %s", name, declared, port)
			}
			if scraped := text(o, "spec", "template", "metadata", "annotations", "prometheus.io/port"); scraped != port {
				t.Errorf("%s is scraped on port %s and listens on %s", name, scraped, port)
			}
			for probe, path := range map[string]string{"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"} {
				get := at(container, probe, "httpGet")
				asked, _, _ := strings.Cut(text(get, "path"), "?")
				if asked != path || text(get, "port") != text(container, "ports", 0, "name") {
					t.Errorf("%s: the %s is %v", name, probe, get)
				}
			}
			drain, err := time.ParseDuration(value(env, "HARK_DRAIN"))
			grace := number(pod, "terminationGracePeriodSeconds") - number(container, "lifecycle", "preStop", "sleep", "seconds")
			if err != nil || float64(grace) <= 3*drain.Seconds() {
				t.Errorf("%s: %d s are left for a stop with --drain %v, %v", name, grace, drain, err)
			}
			memory, limit := bytesOf(t, value(env, "GOMEMLIMIT")), bytesOf(t, text(container, "resources", "limits", "memory"))
			if memory < limit*8/10 || memory > limit*95/100 {
				t.Errorf("%s: GOMEMLIMIT is %d of %d bytes", name, memory, limit)
			}
			if len(list(pod, "topologySpreadConstraints")) == 0 {
				t.Errorf("%s may come to one machine as a whole", name)
			}
		}
		if at(container, "resources", "requests", "cpu") == nil || at(container, "resources", "requests", "memory") == nil {
			t.Errorf("%s requests nothing", name)
		}
		for _, want := range []struct {
			got, want any
		}{
			{at(pod, "securityContext", "runAsNonRoot"), true},
			{at(pod, "securityContext", "runAsUser"), 65532.0},
			{at(pod, "securityContext", "seccompProfile", "type"), "RuntimeDefault"},
			{at(container, "securityContext", "allowPrivilegeEscalation"), false},
			{at(container, "securityContext", "readOnlyRootFilesystem"), true},
			{at(container, "securityContext", "capabilities", "drop", 0), "ALL"},
			{at(pod, "automountServiceAccountToken"), false},
			{at(pod, "enableServiceLinks"), false},
		} {
			if want.got != want.want {
				t.Errorf("%s: got %v, want %v", name, want.got, want.want)
			}
		}
	}
}

// bytesOf reads Kubernetes' 512Mi and Go's 460MiB.
func bytesOf(t *testing.T, size string) int {
	t.Helper()
	units := map[string]int{"Mi": 1 << 20, "Gi": 1 << 30}
	n, unit := strings.TrimRight(size, "MGiB"), strings.TrimSuffix(strings.TrimLeft(size, "0123456789"), "B")
	count, err := strconv.Atoi(n)
	if err != nil || units[unit] == 0 {
		t.Fatalf("%q is no size", size)
	}
	return count * units[unit]
}

// TestManifestSelectors checks that every selector finds pods, and that services and the Ingress lead to one of their ports.
func TestManifestSelectors(t *testing.T) {
	all, pods := manifests(t), pods(t)
	// selected returns the pods that have all the labels.
	selected := func(labels any) (found []object) {
		want, _ := labels.(object)
		for _, o := range pods {
			have, _ := at(o, "spec", "template", "metadata", "labels").(object)
			matches := len(want) != 0
			for key, v := range want {
				matches = matches && have[key] == v
			}
			if matches {
				found = append(found, o)
			}
		}
		return found
	}
	port := func(o object) any { return at(o, "spec", "template", "spec", "containers", 0, "ports", 0, "name") }
	for name, o := range all {
		switch text(o, "kind") {
		case "Deployment":
			if got := selected(at(o, "spec", "selector", "matchLabels")); len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(o) {
				t.Errorf("%s selects %d", name, len(got))
			}
			for _, c := range list(o, "spec", "template", "spec", "topologySpreadConstraints") {
				if got := selected(at(c, "labelSelector", "matchLabels")); len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(o) {
					t.Errorf("%s spreads %d", name, len(got))
				}
			}
			if all["PodDisruptionBudget "+text(o, "metadata", "name")] == nil {
				t.Errorf("%s has no PodDisruptionBudget", name)
			}
		case "PodDisruptionBudget":
			if got := selected(at(o, "spec", "selector", "matchLabels")); len(got) != 1 || text(got[0], "metadata", "name") != text(o, "metadata", "name") {
				t.Errorf("%s selects %d", name, len(got))
			}
		case "Service":
			got := selected(at(o, "spec", "selector"))
			if len(got) != 1 || at(o, "spec", "ports", 0, "targetPort") != port(got[0]) {
				t.Errorf("%s leads to %d, port %v", name, len(got), at(o, "spec", "ports", 0, "targetPort"))
			}
		case "NetworkPolicy":
			got := selected(at(o, "spec", "podSelector", "matchLabels"))
			if len(got) == 0 {
				t.Errorf("%s selects none", name)
			}
			for _, pod := range got {
				if text(pod, "kind") == "Deployment" && at(o, "spec", "ingress", 0, "ports", 0, "port") != port(pod) {
					t.Errorf("%s opens another port than %v", name, port(pod))
				}
			}
		case "Ingress":
			for _, p := range list(o, "spec", "rules", 0, "http", "paths") {
				service := all["Service "+text(p, "backend", "service", "name")]
				if text(p, "backend", "service", "port", "name") != text(service, "spec", "ports", 0, "name") || service == nil {
					t.Errorf("%s: %v leads nowhere", name, p)
				}
			}
		}
	}
}

// TestIngressPaths checks that exactly the public paths of hark are public.
func TestIngressPaths(t *testing.T) {
	var rules []any
	for _, o := range manifests(t) {
		if text(o, "kind") == "Ingress" {
			rules = list(o, "spec", "rules", 0, "http", "paths")
		}
	}
	public := func(asked string) bool {
		for _, rule := range rules {
			prefix := text(rule, "path")
			if asked == prefix || text(rule, "pathType") == "Prefix" && strings.HasPrefix(asked, strings.TrimSuffix(prefix, "/")+"/") {
				return true
			}
		}
		return false
	}
	openapi, err := os.ReadFile("../notifier/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var described struct{ Paths map[string]any }
	if err := json.Unmarshal(openapi, &described); err != nil || len(described.Paths) < 10 {
		t.Fatalf("%d paths, %v", len(described.Paths), err)
	}
	for _, asked := range append(slices.Collect(maps.Keys(described.Paths)), "/", "/hark.js", "/assets/page.js") {
		own := asked == "/metrics" || asked == "/livez" || asked == "/readyz"
		if public(asked) == own {
			t.Errorf("%s: public is %v", asked, public(asked))
		}
	}
	for _, asked := range []string{"/metrics", "/livez", "/readyz"} {
		if public(asked) {
			t.Errorf("%s is public", asked)
		}
	}
}
