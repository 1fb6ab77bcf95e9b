package natsd

import "github.com/nats-io/nats-server/v2/server"

// KeepMark writes the mark, like a running server does every second.
func KeepMark(s *Server) { s.keepMark() }

// Restart restarts the server, like after a full disk.
func Restart(s *Server) error { return s.restart() }

// FailPositions makes reading the positions of the streams fail with err; nil makes it work again. Run must not run meanwhile.
func FailPositions(s *Server, err error) {
	s.keeper.positions = positions
	if err != nil {
		s.keeper.positions = func(*server.Server) (map[string]position, error) { return nil, err }
	}
}
