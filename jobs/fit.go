package jobs

import "unicode/utf8"

// Limits of what a handler returns. A state must fit into one message, and the notification of an end must pass
// [Notification.Check], since every job ends with a notification.
const (
	// MaxTextChars is how many characters the message of a progress or an error, a summary, and the body of a
	// notification may have. Longer texts are cut.
	MaxTextChars = 4000
	// MaxResultBytes is how many bytes of JSON the result of a job may have.
	MaxResultBytes = 256 << 10
	// MaxFileNameBytes is how many bytes the name and the content type of a file may have, each.
	MaxFileNameBytes = 255
	// maxCodeChars is how many characters the code of an error may have.
	maxCodeChars = 100
)

// Fit cuts the texts of j that are too long.
func (j *Job) Fit() {
	j.Title = cut(j.Title, MaxTitleChars)
	j.Progress.Message = cut(j.Progress.Message, MaxTextChars)
	if j.Error != nil {
		j.Error = &Error{Code: cut(j.Error.Code, maxCodeChars), Message: cut(j.Error.Message, MaxTextChars)}
	}
}

// cut returns text, or, if it has more than most characters, the part that fits, with an ellipsis.
func cut(text string, most int) string {
	if len(text) <= most || utf8.RuneCountInString(text) <= most {
		return text
	}
	end := 0
	for range most - 1 {
		_, size := utf8.DecodeRuneInString(text[end:])
		end += size
	}
	return text[:end] + "…"
}
