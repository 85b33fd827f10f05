package query

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/projector/protocol"
)

// Copy is one complete materialization of the topic: the owner of the node
// at index i has the partitions p with p mod len(Nodes) = i.
type Copy struct {
	// Name is for messages only.
	Name string
	// Nodes are the copy's, in node order.
	Nodes []Node
}

// Node is one node of a copy. Name, its address, is for messages only.
type Node struct {
	Name  string
	Owner Owner
}

// heard is what a node last said.
type heard struct {
	// status is the last one that came, at; ever says that one did.
	status protocol.Status
	at     time.Time
	ever   bool
	// err is why the latest question had no answer, or nil.
	err error
}

// silence is how long a node may leave its status unanswered before pulls are
// not even tried.
const silence = time.Second

// routing is what query makes of its nodes' statuses. It is immutable.
type routing struct {
	// log is what the nodes agree on; known says that one has told.
	log   Log
	known bool
	// nodes are by node index.
	nodes []route
}

// route is one node: refused says why its pulls are not even tried, or is nil,
// and unready why query is not ready because of it.
type route struct {
	name    string
	refused error
	code    contract.Code // of the problem that refused comes to
	lost    bool          // it did answer once, and does not now
	unready []string
}

// problem is what a pull comes to that is not even tried, or nil.
func (n *route) problem() *contract.Problem {
	if n.refused == nil {
		return nil
	}
	return contract.NewProblem(n.code, "the message's owner does not answer").After(time.Second).Because(fmt.Errorf("%s %w", n.name, n.refused))
}

// newRouting judges what the nodes of a copy have said. The first node that
// knows its log is the one that the others are held to.
func newRouting(nodes []Node, said []heard, now time.Time) *routing {
	r := &routing{nodes: make([]route, len(nodes))}
	for i := range said {
		if s := &said[i]; s.ever && s.status.Detail == "" && misplaced(s.status, i, len(nodes)) == nil {
			r.log, r.known = logOf(s.status), true
			break
		}
	}
	for i := range said {
		r.nodes[i] = r.judge(i, nodes, &said[i], now)
	}
	return r
}

func (r *routing) judge(i int, nodes []Node, said *heard, now time.Time) route {
	n := route{name: fmt.Sprintf("node %d (%s)", i, nodes[i].Name), code: contract.OwnerUnavailable}
	switch {
	case !said.ever && said.err == nil:
		n.refused = errors.New("has not been asked yet")
	case !said.ever:
		n.refused = fmt.Errorf("does not answer: %w", said.err)
	case said.err != nil && now.Sub(said.at) >= silence:
		n.lost = true
		n.refused = fmt.Errorf("does not answer: %w", said.err)
	default:
		n.refused = misplaced(said.status, i, len(nodes))
		if n.refused == nil && said.status.Detail != "" {
			n.refused, n.code = fmt.Errorf("is starting: %s", said.status.Detail), contract.Starting
		} else if n.refused == nil {
			if d := logOf(said.status).difference(r.log); d != "" {
				n.refused = fmt.Errorf("is of %s: restart the nodes of the copy with equal settings", d)
			}
		}
	}
	if n.refused != nil {
		n.unready = []string{n.refused.Error()}
		return n
	}
	n.unready = unready(said.status)
	return n
}

// misplaced says why a node is not the one that the configuration takes it for.
func misplaced(s protocol.Status, node, nodes int) error {
	switch {
	case s.Protocol != protocol.Version:
		return fmt.Errorf("speaks protocol version %d, not %d: run projector and query of one version", s.Protocol, protocol.Version)
	case s.Nodes != nodes:
		return fmt.Errorf("is one of %d nodes, but --projectors lists %d", s.Nodes, nodes)
	case s.Node != node:
		return fmt.Errorf("is node %d: --projectors must list the nodes in their order", s.Node)
	case s.Detail == "" && s.Partitions <= 0:
		return errors.New("says nothing of its log")
	}
	return nil
}

// unready lists the partitions of a node that do not answer pulls.
func unready(s protocol.Status) []string {
	var reasons []string
	for _, state := range []protocol.State{protocol.Starting, protocol.Stopped} {
		var in []int32
		why := ""
		for _, p := range s.Owned {
			if p.State == state {
				in = append(in, p.Partition)
				if why == "" && p.Error != "" {
					why = ": " + p.Error
				}
			}
		}
		if len(in) > 0 {
			reasons = append(reasons, fmt.Sprintf("partitions %s %s%s", state, protocol.Ranges(in), why))
		}
	}
	owned := slices.ContainsFunc(s.Owned, func(p protocol.PartitionStatus) bool { return p.State.Answers() })
	if len(reasons) == 0 && !owned && s.Partitions > int32(s.Node) {
		reasons = append(reasons, "says nothing of its partitions")
	}
	return reasons
}

// unknown is what pulls come to while no node tells its log. A node that was
// last heard of as it started, or shut down, and is gone is not waited for.
func (r *routing) unknown() *contract.Problem {
	problem := contract.NewProblem(contract.Starting, "no projector has told its log yet")
	if slices.ContainsFunc(r.nodes, func(n route) bool { return n.lost }) {
		problem = contract.NewProblem(contract.OwnerUnavailable, "the message's owner does not answer")
	}
	return problem.After(time.Second).Because(r.ready())
}

// ready is nil if every partition has an owner that answers.
func (r *routing) ready() error {
	var reasons []string
	for _, n := range r.nodes {
		for _, why := range n.unready {
			reasons = append(reasons, n.name+" "+why)
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return errors.New(strings.Join(reasons, "; "))
}
