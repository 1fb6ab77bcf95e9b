package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// diagnose returns what the NATS servers say now of the log and its consumers: where they are led, and what waits.
func (p *parts) diagnose() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	js, err := jetstream.New(p.nc)
	if err != nil {
		return err.Error()
	}
	stream, err := js.Stream(ctx, logStream)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	info := stream.CachedInfo()
	fmt.Fprintf(&b, "stream %s: last %d, %s\n", logStream, info.State.LastSeq, placement(info.Cluster))
	consumers := stream.ListConsumers(ctx)
	for c := range consumers.Info() {
		fmt.Fprintf(&b, "consumer %s: delivered %d, ack floor %d, %d acks pending, %d redelivered, %d pending, %d requests waiting, %s\n", c.Name,
			c.Delivered.Stream, c.AckFloor.Stream, c.NumAckPending, c.NumRedelivered, c.NumPending, c.NumWaiting, placement(c.Cluster))
	}
	if err := consumers.Err(); err != nil {
		fmt.Fprintf(&b, "consumers: %v\n", err)
	}
	return b.String()
}

func placement(c *jetstream.ClusterInfo) string {
	if c == nil {
		return "no cluster"
	}
	text := "led by " + c.Leader
	for _, r := range c.Replicas {
		text += fmt.Sprintf(", %s current %t lag %d", r.Name, r.Current, r.Lag)
	}
	return text
}

// maxExcerpt is how many lines of the processes' log a failed test prints.
const maxExcerpt = 120

// logExcerpt prints the last lines of the processes' log about trouble and leaders.
func logExcerpt(t *testing.T, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Log(err)
		return
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, "asked_to_fail") { // as some jobs are to
			continue
		}
		for _, mark := range []string{"level=WARN", "level=ERROR", "[WRN]", "[ERR]", "leader", "Catchup"} {
			if strings.Contains(line, mark) {
				found = append(found, line[:min(len(line), 300)])
				break
			}
		}
		if len(found) > maxExcerpt {
			found = found[1:]
		}
	}
	t.Logf("the last lines of it about trouble and leaders:\n%s", strings.Join(found, "\n"))
}
