package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// splitParams reads the values of --param, each NAME=VALUE, into given.
func splitParams(given map[string]string, params []string) error {
	for _, p := range params {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return badUsage("--param %s is not like name=value", p)
		}
		if _, twice := given[name]; twice {
			return badUsage("the param %s is given twice", name)
		}
		given[name] = value
	}
	return nil
}

// typeParams makes the params of a job of what was typed: each value gets the JSON type its kind declares.
// What the kind does not take is a [*usageError], so that nothing is enqueued which cannot run.
func typeParams(kind *jobs.Kind, given map[string]string) (json.RawMessage, error) {
	typed := make(map[string]any, len(given))
	for name, text := range given {
		typed[name] = text // what is not declared is for Check to name
	}
	typeAll(kind.Params, given, typed)
	raw, err := json.Marshal(typed)
	if err != nil {
		return nil, fmt.Errorf("write the params: %w", err)
	}
	if _, err := kind.Check(raw); err != nil {
		var invalid *jobs.InvalidError
		if errors.As(err, &invalid) {
			return nil, badUsage("%s %s", strings.TrimPrefix(invalid.Field, "params."), invalid.Reason)
		}
		return nil, err
	}
	return raw, nil
}

// typeAll gives the params their types, and those of the options chosen by them, or by default.
func typeAll(params []jobs.Param, given map[string]string, typed map[string]any) {
	for i := range params {
		p := &params[i]
		chosen, isGiven := given[p.Name]
		if isGiven {
			typed[p.Name] = typeValue(p, chosen)
		} else if p.Default != nil {
			chosen = asText(p.Default)
		} else {
			continue
		}
		for _, option := range p.Options {
			if asText(option.Value) == chosen {
				typeAll(option.Params, given, typed)
			}
		}
	}
}

// typeValue returns text as a value of the param, or as the string it is if it is none.
func typeValue(p *jobs.Param, text string) any {
	for _, option := range p.Options {
		if asText(option.Value) == text {
			return option.Value
		}
	}
	switch p.Type {
	case jobs.TypeInteger:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case jobs.TypeNumber:
		if _, err := strconv.ParseFloat(text, 64); err == nil && json.Valid([]byte(text)) {
			return json.Number(text)
		}
	case jobs.TypeBoolean:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			return true
		case "false", "no", "off", "0":
			return false
		}
	case jobs.TypeAny:
		if json.Valid([]byte(text)) {
			return json.RawMessage(text)
		}
	}
	return text
}

// asText writes a declared value as one would type it.
func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
