package notifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// posted returns a request with this body.
func posted(body []byte) *gin.Context {
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	c.Request = httptest.NewRequest("POST", "/", bytes.NewReader(body))
	return c
}

// Any body is either decoded, or refused with a problem that a person can read and that blames the sender.
func FuzzJobBody(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, `[]`, `{"kind":"sleep","params":{"seconds":1}}`, `{"kind":7}`, `{"kind":"a","kind":"b"}`,
		`{"other":1}`, `{"max_attempts":1e99}`, `{"max_attempts":"3"}`, `{"params":`, `{} {}`, "\xff", "{\"title\":\"\xff\"}",
		strings.Repeat("[", 20000), `{"params":` + strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat(`}`, 5001),
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got jobRequest
		err := decode(posted(body), &got)
		var p *problem
		switch {
		case err == nil:
			if len(got.Params) > 0 && !json.Valid(got.Params) {
				t.Fatalf("%q was read as %+v", body, got)
			}
		case !errors.As(err, &p) || p.Status < 400 || p.Status >= 500 || p.Code == "" || p.Detail == "" || len(p.Detail) > 500:
			t.Fatalf("%q: %v", body, err)
		}
	})
}

func FuzzNotifyBody(f *testing.F) {
	for _, body := range []string{
		`{"user":"ana","type":"t","title":"x"}`, `{"user":7}`, `{"notifications":[{"user":"ana","type":"t","title":"x"},{"everyone":true}]}`,
		`{"notifications":null}`, `{"notifications":[null]}`, `{"notifications":[{"notifications":[]}]}`, `{"notifications":[1,"x",[]]}`,
		`{"notifications":[{}` + strings.Repeat(`,{}`, maxNotifications) + `]}`, `{"notifications":[],"notifications":[{}]}`, `{"title":"x","notifications":[{}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got notifyRequest
		err := decode(posted(body), &got)
		if err == nil && got.Notifications != nil {
			_, err = got.batch()
		}
		var p *problem
		switch {
		case err == nil:
			if len(got.Notifications) > maxNotifications {
				t.Fatalf("%q was read as %d notifications", body, len(got.Notifications))
			}
		case !errors.As(err, &p) && problemOf(err).Status != 400, p != nil && (p.Status < 400 || p.Status >= 500 || p.Code == "" || len(p.Detail) > 500):
			t.Fatalf("%q: %v", body, err)
		}
	})
}
