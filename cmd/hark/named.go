package main

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/hark-jobs/hark"
)

// flagOf has the flags of options of [hark.Options] whose names differ.
var flagOf = map[string]string{
	"AllowOrigins":            "--allow-origin",
	"Database":                "--database",
	"From.Database":           "--from",
	"From.Schema":             "--from-schema",
	"From.TablePrefix":        "--from-table-prefix",
	"To.Database":             "--to",
	"To.Schema":               "--to-schema",
	"To.TablePrefix":          "--to-table-prefix",
	"Export.Config":           "--config",
	"Export.Timeout":          "--export-timeout",
	"JSAPIPrefix":             "--js-api-prefix",
	"JWTSecret":               "--jwt-secret-file",
	"NATSServers.CAFile":      "--nats-ca",
	"NATSServers.CertFile":    "--nats-cert",
	"NATSServers.CredsFile":   "--nats-creds",
	"NATSServers.InboxPrefix": "--nats-inbox-prefix",
	"NATSServers.KeyFile":     "--nats-key",
	"NATSServers.NKeyFile":    "--nats-nkey",
	"NATSServers.Password":    "--nats-password-file",
	"NATSServers.Token":       "--nats-token-file",
	"NATSServers.URL":         "--nats",
	"NATSServers.User":        "--nats-user",
	"SyncAlways":              "--sync",
	"Topics":                  "--topic",
}

var optionName = regexp.MustCompile(`\bOptions\.([A-Z]\w*(?:\.[A-Z]\w*)?)`)

// nameFlags returns the error of package hark with the flags of this command in place of options.
func nameFlags(err error) error {
	var known *hark.Error
	if !errors.As(err, &known) {
		return err
	}
	text := optionName.ReplaceAllStringFunc(known.Message, func(name string) string {
		return flagName(strings.TrimPrefix(name, "Options."))
	})
	return &hark.Error{Code: known.Code, Message: text, Err: err}
}

// mistakes are the codes of errors that a change of the flags alone repairs.
var mistakes = []string{"database_missing", "inbox_invalid", "kind_invalid", "namespace_invalid", "nats_is_inside", "nats_missing", "nats_options_invalid", "nats_twice", "setting_invalid"}

// asUsage is [nameFlags] for a command that does one thing and ends: a mistake in its flags is an [*usageError].
func asUsage(err error) error {
	err = nameFlags(err)
	var known *hark.Error
	if errors.As(err, &known) && slices.Contains(mistakes, known.Code) {
		return badUsage("%s", known.Message)
	}
	return err
}

// flagName returns the flag of an option: --jwt-audience of JWTAudience, and --lease of Settings.Lease.
func flagName(option string) string {
	option = strings.TrimPrefix(option, "Settings.")
	if flag, ok := flagOf[option]; ok {
		return flag
	}
	var b strings.Builder
	b.WriteString("--")
	runes := []rune(option)
	for i, r := range runes {
		// A word begins where a capital follows a small letter, or comes before one: TLSCert, NATSListen.
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
