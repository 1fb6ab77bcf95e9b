package main

import (
	"strings"
	"testing"
)

// hark nats-config prints the account of a namespace; tests of package hark run a NATS server with it.
func TestNATSConfig(t *testing.T) {
	for _, c := range []struct {
		flags []string
		code  int
		says  []string
	}{
		{nil, 0, []string{"accounts {\n  HARK {", `user: "hark_worker"`, "password: $HARK_WORKER_PASSWORD", "--nats-inbox-prefix _INBOX_hark_worker", `"$JS.API.STREAM.CREATE.hark_log"`}},
		{[]string{"--namespace", "my-shop", "--kinds", "report,export"}, 0, []string{"  MY_SHOP {", "$MY_SHOP_SETUP_PASSWORD", `"$JS.ACK.my-shop_log.my-shop-worker-export.>"`}},
		{[]string{"--js-domain", "hub"}, 0, []string{`"$JS.hub.API.STREAM.INFO.hark_log"`}},
		{[]string{"--namespace", "Shop"}, 2, []string{"--namespace"}},
		{[]string{"--kinds", "a.b"}, 2, []string{"--kinds"}},
	} {
		code, out, errs := harkCommand(t.Context(), append([]string{"nats-config"}, c.flags...)...)
		if code != c.code || (errs == "") != (code == 0) {
			t.Errorf("%v: %d\n%s", c.flags, code, errs)
		}
		for _, text := range c.says {
			if !strings.Contains(out+errs, text) {
				t.Errorf("%v: no %q in\n%s%s", c.flags, text, out, errs)
			}
		}
	}
}
