package export_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
)

// xmlNode is an element without the parts that Part 3 allows to ignore.
type xmlNode struct {
	prefix, ns, local string
	attrs             []xmlAttr
	children          []*xmlNode
	text              string
}

type xmlAttr struct{ name, value string } // with the prefix, which is the usual one

func (n *xmlNode) name() string { return strings.TrimPrefix(n.prefix+":"+n.local, ":") }

func (n *xmlNode) attr(name string) string {
	for _, a := range n.attrs {
		if a.name == name {
			return a.value
		}
	}
	return ""
}

// all returns the elements with this name in n.
func (n *xmlNode) all(local string) (found []*xmlNode) {
	for _, child := range n.children {
		if child.local == local {
			found = append(found, child)
		}
		found = append(found, child.all(local)...)
	}
	return found
}

const compatibilityNS = "http://schemas.openxmlformats.org/markup-compatibility/2006"

// prefixSpaces has the namespaces of the prefixes of relevant attributes.
var prefixSpaces = map[string]string{
	"r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships", "xml": "http://www.w3.org/XML/1998/namespace",
	"xsi": "http://www.w3.org/2001/XMLSchema-instance",
}

// parseXML reads a part: XML 1.0 in UTF-8 without a DTD (Part 2, 6.2.5), and Namespaces in XML, of which encoding/xml checks
// neither that prefixes are declared nor that attributes are there once.
func parseXML(data []byte) (root *xmlNode, err error) {
	dec := xml.NewDecoder(bytes.NewReader(data))
	type open struct {
		node   *xmlNode
		spaces map[string]string
	}
	stack := []open{{spaces: map[string]string{"xml": prefixSpaces["xml"]}}}
	ignorable := make(map[string]bool)
	for {
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			if root == nil || len(stack) != 1 {
				return nil, errors.New("the root does not end")
			}
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch token := token.(type) {
		case xml.ProcInst:
			if token.Target != "xml" || root != nil || !strings.Contains(strings.ToLower(string(token.Inst)), `encoding="utf-8"`) {
				return nil, fmt.Errorf("<?%s %s?>", token.Target, token.Inst)
			}
		case xml.Directive, xml.Comment:
			return nil, fmt.Errorf("a %T", token)
		case xml.CharData:
			if top.node != nil {
				top.node.text += string(token)
			} else if strings.TrimSpace(string(token)) != "" {
				return nil, fmt.Errorf("the text %q beside the root", token)
			}
		case xml.StartElement:
			if top.node == nil && root != nil {
				return nil, errors.New("a second root")
			}
			node, spaces, err := startNode(token, top.spaces, ignorable)
			if err != nil {
				return nil, err
			}
			if top.node == nil {
				root = node
			} else if !ignorable[node.ns] {
				top.node.children = append(top.node.children, node)
			}
			stack = append(stack, open{node, spaces})
		case xml.EndElement:
			if top.node == nil || token.Name.Space != top.node.prefix || token.Name.Local != top.node.local {
				return nil, fmt.Errorf("</%s>", token.Name.Local)
			}
			stack = stack[:len(stack)-1]
		}
	}
}

// startNode resolves the namespaces of an element and its attributes.
func startNode(token xml.StartElement, outer map[string]string, ignorable map[string]bool) (*xmlNode, map[string]string, error) {
	spaces := maps.Clone(outer)
	for _, a := range token.Attr {
		switch {
		case a.Name.Space == "xmlns" && a.Value == "":
			return nil, nil, fmt.Errorf("the prefix %s stands for nothing", a.Name.Local)
		case a.Name.Space == "xmlns":
			spaces[a.Name.Local] = a.Value
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			spaces[""] = a.Value
		}
	}
	for _, a := range token.Attr {
		if a.Name.Local == "Ignorable" && spaces[a.Name.Space] == compatibilityNS {
			for _, prefix := range strings.Fields(a.Value) {
				if spaces[prefix] == "" {
					return nil, nil, fmt.Errorf("the prefix %s can be ignored, but is not declared", prefix)
				}
				ignorable[spaces[prefix]] = true
			}
		}
	}
	ns, ok := spaces[token.Name.Space]
	if !ok && token.Name.Space != "" {
		return nil, nil, fmt.Errorf("<%s:%s>: the prefix is not declared", token.Name.Space, token.Name.Local)
	}
	node := &xmlNode{prefix: token.Name.Space, ns: ns, local: token.Name.Local}
	seen := make(map[string]bool)
	for _, a := range token.Attr {
		prefix := a.Name.Space
		if prefix == "xmlns" || prefix == "" && a.Name.Local == "xmlns" {
			prefix = "xmlns"
		}
		if prefix != "" && prefix != "xmlns" && spaces[prefix] == "" {
			return nil, nil, fmt.Errorf("the prefix of the attribute %s:%s is not declared", prefix, a.Name.Local)
		}
		name := spaces[prefix] + " " + a.Name.Local
		if prefix == "" || prefix == "xmlns" {
			name = prefix + " " + a.Name.Local
		}
		if seen[name] {
			return nil, nil, fmt.Errorf("the attribute %s is there twice", a.Name.Local)
		}
		seen[name] = true
		switch {
		case prefix == "xmlns" || spaces[prefix] == compatibilityNS && prefix != "" || ignorable[spaces[prefix]] && prefix != "":
		case prefix == "":
			node.attrs = append(node.attrs, xmlAttr{a.Name.Local, a.Value})
		case prefixSpaces[prefix] != spaces[prefix]:
			return nil, nil, fmt.Errorf("the attribute %s:%s is of %s", prefix, a.Name.Local, spaces[prefix])
		default:
			node.attrs = append(node.attrs, xmlAttr{prefix + ":" + a.Name.Local, a.Value})
		}
	}
	return node, spaces, nil
}
