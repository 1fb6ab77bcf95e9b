package natsd

import (
	"encoding/binary"
	"strings"
	"testing"
)

// makeRecord returns a record in the server's format.
func makeRecord(stream string, index int, seq uint64, subject, header, text string) []byte {
	body := []byte(subject)
	length := uint32(0)
	if header != "" {
		body = append(binary.LittleEndian.AppendUint32(body, uint32(len(header))), header...)
		length = withHeaders
	}
	body = append(body, text...)
	length |= uint32(recordHead + len(body) + recordSum)
	b := binary.LittleEndian.AppendUint32(nil, length)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, 1_700_000_000_000_000_000)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(subject)))
	sum := blockSum(stream, index)
	sum.Write(b[4:20])
	sum.Write([]byte(subject))
	sum.Write([]byte(header + text))
	return sum.Sum(append(b, body...))
}

// Flipping any bit of a record is noticed, and only that record is lost. The sum does not cover the border between a subject and a message without
// headers: those 16 bits cannot be verified.
func TestEveryBitCounts(t *testing.T) {
	const header = "NATS/1.0\r\nNats-Msg-Id: a\r\n\r\n"
	var first, last = makeRecord("S", 1, 1, "s.a", "", "before"), makeRecord("S", 1, 3, "s.c", header, "after")
	for _, middle := range [][]byte{
		makeRecord("S", 1, 2, "s.b", header, "text"),
		makeRecord("S", 1, 2, "s.b", "", "text"),
		makeRecord("S", 1, 1|tombstoneBit, "", "", ""),
	} {
		for bit := range len(middle) * 8 {
			if headers := middle[3]&0x80 != 0; !headers && bit/8 >= 20 && bit/8 < 22 {
				continue
			}
			buf := append(append([]byte{}, first...), middle...)
			buf = append(buf, last...)
			if b := readBlock(buf, "S", "1.blk", blockSum("S", 1), true); len(b.damaged) > 0 || b.torn > 0 || b.last != 3 {
				t.Fatalf("undamaged: %+v", b)
			}
			buf[len(first)+bit/8] ^= 1 << (bit % 8)
			b := readBlock(buf, "S", "1.blk", blockSum("S", 1), true)
			if len(b.damaged) != 1 || b.last != 3 || b.torn > 0 {
				t.Fatalf("bit %d: %+v", bit, b)
			}
		}
	}
}

// A damaged sequence is not reported as that of a message: it must be between those of its neighbours, which are messages and not tombstones.
func TestDamageNamesNoImpossibleMessage(t *testing.T) {
	row := func(records ...[]byte) (buf []byte) {
		for _, r := range records {
			buf = append(buf, r...)
		}
		return buf
	}
	first, middle, last := makeRecord("S", 1, 60, "s.a", "", "before"), makeRecord("S", 1, 61, "s.b", "", "text"), makeRecord("S", 1, 62, "s.c", "", "after")
	grave := makeRecord("S", 1, 3|tombstoneBit, "", "", "")
	const bitOfText = (recordHead + len("s.b")) * 8
	for name, c := range map[string]struct {
		before, after []byte
		bit           int // of middle
		want          string
	}{
		"the text":                        {first, last, bitOfText, `after message 60 and before message 62; one was message 61 on "s.b"`},
		"the number, far beyond":          {first, last, (4 + 4) * 8, `after message 60 and before message 62; one was on "s.b"`},
		"the number, too small":           {first, last, 4*8 + 5, `after message 60 and before message 62; one was on "s.b"`},
		"the number, nothing follows":     {first, nil, (4 + 4) * 8, `after message 60; one was on "s.b"`},
		"the text, nothing follows":       {first, nil, bitOfText, `after message 60; one was on "s.b"`},
		"the text, between two tombs":     {row(first, grave), row(grave, last), bitOfText, `after message 60 and before message 62; one was message 61 on "s.b"`},
		"the number, between two tombs":   {row(first, grave), row(grave, last), (4 + 4) * 8, `after message 60 and before message 62; one was on "s.b"`},
		"the text, at the very beginning": {nil, last, bitOfText, `after message 0 and before message 62; one was message 61 on "s.b"`},
	} {
		buf := row(c.before, middle, c.after)
		buf[len(c.before)+c.bit/8] ^= 1 << (c.bit % 8)
		b := readBlock(buf, "S", "1.blk", blockSum("S", 1), true)
		if len(b.damaged) != 1 || !strings.Contains(b.damaged[0].Detail, c.want) {
			t.Errorf("%s: %+v", name, b.damaged)
		}
	}
}
