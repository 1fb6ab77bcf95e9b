package notifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

// maxBody is how many bytes a request's body may have.
const maxBody = 1 << 20

// bodyTime is how long a body may take to arrive, unless the request has another time under bodyTimeKey.
const (
	bodyTime    = 30 * time.Second
	bodyTimeKey = "hark.bodyTime"
)

// decode reads a request's JSON body into v, or says in a problem what is wrong with it. An empty body is
// taken for {}.
func decode(c *gin.Context, v any) error {
	within := bodyTime
	if own := c.GetDuration(bodyTimeKey); own > 0 {
		within = own
	}
	body, err := readBody(c, within)
	if err != nil || len(body) == 0 {
		return bodyProblem(err)
	}
	// encoding/json takes null for any struct, and puts U+FFFD for what is no UTF-8: two users must not
	// become one that way.
	if body[0] != '{' || !utf8.Valid(body) {
		return errNotJSON
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return bodyProblem(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errNotJSON
	}
	return nil
}

// readBody returns the request's body without white space around it.
func readBody(c *gin.Context, within time.Duration) ([]byte, error) {
	// A connection that cannot have deadlines is a test's.
	control := http.NewResponseController(c.Writer)
	_ = control.SetReadDeadline(time.Now().Add(within))
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if err == nil {
		// From here on net/http reads on to notice that the client has gone. It would take the deadline for
		// that, and cancel a request that waits for its job.
		_ = control.SetReadDeadline(time.Time{})
	}
	return bytes.TrimSpace(body), err
}

var errNotJSON = newProblem(http.StatusBadRequest, "body_not_json", "The body must be one JSON object, in UTF-8.")

func bodyProblem(err error) error {
	var own *problem
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "body_too_large", "The body is larger than 1 MiB; send less.")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return newProblem(http.StatusRequestTimeout, "body_too_slow", "The body did not arrive in time; send it again.")
	case errors.As(err, &wrongType):
		return typeProblem(wrongType)
	}
	// encoding/json has no type for this one.
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = fmt.Sprintf("%.60s", strings.Trim(name, `"`))
		return newProblem(http.StatusBadRequest, "field_unknown", fmt.Sprintf("There is no field %q here; see /openapi.json.", name)).in(name)
	}
	return errNotJSON
}

// typeProblem says of a field, or of all there is if it has none, that it is of another type.
func typeProblem(err *json.UnmarshalTypeError) error {
	// What has the field from another struct says so, and how requests are made up here is nobody's business.
	field := strings.TrimPrefix(err.Field, reflect.TypeFor[noticeRequest]().Name()+".")
	what := field
	if what == "" {
		what = "It"
	}
	return newProblem(http.StatusBadRequest, "field_invalid", fmt.Sprintf("%s must be %s.", what, jsonType(err.Type))).in(field)
}

// jsonType says what JSON a field of this type takes.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct:
		return "an object"
	}
	return "a " + t.Kind().String()
}
