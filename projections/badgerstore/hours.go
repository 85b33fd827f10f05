package badgerstore

import (
	"encoding/binary"

	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/projections"
	"github.com/seenby/seenby/projections/materialize"
)

// mostListed is how many messages and rosters an hour's list may have: a step of
// [Store.Prune] works off lists whole.
const mostListed = min(1000, pieceSize/(events.MaxIDLen+2))

// hourList is what a commit has to be pruned with an hour.
type hourList struct {
	hour     int64
	messages []string
	rosters  []projections.RosterRef
}

// hourLists are a batch's, in no order: it seldom has more than a few.
func hourLists(b *materialize.Batch) (lists []*hourList) {
	of := func(hour int64) *hourList {
		for i := len(lists) - 1; i >= 0; i-- {
			if lists[i].hour == hour {
				return lists[i]
			}
		}
		lists = append(lists, &hourList{hour: hour})
		return lists[len(lists)-1]
	}
	for _, c := range b.Messages {
		if !c.Stored {
			l := of(projections.Hour(c.Message.SentAt))
			l.messages = append(l.messages, c.Message.ID)
		}
	}
	for i := range b.Rosters {
		if r := &b.Rosters[i]; r.Extended {
			l := of(r.KeepUntil)
			l.rosters = append(l.rosters, r.Roster.Ref)
		}
	}
	return lists
}

// cut returns the first part of what is listed, and has the list go on without it.
func (l *hourList) cut() hourList {
	n := min(len(l.messages), mostListed)
	k := min(len(l.rosters), mostListed-n)
	part := hourList{l.hour, l.messages[:n], l.rosters[:k]}
	l.messages, l.rosters = l.messages[n:], l.rosters[k:]
	return part
}

func (l *hourList) empty() bool { return len(l.messages)+len(l.rosters) == 0 }

// bound bounds what append appends.
func (l *hourList) bound() int {
	n := 10 + 8*len(l.rosters)
	for _, id := range l.messages {
		n += 2 + len(id)
	}
	return n
}

// append appends the list, which is one that was cut.
func (l *hourList) append(b []byte) []byte {
	uuids := uint64(1)
	for _, id := range l.messages {
		if _, ok := packUUID(id); !ok {
			uuids = 0
			break
		}
	}
	b = binary.AppendUvarint(b, uint64(len(l.messages))<<1|uuids)
	for _, id := range l.messages {
		if uuids == 0 {
			b = appendID(b, id)
			continue
		}
		uuid, _ := packUUID(id)
		b = append(b, uuid[:]...)
	}
	for _, ref := range l.rosters {
		b = binary.BigEndian.AppendUint64(b, uint64(ref))
	}
	return b
}

func decodeHourList(b []byte, hour int64) (hourList, error) {
	d := decoder{b: b}
	l := hourList{hour: hour}
	n := d.number(mostListed<<1 | 1)
	for range n >> 1 {
		if n&1 == 1 {
			l.messages = append(l.messages, d.uuid())
		} else {
			l.messages = append(l.messages, d.id())
		}
	}
	for len(d.b) > 0 {
		l.rosters = append(l.rosters, d.ref())
	}
	return l, d.end()
}
