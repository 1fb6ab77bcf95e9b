package hark_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

func logTo(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// A dry run returns the changes that the next call makes, and makes none of them.
func TestSetup(t *testing.T) {
	t.Parallel()
	ctx, at := natstest.Context(t), hark.Location{NATS: natstest.Connect(t)}
	created := []hark.Change{{What: "hark_log"}, {What: "OBJ_hark_files"}, {What: "KV_hark_kinds"},
		{What: "KV_hark_tickets"}, {What: "KV_hark_revoked"}, {What: "KV_hark_link_key"}}
	longer := []hark.Change{{What: "hark_log", Setting: "max_age", From: "168h0m0s", To: "720h0m0s"},
		{What: "OBJ_hark_files", Setting: "file_space", From: "0", To: "1000000000"}}
	for _, step := range []struct {
		settings hark.Settings
		want     []hark.Change
	}{
		{hark.Settings{}, created},
		{hark.Settings{MaxAge: 30 * 24 * time.Hour, FileSpace: 1e9}, longer},
	} {
		for _, dry := range []bool{true, true, false} {
			changes, err := hark.Setup(ctx, hark.SetupOptions{Location: at, Settings: step.settings, DryRun: dry, Logger: logTo(t)})
			if err != nil || !reflect.DeepEqual(changes, step.want) {
				t.Errorf("dry run %v: %v, %v; want %v", dry, changes, err, step.want)
			}
		}
		if changes, err := hark.Setup(ctx, hark.SetupOptions{Location: at, Settings: step.settings, Logger: logTo(t)}); err != nil || len(changes) > 0 {
			t.Errorf("again: %v, %v", changes, err)
		}
	}
	if text := created[0].String() + ", " + longer[0].String(); text != "hark_log created, hark_log: max_age 168h0m0s -> 720h0m0s" {
		t.Error(text)
	}
	if at.NATS.IsClosed() {
		t.Error("the connection of the caller was closed")
	}
}

// Mistakes in the options of Setup, Backup and Restore are found before anything is connected, and the sentence names the option.
func TestSetupMistakes(t *testing.T) {
	t.Parallel()
	url := hark.NATSServers{URL: "nats://127.0.0.1:1"}
	for name, c := range map[string]struct {
		at       hark.Location
		settings hark.Settings
		code     string
		says     string
	}{
		"nowhere":              {hark.Location{}, hark.Settings{}, "nats_missing", "Options.NATSServers.URL or Options.Data"},
		"two places":           {hark.Location{NATSServers: url, Data: "data"}, hark.Settings{}, "nats_twice", "Options.Data"},
		"two connections":      {hark.Location{NATSServers: url, NATS: new(nats.Conn)}, hark.Settings{}, "nats_twice", "Options.NATSServers.URL"},
		"a login for a folder": {hark.Location{Data: "data", NATSServers: hark.NATSServers{User: "hark"}}, hark.Settings{}, "nats_twice", "login"},
		"a domain of a folder": {hark.Location{Data: "data", JSDomain: "hub"}, hark.Settings{}, "nats_is_inside", "Options.JSDomain"},
		"no folder of hark":    {hark.Location{Data: t.TempDir()}, hark.Settings{}, "data_unusable", "Options.Data " + filepath.Dir(t.TempDir())},
		"a login without user": {hark.Location{NATSServers: hark.NATSServers{URL: url.URL, Password: hark.Secret{Value: "p"}}}, hark.Settings{}, "nats_options_invalid", "without a user"},
		"a bad namespace":      {hark.Location{NATSServers: url, Namespace: "Shop"}, hark.Settings{}, "namespace_invalid", `Options.Namespace "Shop" is not possible`},
		"a bad domain":         {hark.Location{NATSServers: url, JSDomain: "a.b"}, hark.Settings{}, "namespace_invalid", `Options.JSDomain "a.b" is not possible`},
		"a bad prefix":         {hark.Location{NATSServers: url, JSAPIPrefix: "a..b"}, hark.Settings{}, "namespace_invalid", `Options.JSAPIPrefix "a..b" is not possible`},
		"domain and prefix":    {hark.Location{NATSServers: url, JSDomain: "a", JSAPIPrefix: "b"}, hark.Settings{}, "namespace_invalid", "Options.JSDomain and Options.JSAPIPrefix"},
		"two replicas":         {hark.Location{NATSServers: url}, hark.Settings{Replicas: 2}, "setting_invalid", "Replicas is 2; it must be 1, 3 or 5."},
		"a negative age":       {hark.Location{NATSServers: url}, hark.Settings{MaxAge: -time.Hour}, "setting_invalid", "MaxAge is -1h0m0s; it must be at least 1s."},
		"a short age of files": {hark.Location{NATSServers: url}, hark.Settings{FileAge: 1}, "setting_invalid", "FileAge is 1ns; it must be at least 1s."},
	} {
		t.Run(name, func(t *testing.T) {
			calls := map[string]func() error{
				"Setup": func() error {
					_, err := hark.Setup(t.Context(), hark.SetupOptions{Location: c.at, Settings: c.settings, Logger: logTo(t)})
					return err
				},
				"Restore": func() error {
					_, err := hark.Restore(t.Context(), t.TempDir(), hark.RestoreOptions{
						Location: c.at, Replicas: c.settings.Replicas, MaxAge: c.settings.MaxAge, FileAge: c.settings.FileAge, Logger: logTo(t)})
					return err
				},
				"Backup": func() error {
					_, err := hark.Backup(t.Context(), t.TempDir(), hark.BackupOptions{Location: c.at, Logger: logTo(t)})
					return err
				},
			}
			switch c.code {
			case "setting_invalid":
				delete(calls, "Backup") // it has no settings
			case "data_unusable":
				delete(calls, "Restore") // it makes the folder
			}
			for call, do := range calls {
				err := do()
				var mistake *hark.Error
				if !errors.As(err, &mistake) || mistake.Code != c.code || !strings.Contains(mistake.Message, c.says) || !strings.HasSuffix(mistake.Message, ".") {
					t.Errorf("%s: %+v, want %s with %q", call, err, c.code, c.says)
				}
			}
		})
	}
	_, err := hark.Setup(t.Context(), hark.SetupOptions{Location: hark.Location{NATSServers: url}, Settings: hark.Settings{Lease: time.Millisecond}})
	if err == nil || err.Error() != "Options.Settings.Lease is 1ms; it must be at least 1s." {
		t.Error(err)
	}
}

// Setup waits for NATS servers for as long as it may, and says what it waited for.
func TestSetupWaits(t *testing.T) {
	t.Parallel()
	at := hark.Location{NATSServers: hark.NATSServers{URL: "nats://hark:s3cret@127.0.0.1:1"}}
	_, err := hark.Setup(t.Context(), hark.SetupOptions{Location: at, Logger: logTo(t)})
	if err == nil || !strings.HasPrefix(err.Error(), "NATS at nats://127.0.0.1:1: ") {
		t.Errorf("without a wait: %v", err)
	}
	at.Wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err = hark.Setup(ctx, hark.SetupOptions{Location: at, Logger: logTo(t)})
	if err == nil || !strings.HasPrefix(err.Error(), "NATS at nats://127.0.0.1:1: ") {
		t.Errorf("with a context that ends: %v", err)
	}
}

// What a program saves from NATS servers it restores into the data folder of a hark, whose settings it changes before hark runs there.
func TestBackup(t *testing.T) {
	t.Parallel()
	ctx := natstest.Context(t)
	servers, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(servers.Stop)
	at := hark.Location{NATSServers: hark.NATSServers{URL: servers.URL()}}
	from := harktest.Start(t, harktest.NATS(servers.URL()), harktest.Handlers(handlers...))
	job := harktest.Run(from, hello, "ana", noParams{})
	from.Stop()
	dir, data := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "data")
	saved, err := hark.Backup(ctx, dir, hark.BackupOptions{Location: at, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(saved.Streams, func(s hark.BackupStream) bool { return s.Name == "hark_log" }); i < 0 || saved.Streams[i].Messages == 0 {
		t.Errorf("saved %+v", saved)
	}
	if checked, err := hark.CheckBackup(dir); err != nil || !reflect.DeepEqual(checked, saved) {
		t.Errorf("checked %+v, %v; saved %+v", checked, err, saved)
	}
	restore := func(o hark.RestoreOptions) (hark.BackupSummary, error) {
		o.Location, o.Logger = hark.Location{Data: data}, logTo(t)
		return hark.Restore(ctx, dir, o)
	}
	if restored, err := restore(hark.RestoreOptions{}); err != nil || !reflect.DeepEqual(restored, saved) {
		t.Errorf("restored %+v, %v; saved %+v", restored, err, saved)
	}
	wantCode := func(err error, code, says string) {
		t.Helper()
		var refusal *hark.Error
		if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(refusal.Message, says) {
			t.Errorf("%+v, want %s with %q", err, code, says)
		}
	}
	_, err = restore(hark.RestoreOptions{})
	wantCode(err, "streams_exist", "Options.Replace")
	_, err = hark.Backup(ctx, dir, hark.BackupOptions{Location: at, Logger: logTo(t)})
	wantCode(err, "folder_not_empty", dir)
	_, err = hark.CheckBackup(t.TempDir())
	wantCode(err, "no_backup", "not a backup")

	to := hark.Location{Data: data}
	changes, err := hark.Setup(ctx, hark.SetupOptions{Location: to, Settings: hark.Settings{MaxAge: 240 * time.Hour}, Logger: logTo(t)})
	// The backup has no tickets and revocations, and no key of links.
	if err != nil || len(changes) != 4 || changes[0].String() != "hark_log: max_age 168h0m0s -> 240h0m0s" {
		t.Errorf("%v, %v", changes, err)
	}
	h := harktest.Start(t, harktest.Data(data), harktest.Handlers(handlers...))
	if got, err := h.Queue.Get(ctx, "ana", job.ID); err != nil || got.State != jobs.Succeeded {
		t.Errorf("the job is %+v, %v", got, err)
	}
	_, err = hark.Setup(ctx, hark.SetupOptions{Location: to, Logger: logTo(t)})
	wantCode(err, "data_in_use", data)
}
