package projector

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seenby/seenby/services/projector/protocol"
)

// Ready is nil only if each of the node's partitions is ready. Otherwise it
// lists, by state, those that are not, and why.
func (s *Service) Ready() error {
	n := s.node.Load()
	if n == nil {
		return fmt.Errorf("starting: %s", *s.awaited.Load())
	}
	byState := make(map[protocol.State][]protocol.PartitionStatus)
	for _, o := range n.owned {
		p := o.status()
		byState[p.State] = append(byState[p.State], p)
	}
	if len(byState[protocol.Ready]) == len(n.owned) {
		return nil
	}
	var reasons []string
	for _, state := range []protocol.State{protocol.Starting, protocol.Behind, protocol.Stopped} {
		if ps := byState[state]; len(ps) > 0 {
			reasons = append(reasons, describe(state, ps)+pace(state, n.progress(nil)))
		}
	}
	if err := n.reader.Trouble(); err != nil {
		reasons = append(reasons, err.Error())
	}
	if err := n.publisher.err(); err != nil {
		reasons = append(reasons, err.Error()+" (only lag tools need it)")
	}
	return errors.New(strings.Join(reasons, "; "))
}

// describe names the partitions of one state, and what keeps them there.
func describe(state protocol.State, ps []protocol.PartitionStatus) string {
	var numbers []int32
	var lag, behind int64
	for _, p := range ps {
		numbers = append(numbers, p.Partition)
		lag = max(lag, p.LagMS)
		behind += max(0, p.End-p.Position)
	}
	s := fmt.Sprintf("partitions %s: %s", state, protocol.Ranges(numbers))
	switch state {
	case protocol.Starting:
		s += fmt.Sprintf(" (%d records to apply)", behind)
	case protocol.Behind:
		s += fmt.Sprintf(" (%d records to apply, %d ms behind)", behind, lag)
	case protocol.Stopped:
		for _, p := range ps {
			s += ": " + p.Error
		}
	}
	return s
}

// pace says how long a node that catches up may take.
func pace(state protocol.State, p protocol.Progress) string {
	if state != protocol.Starting || p.PerSecond == 0 {
		return ""
	}
	return fmt.Sprintf(", %d applied, %.0f a second, about %s left", p.Applied, p.PerSecond,
		(time.Duration(p.SecondsLeft * float64(time.Second))).Round(time.Second))
}
