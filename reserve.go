package hark

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// reserveBytes is what is kept free in the data folder for a start on a full disk: SQLite cannot even read without room
// for the index of its journal.
const reserveBytes = 1 << 20

// startBytes is the room without which a start that fails is taken to fail for that reason.
const startBytes = 64 << 10

// keepReserve keeps a file of that size for as long as there is room, and gives it up when hark starts and there is
// none.
func (s *Server) keepReserve() {
	path := filepath.Join(s.options.Data, "reserve")
	if info, err := os.Stat(path); err == nil && info.Size() == reserveBytes {
		probe := path + ".probe"
		err := os.WriteFile(probe, make([]byte, reserveBytes), 0o600)
		os.Remove(probe)
		if !noRoom(err) {
			return
		}
		s.log.Warn("the disk is full; released the reserve so that the inbox can be read", "bytes", reserveBytes)
		if err := os.Remove(path); err != nil {
			s.log.Warn("releasing the reserve on the disk failed", "err", err)
		}
		return
	}
	if err := os.WriteFile(path, make([]byte, reserveBytes), 0o600); err != nil {
		os.Remove(path)
		s.log.Warn("creating the reserve for a start on a full disk failed", "err", err)
	}
}

// orFullDisk returns the error of a start as it is, or, if the disk of the data folder is full, what to do about that.
func (s *Server) orFullDisk(err error) error {
	var known *Error
	if s.options.Data == "" || errors.As(err, &known) {
		return err
	}
	if !noRoom(err) {
		probe := filepath.Join(s.options.Data, "start.probe")
		full := os.WriteFile(probe, make([]byte, startBytes), 0o600)
		os.Remove(probe)
		if !noRoom(full) {
			return err
		}
	}
	s.log.Error("hark does not start on a full disk", "err", err)
	return &Error{Code: "disk_full", Message: fmt.Sprintf("The disk of the data folder %s is full, and hark cannot start without some room there. Free 16 MB or more, and start it again.", s.options.Data)}
}

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
