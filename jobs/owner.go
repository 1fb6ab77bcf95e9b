package jobs

import (
	"context"
	"fmt"
)

// Owner returns the user whose job has this id, or [ErrNotFound]. The server looks through the subjects of
// all users for it: it is for admins, not for every call.
func (q *Queue) Owner(ctx context.Context, id string) (user string, err error) {
	if !ValidID(id) {
		return "", ErrNotFound
	}
	subjects := []string{storeRoot + "*.job.*." + id, storeRoot + "*.state." + id}
	_, err = q.direct(ctx, directRequest{MultiLast: subjects}, func(m *storedMsg) (err error) {
		token, _, _ := ParseSubject(m.Subject)
		user, err = UnescapeUser(token)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("jobs: owner: %w", err)
	}
	if user == "" {
		return "", ErrNotFound
	}
	return user, nil
}
