package jobs

import "fmt"

// EndNotification returns the notification of the job's end. It passes [Notification.Check] whatever the handler left.
func (j *Job) EndNotification() Notification {
	n := Notification{
		Key: j.ID + "." + string(j.State), Type: "job." + string(j.State),
		JobID: j.ID, CreatedAt: j.FinishedAt,
	}
	if j.Run > 1 {
		n.Key += fmt.Sprintf(".%d", j.Run)
	}
	if j.Error != nil {
		n.Body = j.Error.Message
	}
	end := ""
	switch j.State {
	case Succeeded:
		end, n.Body = " is done", j.Progress.Message
		if j.File != nil {
			end, n.File = " is ready", j.File
		}
	case Failed:
		end = " failed"
	case Cancelled:
		end = " was cancelled"
	}
	n.Title, n.Body = cut(j.Title, MaxTitleChars-len(end))+end, cut(n.Body, MaxTextChars)
	return n
}
