package sse

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// safeLinks returns a stored notification without its link if [jobs.SafeLink] refuses it: the message may be older than
// that rule, or foreign. Nearly all messages are returned as they are.
func safeLinks(stored []byte) []byte {
	if !mayHaveLink(stored) {
		return stored
	}
	type field struct {
		name  string
		value json.RawMessage
	}
	var others []field
	safe := true
	dec := json.NewDecoder(bytes.NewReader(stored))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return stored // it is no object, which the caller finds out
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil
		}
		f := field{name: name.(string)} // the decoder takes nothing else for the name of a field
		if err := dec.Decode(&f.value); err != nil {
			return nil
		}
		// Readers in Go take LINK for link.
		if !strings.EqualFold(f.name, "link") {
			others = append(others, f)
			continue
		}
		var link string
		safe = safe && json.Unmarshal(f.value, &link) == nil && (link == "" || jobs.SafeLink(link))
	}
	if safe {
		return stored
	}
	b := make([]byte, 0, len(stored))
	b = append(b, '{')
	for i, f := range others {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil
		}
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return append(b, '}')
}

// mayHaveLink reports whether some text in the JSON begins like the word link, in any spelling of it.
func mayHaveLink(stored []byte) bool {
	for {
		i := bytes.IndexByte(stored, '"')
		if i < 0 || i+2 >= len(stored) {
			return false
		}
		first, second := stored[i+1], stored[i+2]
		if first == '\\' || (first|0x20 == 'l' && (second|0x20 == 'i' || second == '\\')) {
			return true
		}
		stored = stored[i+1:]
	}
}
