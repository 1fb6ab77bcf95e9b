package joblog

import "bytes"

// withoutParams returns the JSON of a stored spec without its params, which may be many times larger than the rest and
// are not needed to show a job. The params are skipped without being decoded or copied. withoutParams returns data
// unchanged if it is not such an object.
func withoutParams(data []byte) []byte {
	const name = `"params"`
	if len(data) == 0 || data[0] != '{' {
		return data
	}
	for i := 1; i < len(data) && data[i] == '"'; {
		colon := skipValue(data, i)
		if colon >= len(data) || data[colon] != ':' {
			return data
		}
		end := skipValue(data, colon+1)
		if string(data[i:colon]) == name && end < len(data) {
			rest := data[end:]
			if rest[0] == ',' { // another member follows
				rest = rest[1:]
			} else { // params is the last member, after a comma or the brace
				i = len(bytes.TrimSuffix(data[:i], []byte(",")))
			}
			return append(append(make([]byte, 0, i+len(rest)), data[:i]...), rest...)
		}
		if end >= len(data) || data[end] != ',' {
			return data
		}
		i = end + 1
	}
	return data
}

// skipValue returns the end of the JSON value that begins at i. The JSON must be as encoding/json writes it, without
// spaces.
func skipValue(data []byte, i int) int {
	for depth := 0; i < len(data); {
		switch data[i] {
		case '"':
			i = skipString(data, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':':
			if depth == 0 {
				return i
			}
			i++
			continue
		default: // a number or a word
			for i < len(data) && data[i] != ',' && data[i] != '}' && data[i] != ']' {
				i++
			}
		}
		if depth <= 0 {
			return i
		}
	}
	return len(data)
}

// skipString returns the end of the JSON string that begins at i.
func skipString(data []byte, i int) int {
	for i++; i < len(data); {
		quote := bytes.IndexByte(data[i:], '"')
		if quote < 0 {
			break
		}
		end := i + quote
		escapes := 0
		for end-escapes > i && data[end-1-escapes] == '\\' {
			escapes++
		}
		i = end + 1
		if escapes%2 == 0 {
			return i
		}
	}
	return len(data)
}
