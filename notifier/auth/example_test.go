package auth_test

import (
	"fmt"
	"time"

	"github.com/hark-jobs/hark/notifier/auth"
)

// A token that a service sends to hark, which has the same secret.
func ExampleIssuer_Issue() {
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte("0123456789abcdef0123456789abcdef"), Audience: "hark"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, identity, err := issuer.Issue("shop", []string{"enqueue", "notify"}, time.Hour)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(identity.User, identity.Scope)
	// Output: shop [enqueue notify]
}
