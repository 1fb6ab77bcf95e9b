package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// writable returns an error if this user may not write to the folder of a server, or to a folder in it. A full disk is not an
// error.
func writable(dir string) error {
	streams, err := streamFolders(dir)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, folder := range append([]string{dir, filepath.Join(dir, "jetstream")}, streams...) {
		f, err := os.CreateTemp(folder, "writable-*")
		if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w: %w", ErrReadOnly, err)
		}
		if err == nil {
			f.Close()
			os.Remove(f.Name())
		}
	}
	return nil
}

// names returns the sorted names of the entries of a folder; none if the folder does not exist or is a file.
func names(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("natsd: %w", err)
	}
	all := make([]string, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all, nil
}

// streamFolders returns the paths of all streams in the folder of a server: jetstream/<account>/streams/<stream>.
func streamFolders(dir string) (folders []string, err error) {
	top := filepath.Join(dir, "jetstream")
	accounts, err := names(top)
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		of := filepath.Join(top, account, "streams")
		streams, err := names(of)
		if err != nil {
			return nil, err
		}
		for _, stream := range streams {
			folders = append(folders, filepath.Join(of, stream))
		}
	}
	return folders, nil
}

// blockIndexes returns the sorted numbers of the blocks of a stream.
func blockIndexes(folder string) (indexes []int, err error) {
	files, err := names(filepath.Join(folder, "msgs"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name, isBlock := strings.CutSuffix(file, ".blk")
		if n, err := strconv.Atoi(name); isBlock && err == nil {
			indexes = append(indexes, n)
		}
	}
	slices.Sort(indexes)
	return indexes, nil
}

// blockPath returns the path of a block of a stream.
func blockPath(folder string, index int) string {
	return filepath.Join(folder, "msgs", strconv.Itoa(index)+".blk")
}

// blockSizes returns the sizes of all blocks, by their paths in the folder of a server.
func blockSizes(dir string) (map[string]int64, error) {
	folders, err := streamFolders(dir)
	if err != nil {
		return nil, err
	}
	sizes := make(map[string]int64)
	for _, folder := range folders {
		indexes, err := blockIndexes(folder)
		if err != nil {
			return nil, err
		}
		for _, index := range indexes {
			path := blockPath(folder, index)
			file, err := filepath.Rel(dir, path)
			if err != nil {
				return nil, err
			}
			info, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			sizes[file] = info.Size()
		}
	}
	return sizes, nil
}
