package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// inRange reports whether v, a number that the type allows, is neither below the minimum nor above the maximum.
func (p *Param) inRange(v any) bool {
	number, ok := v.(json.Number)
	if !ok || p.Minimum == nil && p.Maximum == nil {
		return true
	}
	f, err := number.Float64()
	return err == nil && (p.Minimum == nil || f >= *p.Minimum) && (p.Maximum == nil || f <= *p.Maximum)
}

// rangeText says which numbers the param takes, to follow "a number".
func (p *Param) rangeText() string {
	text := func(f *float64) string { return strconv.FormatFloat(*f, 'f', -1, 64) }
	switch {
	case p.Minimum != nil && p.Maximum != nil:
		return " from " + text(p.Minimum) + " to " + text(p.Maximum)
	case p.Minimum != nil:
		return " from " + text(p.Minimum)
	case p.Maximum != nil:
		return " up to " + text(p.Maximum)
	}
	return ""
}

// checkOrder returns an [*InvalidError] for the first param that comes before the one that its NotBefore names.
func checkOrder(params []Param, given map[string]any) error {
	for i := range params {
		p := &params[i]
		first, ok1 := given[p.NotBefore]
		last, ok2 := given[p.Name]
		if p.NotBefore != "" && ok1 && ok2 && p.Type.compare(last, first) < 0 {
			return &InvalidError{Code: "param_invalid", Field: "params." + p.Name, Reason: fmt.Sprintf("must not be before params.%s, which is %v", p.NotBefore, first)}
		}
	}
	return nil
}

// compare orders two values that the type allows. Values that have no order are equal.
func (t ParamType) compare(a, b any) int {
	switch t {
	case TypeInteger, TypeNumber:
		return cmp.Compare(float(a), float(b))
	case TypeDate: // 2026-01-31
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	case TypeTime:
		x, err1 := time.Parse(time.RFC3339, fmt.Sprint(a))
		y, err2 := time.Parse(time.RFC3339, fmt.Sprint(b))
		if err1 == nil && err2 == nil {
			return x.Compare(y)
		}
	}
	return 0
}

// float returns a number as it was given, or as a default of a kind has it.
func float(v any) float64 {
	f, _ := strconv.ParseFloat(fmt.Sprint(v), 64)
	return f
}
