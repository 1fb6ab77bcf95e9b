package export

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	yaml "github.com/goccy/go-yaml"
)

// node is a YAML value in a config file, with its path. The tree is walked, not decoded into structs, so that every error has a position
// and says what was expected.
type node struct {
	file *configFile
	path string
	ast  ast.Node
	key  *token.Token // the key of the value, if any
}

type configFile struct {
	name    string
	data    string
	base    string // the folder of relative SQLite files
	anchors map[string]ast.Node
}

// entry is one key of a mapping and its value.
type entry struct {
	name string
	node node
}

// parseYAML returns the root of the document.
func parseYAML(file *configFile) (root node, err error) {
	// If the third-party YAML parser panics, that is an error in the config, not a crash.
	defer func() {
		if p := recover(); p != nil {
			err = &ConfigError{File: file.name, Message: "is not valid YAML"}
		}
	}()
	tree, err := parser.ParseBytes([]byte(file.data), 0)
	if err != nil {
		return node{}, yamlError(file.name, err)
	}
	var body ast.Node
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			return node{}, at(file, doc.Body.GetToken(), "a second document begins; a config is one document")
		}
		body = doc.Body
	}
	file.anchors = make(map[string]ast.Node)
	ast.Walk(anchorCollector(file.anchors), body)
	return node{file: file, ast: body}, nil
}

type anchorCollector map[string]ast.Node

func (a anchorCollector) Visit(n ast.Node) ast.Visitor {
	if anchor, ok := n.(*ast.AnchorNode); ok && anchor.Name != nil {
		a[anchor.Name.String()] = anchor.Value
	}
	return a
}

func yamlError(name string, err error) error {
	e := &ConfigError{File: name, Message: "is not valid YAML"}
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		e.Message = "is not valid YAML: " + syntax.GetMessage()
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
			e.Message = "this is not valid YAML: " + syntax.GetMessage()
		}
	}
	return e
}

