package hark

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hark-jobs/hark/internal/joblog"
)

// SetupOptions are the options of [Setup].
type SetupOptions struct {
	Location
	// Settings are the settings to change. A zero field means the default for what is created, and no change for what exists.
	Settings Settings
	// NewEpoch begins a new epoch of the log: streams that resume get a reset, and the inbox continues. Notifiers do that themselves
	// when the log has lost messages, unless their login may not change the stream ([NATSConfig]); their log then asks for it.
	NewEpoch bool
	// DryRun makes Setup change nothing and return what it would change.
	DryRun bool
	// Logger defaults to [slog.Default].
	Logger *slog.Logger
}

// Change is one change that [Setup] made, or would make.
type Change struct {
	// What is the name of the stream or consumer in NATS.
	What string
	// Setting is the setting that was changed, such as max_age. It is empty if What was created.
	Setting string
	// From and To are the values of the setting as text, such as 168h0m0s.
	From, To string
}

// String returns the change as hark setup prints it: "hark_log: max_age 168h0m0s -> 720h0m0s".
func (c Change) String() string {
	if c.Setting == "" {
		return c.What + " created"
	}
	return fmt.Sprintf("%s: %s %s -> %s", c.What, c.Setting, c.From, c.To)
}

// Setup creates hark's streams and buckets that are missing in NATS, and changes the settings of those that exist, which nothing
// else does on NATS servers elsewhere. hark may run meanwhile, but not on [Location].Data. A smaller MaxAge deletes older messages
// at once. A Lease shorter than 30 s may restart running jobs once.
//
// Setup returns its changes in order, also with an error; it can be called again then. It blocks for several round trips, and
// until [Location].Wait or ctx has ended if NATS is not ready. A mistake in the options is an [*Error], and so is another number of
// streams for a log that has had messages.
func Setup(ctx context.Context, o SetupOptions) ([]Change, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := o.Settings.check(); err != nil {
		return nil, err
	}
	nc, err := o.open("hark setup", false, o.Logger)
	if err != nil {
		return nil, err
	}
	defer nc.close()
	var changes []Change
	err = nc.try(ctx, func(ctx context.Context) error {
		if o.DryRun {
			changes = nil // each try finds them all
		}
		more, err := joblog.Setup(ctx, nc.Conn, o.place(), joblog.Settings(o.Settings), o.DryRun)
		for _, c := range more {
			changes = append(changes, Change(c))
		}
		if err != nil || !o.NewEpoch || o.DryRun {
			return err
		}
		begun, err := joblog.BeginEpoch(ctx, nc.Conn, o.place())
		if err == nil {
			changes = append(changes, Change(begun))
		}
		return err
	})
	return changes, refused("setting_invalid", "Options.Settings.", err)
}

// check returns an [*Error] if a setting is invalid.
func (s *Settings) check() error {
	settings := joblog.Settings(*s)
	return refused("setting_invalid", "Options.Settings.", settings.Check())
}
