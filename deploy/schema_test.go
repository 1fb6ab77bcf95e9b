package deploy_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kubernetes is the oldest version that accepts the manifests. They are checked with its schema.
const kubernetes = "1.30"

// schemas are the OpenAPI documents that Kubernetes publishes for a version.
type schemas struct {
	dir string
	all map[string]object // the schemas of a document, by its path
}

// openSchemas finds the documents in the module that kubernetes/schema pins.
func openSchemas(t *testing.T) *schemas {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", "sigs.k8s.io/kubectl-validate")
	cmd.Dir = "kubernetes/schema"
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil || module.Dir == "" {
		t.Fatalf("go mod download: %v, %v, %s", err, jsonErr, module.Error)
	}
	return &schemas{filepath.Join(module.Dir, "pkg/openapiclient/builtins", kubernetes), make(map[string]object)}
}

// document returns the schemas of an apiVersion.
func (s *schemas) document(t *testing.T, apiVersion string) object {
	t.Helper()
	file := filepath.Join(s.dir, "apis", apiVersion+".json")
	if !strings.Contains(apiVersion, "/") {
		file = filepath.Join(s.dir, "api", apiVersion+".json")
	}
	if s.all[file] == nil {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("apiVersion %s is not in Kubernetes %s: %v", apiVersion, kubernetes, err)
		}
		var document object
		if err := json.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		s.all[file] = at(document, "components", "schemas").(object)
	}
	return s.all[file]
}

// faults checks an object against the schema of its kind.
func (s *schemas) faults(t *testing.T, o object) []string {
	t.Helper()
	group, version, ok := strings.Cut(text(o, "apiVersion"), "/")
	if !ok {
		group, version = "", group
	}
	document := s.document(t, text(o, "apiVersion"))
	for _, schema := range document {
		for _, kind := range list(schema, "x-kubernetes-group-version-kind") {
			if text(kind, "group") == group && text(kind, "version") == version && text(kind, "kind") == text(o, "kind") {
				return validate(document, schema, o, "")
			}
		}
	}
	return []string{fmt.Sprintf("Kubernetes %s has no kind %s in %s", kubernetes, text(o, "kind"), text(o, "apiVersion"))}
}

// validate checks a value against a schema, with the parts of JSON Schema that Kubernetes uses. Unlike there, an undescribed field is a fault: it would be
// dropped or refused.
func validate(document object, schema, v any, path string) (faults []string) {
	if ref := text(schema, "$ref"); ref != "" {
		target, ok := document[strings.TrimPrefix(ref, "#/components/schemas/")]
		if !ok {
			return []string{path + ": the schema has no " + ref}
		}
		return validate(document, target, v, path)
	}
	for _, part := range list(schema, "allOf") {
		faults = append(faults, validate(document, part, v, path)...)
	}
	if either := list(schema, "oneOf"); either != nil {
		if !slices.ContainsFunc(either, func(one any) bool { return validate(document, one, v, path) == nil }) {
			faults = append(faults, fmt.Sprintf("%s: %v is none of %v", path, v, either))
		}
	}
	if enum := list(schema, "enum"); enum != nil && !slices.Contains(enum, v) {
		faults = append(faults, fmt.Sprintf("%s: %v is not one of %v", path, v, enum))
	}
	ok := true
	switch kind := text(schema, "type"); kind {
	case "object":
		var fields object
		if fields, ok = v.(object); !ok {
			break
		}
		for _, name := range list(schema, "required") {
			if _, ok := fields[name.(string)]; !ok {
				faults = append(faults, fmt.Sprintf("%s.%s is required", path, name))
			}
		}
		for name, field := range fields {
			described := at(schema, "properties", name)
			if described == nil {
				described = at(schema, "additionalProperties")
			}
			if described == nil {
				faults = append(faults, fmt.Sprintf("%s.%s is unknown", path, name))
				continue
			}
			faults = append(faults, validate(document, described, field, path+"."+name)...)
		}
	case "array":
		var items []any
		items, ok = v.([]any)
		for i, item := range items {
			faults = append(faults, validate(document, at(schema, "items"), item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "integer", "number":
		var f float64
		f, ok = v.(float64)
		ok = ok && (kind == "number" || f == math.Trunc(f))
	}
	if !ok {
		faults = append(faults, fmt.Sprintf("%s: %v is no %s", path, v, text(schema, "type")))
	}
	return faults
}

// TestManifestSchema checks every manifest against the schema that Kubernetes publishes.
func TestManifestSchema(t *testing.T) {
	s := openSchemas(t)
	for name, o := range manifests(t) {
		for _, fault := range s.faults(t, o) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// TestSchemaFaults checks that the check finds faults.
func TestSchemaFaults(t *testing.T) {
	s := openSchemas(t)
	for fault, change := range map[string]func(deployment object){
		"":                               func(object) {},
		"has no kind Deploy":             func(d object) { d["kind"] = "Deploy" },
		".spec.replica is unknown":       func(d object) { d["spec"].(object)["replica"] = 2.0 },
		".spec.selector is required":     func(d object) { delete(d["spec"].(object), "selector") },
		".spec.replicas: 2 is no":        func(d object) { d["spec"].(object)["replicas"] = "2" },
		".spec.replicas: 2.5 is no":      func(d object) { d["spec"].(object)["replicas"] = 2.5 },
		"sleep.seconds is required":      func(d object) { delete(sleep(d), "seconds") },
		"preStop.sleep.second is":        func(d object) { sleep(d)["second"] = 1.0 },
		".metadata.labels.x: 1 is no":    func(d object) { at(d, "metadata", "labels").(object)["x"] = 1.0 },
		".containers: map[] is no array": func(d object) { at(d, "spec", "template", "spec").(object)["containers"] = object{} },
	} {
		d := manifests(t)["Deployment hark-notifier"]
		change(d)
		got := s.faults(t, d)
		if fault == "" && got != nil || fault != "" && (len(got) != 1 || !strings.Contains(got[0], fault)) {
			t.Errorf("got %q, want %q", got, fault)
		}
	}
}

func sleep(deployment object) object {
	return at(deployment, "spec", "template", "spec", "containers", 0, "lifecycle", "preStop", "sleep").(object)
}
