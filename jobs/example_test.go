package jobs_test

import (
	"fmt"
	"log"

	"github.com/hark-jobs/hark/jobs"
)

type InvoiceParams struct {
	Number string `json:"number" maxlength:"20"`
	Copies int    `json:"copies,omitempty" minimum:"1" maximum:"5"`
}

// One definition serves the worker and the programs that enqueue. The params are read off the fields of the type.
func ExampleDefine() {
	Invoice := jobs.Define[InvoiceParams](jobs.Kind{Name: "invoice", Title: "Invoice", MaxAttempts: 5})
	if err := Invoice.Err(); err != nil {
		log.Fatal(err)
	}
	kind := Invoice.Kind()
	for _, p := range kind.Params {
		fmt.Println(p.Name, p.Type, p.Required)
	}
	_, err := kind.Check([]byte(`{"number":"2026-7","copies":9}`))
	fmt.Println(err)
	// Output:
	// number string true
	// copies integer false
	// params.copies must be an integer from 1 to 5
}

// Params are a JSON object in a request, and the type of the definition in a handler.
func ExampleDefinition_Encode() {
	Invoice := jobs.Define[InvoiceParams](jobs.Kind{Name: "invoice"})
	raw, err := Invoice.Encode(InvoiceParams{Number: "2026-7"})
	if err != nil {
		log.Fatal(err)
	}
	params, err := Invoice.Decode(raw)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(raw), params.Number)
	// Output: {"number":"2026-7"} 2026-7
}

// Only the end of a job is terminal: one that retries is under way.
func ExampleState_Terminal() {
	for _, state := range jobs.States {
		fmt.Println(state, state.Terminal())
	}
	// Output:
	// queued false
	// running false
	// retrying false
	// succeeded true
	// failed true
	// cancelled true
}

// A notification is checked before it is sent. A link leads to a path of the application, or to an http(s) URL.
func ExampleNotification_Check() {
	n := jobs.Notification{Type: "invoice.paid", Title: "Invoice 7 is paid", Link: "javascript:alert(1)"}
	fmt.Println(n.Check())
	n.Link = "/invoices/7"
	fmt.Println(n.Check())
	// Output:
	// link must be a path like /reports/7 or an http(s) URL of at most 2,000 bytes
	// <nil>
}