func at(file *configFile, t *token.Token, format string, args ...any) *ConfigError {
	e := &ConfigError{File: file.name, Message: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// errorf returns an error at n whose sentence begins with n's path.
func (n node) errorf(format string, args ...any) *ConfigError {
	return at(n.file, n.token(), "%s %s", n.name(), fmt.Sprintf(format, args...))
}

// missing returns the error for a missing key of n.
func (n node) missing(key, expected string) *ConfigError {
	t := n.key
	if t == nil {
		t = n.token()
	}
	return at(n.file, t, "%s is missing; expected %s", strings.TrimPrefix(n.path+"."+key, "."), expected)
}

func (n node) name() string {
	if n.path == "" {
		return "the config"
	}
	return n.path
}

// token returns the first token of n. A mapping begins at its first key, not at the colon.
func (n node) token() *token.Token {
	switch v := n.resolve().(type) {
	case nil:
		return n.key
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return v.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return v.Key.GetToken()
	case *ast.NullNode:
		if n.key != nil {
			return n.key
		}
	}
	return n.ast.GetToken()
}

// resolve follows anchors, aliases and tags to the value itself; nil if there is none.
func (n node) resolve() ast.Node {
	v := n.ast
	for range 16 { // an alias may lead to an alias, even to itself
		switch w := v.(type) {
		case *ast.AnchorNode:
			v = w.Value
		case *ast.AliasNode:
			v = n.file.anchors[strings.TrimPrefix(w.Value.String(), "*")]
		case *ast.TagNode:
			v = w.Value
		case nil:
			return nil
		default:
			return v
		}
	}
	return nil
}

func (n node) isNull() bool {
	v := n.resolve()
	_, null := v.(*ast.NullNode)
	return null || v == nil
}

// mapping returns the entries of n in order. If there are allowed keys, others are an error.
func (n node) mapping(expected string, allowed ...string) ([]entry, error) {
	var values []*ast.MappingValueNode
	switch v := n.resolve().(type) {
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	default:
		return nil, n.errorf("is %s; expected %s", n.describe(), expected)
	}
	entries := make([]entry, 0, len(values))
	seen := make(map[string]bool)
	for _, v := range values {
		key, ok := v.Key.(ast.ScalarNode)
		if !ok || v.Key.IsMergeKey() {
			return nil, at(n.file, v.Key.GetToken(), "%s has a key that is not plain text", n.name())
		}
		name := fmt.Sprint(key.GetValue())
		e := entry{name, node{n.file, strings.TrimPrefix(n.path+"."+name, "."), v.Value, v.Key.GetToken()}}
		switch {
		case seen[name]:
			return nil, at(n.file, e.node.key, "%s is there twice", e.node.path)
		case len(allowed) > 0 && !slices.Contains(allowed, name):
			return nil, at(n.file, e.node.key, "%s is not known; expected one of %s", e.node.path, strings.Join(allowed, ", "))
		}
		seen[name] = true
		entries = append(entries, e)
	}
	return entries, nil
}

// sequence returns the items of n.
func (n node) sequence(expected string) ([]node, error) {
	v, ok := n.resolve().(*ast.SequenceNode)
	if !ok {
		return nil, n.errorf("is %s; expected %s", n.describe(), expected)
	}
	items := make([]node, len(v.Values))
	for i, item := range v.Values {
		items[i] = node{n.file, fmt.Sprintf("%s[%d]", n.path, i), item, nil}
	}
	return items, nil
}

// text returns n as a text that is not empty.
func (n node) text(expected string) (string, error) {
	var s string
	switch v := n.resolve().(type) {
	case *ast.StringNode:
		s = v.Value
	case *ast.LiteralNode:
		s = v.Value.Value
	default:
		return "", n.errorf("is %s; expected %s", n.describe(), expected)
	}
	if strings.TrimSpace(s) == "" {
		return "", n.errorf("is empty; expected %s", expected)
	}
	if strings.ContainsRune(s, 0) { // no database accepts it
		return "", n.errorf("has the character U+0000; expected %s", expected)
	}
	return s, nil
}

// number returns n as a number, and its exact digits.
func (n node) number(expected string) (float64, string, error) {
	switch v := n.resolve().(type) {
	case *ast.IntegerNode:
		digits := fmt.Sprint(v.Value)
		f, err := strconv.ParseFloat(digits, 64)
		return f, digits, err
	case *ast.FloatNode:
		return v.Value, strconv.FormatFloat(v.Value, 'f', -1, 64), nil
	}
	return 0, "", n.errorf("is %s; expected %s", n.describe(), expected)
}

func (n node) boolean() (bool, error) {
	if v, ok := n.resolve().(*ast.BoolNode); ok {
		return v.Value, nil
	}
	return false, n.errorf("is %s; expected true or false", n.describe())
}

// scalar returns the text of n: a text, a number or a boolean.
func (n node) scalar(expected string) (string, error) {
	switch n.resolve().(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		_, digits, err := n.number(expected)
		return digits, err
	case *ast.BoolNode:
		b, err := n.boolean()
		return strconv.FormatBool(b), err
	}
	return n.text(expected)
}

// isBlock reports whether n is a block text that keeps its lines (|).
func (n node) isBlock() bool {
	v, ok := n.resolve().(*ast.LiteralNode)
	return ok && strings.HasPrefix(v.Start.Value, "|")
}

// describe describes n, to follow "is" in an error sentence.
func (n node) describe() string {
	switch v := n.resolve().(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return fmt.Sprintf("%.60q", v.Value)
	case *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode:
		return fmt.Sprintf("the number %v", v.Value)
	case *ast.FloatNode:
		return fmt.Sprintf("the number %v", v.Value)
	case *ast.BoolNode:
		return strconv.FormatBool(v.Value)
	case *ast.NullNode, nil:
		return "empty"
	}
	return "something else"
}
