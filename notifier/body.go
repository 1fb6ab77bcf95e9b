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

	"github.com/gin-gonic/gin"

	"github.com/hark-jobs/hark/internal/exact"
)

// maxBody is the largest size of a request's body, in bytes.
const maxBody = 1 << 20

// bodyTimeout is the time for a body to arrive, unless the request has another one under bodyTimeoutKey.
const (
	bodyTimeout    = 30 * time.Second
	bodyTimeoutKey = "hark.bodyTimeout"
)

// decode reads a request's JSON body into v. Its errors are problems. An empty body counts as {}.
func decode(c *gin.Context, v any) error {
	timeout := bodyTimeout
	if own := c.GetDuration(bodyTimeoutKey); own > 0 {
		timeout = own
	}
	body, err := readBody(c, timeout)
	if err != nil || len(body) == 0 {
		return bodyProblem(err)
	}
	if body[0] != '{' { // encoding/json takes null for any struct
		return errNotJSON
	}
	return bodyProblem(exact.Decode(body, v))
}

// readBody returns the request's body without white space around it.
func readBody(c *gin.Context, timeout time.Duration) ([]byte, error) {
	// Only the connections of tests do not support deadlines.
	control := http.NewResponseController(c.Writer)
	_ = control.SetReadDeadline(time.Now().Add(timeout))
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if err == nil {
		// From here on net/http reads to notice that the client has gone. A deadline would look like that, and
		// cancel a request that waits for its job.
		_ = control.SetReadDeadline(time.Time{})
	}
	return bytes.TrimSpace(body), err
}

var errNotJSON = newProblem(http.StatusBadRequest, "body_not_json", "The body must be one JSON object, in UTF-8.")

// bodyProblem returns the problem for an error of reading or decoding a body.
func bodyProblem(err error) error {
	var own *problem
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	var name *exact.NameError
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
	case errors.As(err, &name):
		return nameProblem(name)
	}
	return errNotJSON
}

// nameProblem returns the problem of a field name that is unknown or occurs twice.
func nameProblem(err *exact.NameError) error {
	name, path := fmt.Sprintf("%.60s", err.Name), fmt.Sprintf("%.60s", err.Path)
	switch err.Fault {
	case exact.Twice:
		return newProblem(http.StatusBadRequest, "field_duplicate", fmt.Sprintf("The field %q occurs twice in one object; give it once.", name)).in(path)
	case exact.Case:
		return newProblem(http.StatusBadRequest, "field_unknown",
			fmt.Sprintf("The field %q is unknown; write %q, since names are case-sensitive.", name, err.Field)).in(path)
	}
	return newProblem(http.StatusBadRequest, "field_unknown", fmt.Sprintf("The field %q is unknown; see openapi.json.", name)).in(path)
}

// typeProblem returns the problem of a field, or of the whole body, that has the wrong JSON type.
func typeProblem(err *json.UnmarshalTypeError) error {
	// The fields of bodies are not nested, but encoding/json names an embedded struct before its field.
	field := err.Field[strings.LastIndexByte(err.Field, '.')+1:]
	what := field
	if what == "" {
		what = "It"
	}
	return newProblem(http.StatusBadRequest, "field_invalid", fmt.Sprintf("%s must be %s.", what, jsonType(err.Type))).in(field)
}

// jsonType names the JSON type of a field, for an error sentence.
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
