package hark

import (
	"cmp"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// A mistake in the options is one sentence with a code, before anything is started.
func TestOptions(t *testing.T) {
	pw := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	password := Secret{File: pw}
	const none = "none"
	for name, c := range map[string]struct {
		options Options
		code    string // "" if nothing is wrong
		says    string
	}{
		"embedded":                      {Options{}, "", ""},
		"listen on loopback":            {Options{NATSListen: "127.0.0.1:4222"}, "", ""},
		"listen on localhost":           {Options{NATSListen: "localhost:4222"}, "", ""},
		"listen on ::1":                 {Options{NATSListen: "[::1]:4222"}, "", ""},
		"listen everywhere":             {Options{NATSListen: "0.0.0.0:4222"}, "nats_listen_needs_login", "Options.NATSServers.Password"},
		"listen without a host":         {Options{NATSListen: ":4222"}, "nats_listen_needs_login", ":4222"},
		"listen on a name":              {Options{NATSListen: "example.com:4222"}, "nats_listen_needs_login", "example.com"},
		"listen on nonsense":            {Options{NATSListen: "4222"}, "nats_listen_invalid", "host:port"},
		"listen with a user":            {Options{NATSListen: "0.0.0.0:4222", NATSServers: NATSServers{User: "hark", Password: password}}, "", ""},
		"listen with a token":           {Options{NATSListen: "0.0.0.0:4222", NATSServers: NATSServers{Token: password}}, "", ""},
		"listen without a password":     {Options{NATSListen: "0.0.0.0:4222", NATSServers: NATSServers{User: "hark"}}, "nats_listen_needs_login", "Options.NATSServers.Password"},
		"a login for nothing":           {Options{NATSServers: NATSServers{User: "hark", Password: password}}, "nats_is_inside", "Options.NATSListen"},
		"an nkey for nothing":           {Options{NATSListen: "127.0.0.1:4222", NATSServers: NATSServers{CAFile: pw}}, "nats_options_invalid", "PEM"},
		"an inbox prefix for nothing":   {Options{NATSServers: NATSServers{InboxPrefix: "_INBOX_hark"}}, "nats_is_inside", "InboxPrefix"},
		"listen and elsewhere":          {Options{NATSListen: "127.0.0.1:4222", NATSServers: NATSServers{URL: "nats://a"}}, "nats_is_elsewhere", "Options.NATSServers.URL"},
		"no such file":                  {Options{NATSServers: NATSServers{URL: "nats://a", User: "hark", Password: Secret{File: pw + "x"}}}, "nats_options_invalid", "no such file"},
		"a namespace":                   {Options{Namespace: "shop_2-b"}, "", ""},
		"a bad namespace":               {Options{Namespace: "Shop"}, "namespace_invalid", `Options.Namespace "Shop" is not possible; use`},
		"a domain of the server inside": {Options{JSDomain: "hub"}, "nats_is_inside", "Options.JSDomain"},
		"a domain elsewhere":            {Options{NATSServers: NATSServers{URL: "nats://a"}, Database: Secret{Value: "inbox.db"}, JSDomain: "hub"}, "", ""},
		"a domain and a prefix":         {Options{JSDomain: "hub", JSAPIPrefix: "JS.API"}, "namespace_invalid", "exclude each other"},
		"a short lease":                 {Options{Settings: Settings{Lease: time.Millisecond}}, "setting_invalid", "Options.Settings.Lease is 1ms; it must be at least 1s."},
		"HTTP without a key":            {Options{Listen: "0.0.0.0:4280"}, "listen_needs_key", "Options.JWTSecret"},
		"HTTP with a key":               {Options{Listen: "0.0.0.0:4280", JWTSecret: password}, "", ""},
		"HTTP with an issuer":           {Options{Listen: "0.0.0.0:4280", JWTIssuer: "https://id.example.com", JWTAudience: []string{"hark"}}, "", ""},
		"an issuer that is a name":      {Options{Listen: "0.0.0.0:4280", JWTIssuer: "shop"}, "listen_needs_key", "Options.JWTIssuer"},
		"keys without an audience":      {Options{JWKS: "https://id.example.com/keys"}, "audience_missing", "Options.JWTAudience"},
		"the same and a secret":         {Options{JWKS: "HTTPS://id.example.com/keys", JWTSecret: password}, "audience_missing", "Options.JWTAudience"},
		"an issuer without one":         {Options{JWTIssuer: "https://id.example.com"}, "audience_missing", "Options.JWTAudience"},
		"an issuer and a secret":        {Options{JWTIssuer: "https://id.example.com", JWTSecret: password}, "", ""},
		"an empty audience":             {Options{JWTSecret: password, JWTAudience: []string{""}}, "audience_missing", "Options.JWTAudience"},
		"a file of keys":                {Options{JWKS: "keys.json"}, "", ""},
		"a notifier without a database": {Options{NATSServers: NATSServers{URL: "nats://a"}}, "database_missing", "Options.Database"},
		"the only notifier":             {Options{NATSServers: NATSServers{URL: "nats://a"}, Database: Secret{Value: "inbox.db"}}, "", ""},
		"a negative age of the inbox":   {Options{InboxAge: -time.Hour}, "setting_invalid", "Options.InboxAge is -1h0m0s"},
		"an age of no time":             {Options{InboxAge: 1}, "setting_invalid", "at least 1h0m0s"},
		"a negative export timeout":     {Options{Export: Export{Timeout: -time.Second}}, "setting_invalid", "Options.Export.Timeout"},
		"a negative drain":              {Options{Drain: -time.Second}, "setting_invalid", "Options.Drain"},
		"a negative delay":              {Options{DrainDelay: -time.Second}, "setting_invalid", "Options.DrainDelay"},
		"a negative rate":               {Options{RateLimit: -1}, "setting_invalid", "Options.RateLimit is -1"},
		"a rate that is no number":      {Options{RateLimit: math.NaN()}, "setting_invalid", "Options.RateLimit is NaN"},
		"an unknown part":               {Options{Only: "hub"}, "part_unknown", `"hub"`},
		"a worker without work":         {Options{Only: Worker}, "handlers_missing", "Options.Handlers"},
		"two ways to export":            {Options{Export: Export{Config: "hark.yaml", Sample: true}}, "export_twice", "Options.Export.Config"},
		"two inboxes":                   {Options{Inbox: new(inbox.Store), Database: Secret{Value: "inbox.db"}}, "database_twice", "Options.Inbox"},
		"a schema of an inbox":          {Options{Inbox: new(inbox.Store), InboxSchema: "app"}, "database_twice", "Options.InboxSchema and"},
		"a prefix of an inbox":          {Options{Inbox: new(inbox.Store), InboxTablePrefix: "app_"}, "database_twice", "Options.InboxTablePrefix"},
		"two connections":               {Options{NATS: new(nats.Conn), NATSServers: NATSServers{URL: "nats://a"}}, "nats_twice", "Options.NATSServers"},
		"two logins":                    {Options{Auth: new(auth.Verifier), JWTSecret: password}, "auth_twice", "Options.Auth"},
		"a page to sign in":             {Options{Auth: new(auth.Verifier), SignInURL: "/login?from=hark"}, "", ""},
		"another page to sign in":       {Options{Auth: new(auth.Verifier), SignInURL: "javascript:alert(1)"}, "sign_in_url_invalid", "Options.SignInURL"},
		"a login":                       {Options{Auth: new(auth.Verifier), Listen: "0.0.0.0:4280"}, "", ""},
		"neither login nor key":         {Options{Listen: none}, "auth_missing", "Options.Auth"},
		"no folder":                     {Options{Data: none}, "data_missing", "Options.Data"},
		"a short age of tokens":         {Options{JWTSecret: password, MaxTokenAge: time.Millisecond}, "max_token_age_invalid", "Options.MaxTokenAge"},
	} {
		t.Run(name, func(t *testing.T) {
			for field, value := range map[*string]string{&c.options.Data: "data", &c.options.Listen: "localhost:4280"} {
				if *field = cmp.Or(*field, value); *field == none {
					*field = ""
				}
			}
			err := c.options.defaults()
			var user *Error
			switch {
			case c.code == "" && err != nil:
				t.Error(err)
			case c.code != "" && (!errors.As(err, &user) || user.Code != c.code || !strings.Contains(user.Message, c.says)):
				t.Errorf("got %+v, want %s with %q", err, c.code, c.says)
			case c.code != "" && (!strings.HasSuffix(user.Message, ".") || strings.Contains(user.Message, "s3cret")):
				t.Errorf("it says %q", user.Message)
			}
		})
	}
}
