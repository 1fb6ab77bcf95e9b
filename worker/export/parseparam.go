package export

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// The params that every export has. No param of a dataset may be called so.
const (
	paramDataset = "dataset"
	paramFormat  = "format"
)

// paramTypes are the types that a database can be given.
var paramTypes = []jobs.ParamType{
	jobs.TypeString, jobs.TypeInteger, jobs.TypeNumber, jobs.TypeBoolean, jobs.TypeDate, jobs.TypeTime,
}

type paramNode struct {
	param jobs.Param
	node  node
}

func readParams(n node) ([]paramNode, error) {
	if n.isNull() {
		return nil, nil
	}
	items, err := n.sequence("a list of params")
	if err != nil {
		return nil, err
	}
	var params []paramNode
	for _, item := range items {
		p, err := param(item)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(params, func(other paramNode) bool { return other.param.Name == p.Name }) {
			return nil, item.errorf("is a second param called %s", p.Name)
		}
		params = append(params, paramNode{p, item})
	}
	return params, nil
}

// maxLength reads how many bytes a text may have.
func maxLength(n node) (int, error) {
	const expected = "a number of bytes from 1 to 262144"
	length, _, err := n.number(expected)
	if err != nil {
		return 0, err
	}
	if length != math.Trunc(length) || length < 1 || length > jobs.MaxParamsBytes {
		return 0, n.errorf("is %v; expected %s", length, expected)
	}
	return int(length), nil
}

func param(n node) (jobs.Param, error) {
	var p jobs.Param
	fields, err := n.mapping("a param with a name and a type", "name", "title", "type", "required", "default", "options", "max_length")
	if err != nil {
		return p, err
	}
	var fallback, options node
	for _, f := range fields {
		switch f.name {
		case "name":
			p.Name, err = f.node.text(paramExpected)
			switch {
			case err != nil:
			case p.Name == paramDataset || p.Name == paramFormat:
				err = f.node.errorf("is %q, which every export has already; expected another name", p.Name)
			case p.Name == identityUser || p.Name == identityClaims:
				err = f.node.errorf("is %q, which queries get from the identity of the job's user; expected another name", p.Name)
			case !paramPattern.MatchString(p.Name):
				err = f.node.errorf("is %.60q; expected %s", p.Name, paramExpected)
			}
		case "title":
			p.Title, err = title(f.node)
		case "type":
			p.Type, err = oneOf(f.node, paramTypes)
		case "required":
			p.Required, err = f.node.boolean()
		case "max_length":
			p.MaxLength, err = maxLength(f.node)
		case "default":
			fallback = f.node
		case "options":
			options = f.node
		}
		if err != nil {
			return p, err
		}
	}
	switch {
	case p.Name == "":
		return p, n.missing("name", paramExpected)
	case p.Type == "":
		return p, n.missing("type", "one of "+join(paramTypes))
	case p.Title == "":
		p.Title = titled(p.Name)
	}
	if options.ast != nil {
		if p.Options, err = readOptions(options, p.Type); err != nil {
			return p, err
		}
	}
	if fallback.ast != nil && !fallback.isNull() {
		if p.Default, err = value(fallback, p.Type); err != nil {
			return p, err
		}
		if p.Options != nil && !slices.ContainsFunc(p.Options, func(o jobs.Option) bool { return o.Value == p.Default }) {
			return p, fallback.errorf("is %v, which is not among the options", p.Default)
		}
	}
	return p, nil
}

// readOptions takes plain values, and mappings of a value and its title.
func readOptions(n node, typ jobs.ParamType) ([]jobs.Option, error) {
	items, err := n.sequence("a list of values")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, n.errorf("is empty; expected a list of values")
	}
	var options []jobs.Option
	for _, item := range items {
		var o jobs.Option
		if fields, mapErr := item.mapping("", "value", "title"); mapErr == nil {
			for _, f := range fields {
				if f.name == "title" {
					o.Title, err = title(f.node)
				} else {
					o.Value, err = value(f.node, typ)
				}
				if err != nil {
					return nil, err
				}
			}
			if o.Value == nil {
				return nil, item.missing("value", expects(typ))
			}
		} else if strings.HasPrefix(item.describe(), "a mapping") {
			return nil, mapErr
		} else if o.Value, err = value(item, typ); err != nil {
			return nil, err
		}
		if o.Title == "" {
			if s, ok := o.Value.(string); ok && typ == jobs.TypeString {
				o.Title = titled(s)
			} else {
				o.Title = fmt.Sprint(o.Value)
			}
		}
		options = append(options, o)
	}
	return options, nil
}

// value returns n as a value of a type: string, bool, or json.Number with the digits as they are written.
func value(n node, typ jobs.ParamType) (any, error) {
	expected := expects(typ)
	var v any
	var err error
	switch typ {
	case jobs.TypeInteger, jobs.TypeNumber:
		var digits string
		_, digits, err = n.number(expected)
		v = json.Number(digits)
	case jobs.TypeBoolean:
		v, err = n.boolean()
	default:
		v, err = n.text(expected)
	}
	if err == nil && !typ.Allows(v) {
		err = n.errorf("is %s; expected %s", n.describe(), expected)
	}
	return v, err
}

// expects says what a value of a type looks like.
func expects(typ jobs.ParamType) string {
	switch typ {
	case jobs.TypeInteger:
		return "an integer"
	case jobs.TypeNumber:
		return "a number"
	case jobs.TypeBoolean:
		return "true or false"
	case jobs.TypeDate:
		return "a date like 2026-01-31"
	case jobs.TypeTime:
		return "a time like 2026-01-31T15:04:05Z"
	}
	return "a text, in quotes if it looks like a number"
}
