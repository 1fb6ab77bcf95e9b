package export

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// paramTypes are the types of params that databases accept.
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
	for _, p := range params {
		if err := p.checkOrder(params); err != nil {
			return nil, err
		}
	}
	return params, nil
}

// checkOrder returns an error unless the param of NotBefore exists, and can be compared with this one.
func (p *paramNode) checkOrder(all []paramNode) error {
	if p.param.NotBefore == "" {
		return nil
	}
	i := slices.IndexFunc(all, func(other paramNode) bool { return other.param.Name == p.param.NotBefore })
	switch {
	case i < 0 || all[i].param.Name == p.param.Name:
		return p.node.errorf("is not before %q; expected the name of another param of the dataset", p.param.NotBefore)
	case all[i].param.Type != p.param.Type || p.param.Type == jobs.TypeString || p.param.Type == jobs.TypeBoolean:
		return p.node.errorf("is not before %s, which cannot be compared with it; expected two dates, times, integers or numbers", p.param.NotBefore)
	}
	return nil
}

// maxLength reads the largest size of a text, in bytes.
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

// bound reads a minimum or maximum.
func bound(n node) (*float64, error) {
	f, _, err := n.number("a number")
	return &f, err
}

func param(n node) (jobs.Param, error) {
	var p jobs.Param
	fields, err := n.mapping("a param with a name and a type", "name", "title", "type", "required", "default", "options", "max_length", "minimum", "maximum", "not_before")
	if err != nil {
		return p, err
	}
	var fallback, options node
	for _, f := range fields {
		switch f.name {
		case "name":
			p.Name, err = paramName(f.node)
		case "title":
			p.Title, err = title(f.node)
		case "type":
			p.Type, err = oneOf(f.node, paramTypes)
		case "required":
			p.Required, err = f.node.boolean()
		case "max_length":
			p.MaxLength, err = maxLength(f.node)
		case "minimum":
			p.Minimum, err = bound(f.node)
		case "maximum":
			p.Maximum, err = bound(f.node)
		case "not_before":
			p.NotBefore, err = f.node.text("the name of another param")
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
	if isNumber := p.Type == jobs.TypeInteger || p.Type == jobs.TypeNumber; (p.Minimum != nil || p.Maximum != nil) && !isNumber {
		return p, n.errorf("has a minimum or a maximum, and is a %s; only an integer or a number has those", p.Type)
	}
	if options.ast != nil {
		if p.Options, err = readOptions(options, p.Type); err != nil {
			return p, err
		}
	}
	if fallback.ast != nil && !fallback.isNull() {
		if p.Default, err = readDefault(fallback, &p); err != nil {
			return p, err
		}
	}
	return p, nil
}

func paramName(n node) (string, error) {
	name, err := n.text(paramExpected)
	switch {
	case err != nil:
	case slices.Contains(ownParams, name):
		err = n.errorf("is %q, which every export has already; expected another name", name)
	case name == identityUser || name == identityClaims:
		err = n.errorf("is %q, which queries get from the identity of the job's user; expected another name", name)
	case !paramPattern.MatchString(name):
		err = n.errorf("is %.60q; expected %s", name, paramExpected)
	}
	return name, err
}

// readDefault reads the default of p, whose type, options and bounds have been read.
func readDefault(n node, p *jobs.Param) (any, error) {
	v, err := value(n, p.Type)
	switch {
	case err != nil:
		return nil, err
	case p.Options != nil && !slices.ContainsFunc(p.Options, func(o jobs.Option) bool { return o.Value == v }):
		return nil, n.errorf("is %v, which is not among the options", v)
	case !p.Allows(v):
		return nil, n.errorf("is %v, which is beyond the minimum or the maximum", v)
	}
	return v, nil
}

// readOptions reads options: plain values, and mappings of a value and its title.
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

// value returns n as a value of a type: string, bool, or json.Number with its exact digits.
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

// expects describes a value of a type, for an error sentence.
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
