package files_test

import (
	"context"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/files"
)

// The files of jobs on a file system that all notifiers and workers share.
func ExampleOpenFolder() {
	open := func(ctx context.Context) (*hark.Server, error) {
		folder, err := files.OpenFolder("/srv/hark-files", files.FolderOptions{UserSpace: 20 << 30})
		if err != nil {
			return nil, err
		}
		return hark.New(ctx, hark.Options{Files: folder})
	}
	_ = open
}
