package contract

import "strconv"

// The limits of a batch.
const (
	// MaxBatch is how many messages one may ask for.
	MaxBatch = 200
	// DefaultBatchLimit and MaxBatchLimit are how many readers of each message it
	// may get.
	DefaultBatchLimit = 50
	MaxBatchLimit     = 200
	// MaxBatchReaders is how many readers there are in an answer, of all its messages.
	MaxBatchReaders = 5000
	// MaxNamedReaders is how many people one may ask after by name.
	MaxNamedReaders = 100
)

// Batch is POST /v1/pulls, parsed: what a client presents for each message that it
// shows, and what it wants.
type Batch struct {
	// Items are for distinct messages.
	Items []BatchItem
	// Limit is how many readers of each message are wanted.
	Limit int
	// Named says that readers were given: then each message tells which of Readers,
	// who are distinct, have read it.
	Named   bool
	Readers []string
	// MinPositions are the presented positions.
	MinPositions []Position
}

// BatchItem is what is asked of one message.
type BatchItem struct {
	MessageID string
	// Since is the version that the client has, or the zero Version.
	Since Version
}

// DecodeBatch decodes the body of POST /v1/pulls.
func DecodeBatch(b []byte) (*Batch, *Problem) {
	batch := &Batch{Limit: DefaultBatchLimit}
	var positions positionList
	d, problem := readBody(b, func(d *body, name string) error {
		switch name {
		case "messages":
			return batch.readItems(d)
		case "limit":
			limit := uint32(DefaultBatchLimit)
			err := d.count(name, MaxBatchLimit, &limit)
			batch.Limit = int(limit)
			return err
		case "readers":
			batch.Named = true
			return batch.readReaders(d)
		case "min_position":
			return positions.read(d)
		}
		return d.unknown(-1, name)
	})
	if problem != nil {
		return nil, problem
	}
	d.require("messages")
	if problem := d.problem(); problem != nil {
		return nil, problem
	}
	if positions.bad {
		return nil, NewProblem(BadPosition, "min_position: %v", errOpaque)
	}
	batch.MinPositions = positions.positions
	return batch, nil
}

func (b *Batch) readItems(d *body) error {
	known := make(map[string]struct{})
	n := 0
	before := len(d.errors)
	err := d.array("messages", func(d *body, i int) error {
		if n++; n > MaxBatch {
			return d.skip()
		}
		item, ok, err := d.batchItem(i)
		if err != nil || !ok {
			return err
		}
		if _, found := known[item.MessageID]; found {
			d.bad(i, "message_id", Duplicate, "the message is in the list already")
		}
		known[item.MessageID] = struct{}{}
		b.Items = append(b.Items, item)
		return nil
	})
	switch {
	case err != nil:
	case n > MaxBatch:
		d.bad(-1, "messages", TooMany, "%d messages, at most %d in one request", n, MaxBatch)
	case n == 0 && len(d.errors) == before:
		d.bad(-1, "messages", OutOfRange, "messages must have at least one item")
	}
	return err
}

// batchItem reads one item of messages; ok is false if it is bad.
func (d *body) batchItem(i int) (item BatchItem, ok bool, err error) {
	var id, since []byte
	var hasID, hasSince bool
	before := len(d.errors)
	err = d.object(i, "messages", func(d *body, name string) error {
		switch name {
		case "message_id":
			hasID = true
			return d.id(i, name, &id)
		case "since":
			s, isText, err := d.text(i, name)
			// What it is a version of may come after it.
			since, hasSince = append([]byte{}, s...), isText
			return err
		}
		return d.unknown(i, name)
	})
	if err != nil || len(d.errors) > before {
		return item, false, err
	}
	if !hasID {
		d.bad(i, "message_id", Required, "message_id is required")
	}
	item.MessageID = string(id)
	if hasSince && id != nil {
		if item.Since, err = ParseVersion(string(since), item.MessageID); err != nil {
			d.bad(i, "since", BadVersion, "since: %v", err)
		}
	}
	return item, len(d.errors) == before, nil
}

func (b *Batch) readReaders(d *body) error {
	known := make(map[string]struct{})
	n := 0
	err := d.array("readers", func(d *body, i int) error {
		if n++; n > MaxNamedReaders {
			return d.skip()
		}
		var id []byte
		if err := d.id(i, "readers", &id); err != nil || id == nil {
			return err
		}
		if _, found := known[string(id)]; !found {
			known[string(id)] = struct{}{}
			b.Readers = append(b.Readers, string(id))
		}
		return nil
	})
	if err == nil && n > MaxNamedReaders {
		d.bad(-1, "readers", TooMany, "%d readers, at most %d in one request", n, MaxNamedReaders)
	}
	return err
}

// positionList reads a list of positions. One that is none is a problem of its own,
// and not one of the body's.
type positionList struct {
	positions []Position
	bad       bool
}

func (l *positionList) read(d *body) error {
	n := 0
	err := d.array("min_position", func(d *body, i int) error {
		if n++; n > MaxMinPositions {
			return d.skip()
		}
		s, ok, err := d.text(i, "min_position")
		if err != nil || !ok {
			return err
		}
		p, err := ParsePosition(string(s))
		l.bad = l.bad || err != nil
		l.positions = append(l.positions, p)
		return nil
	})
	if err == nil && n > MaxMinPositions {
		d.bad(-1, "min_position", TooMany, "%d positions, at most %d in one request", n, MaxMinPositions)
	}
	return err
}

// Append appends the batch as the body that it would be decoded from.
func (b *Batch) Append(to []byte) []byte {
	to = append(to, `{"messages":[`...)
	for i := range b.Items {
		item := &b.Items[i]
		if i > 0 {
			to = append(to, ',')
		}
		to = AppendString(append(to, `{"message_id":`...), item.MessageID)
		if item.Since != (Version{}) {
			to = append(to, `,"since":"`...)
			to = append(to, item.Since.Encode(item.MessageID)...)
			to = append(to, '"')
		}
		to = append(to, '}')
	}
	to = append(to, `],"limit":`...)
	to = strconv.AppendInt(to, int64(b.Limit), 10)
	if b.Named {
		to = append(to, `,"readers":`...)
		to = appendList(to, len(b.Readers), func(i int) string { return b.Readers[i] })
	}
	to = append(to, `,"min_position":`...)
	to = appendList(to, len(b.MinPositions), func(i int) string { return b.MinPositions[i].Encode() })
	return append(to, '}')
}

func appendList(to []byte, n int, item func(i int) string) []byte {
	to = append(to, '[')
	for i := range n {
		if i > 0 {
			to = append(to, ',')
		}
		to = AppendString(to, item(i))
	}
	return append(to, ']')
}
