package contract

import (
	"encoding/binary"
	"net/http"
)

// Unread is GET /v1/messages/{message_id}/unread, parsed.
type Unread struct {
	MessageID string
	// Limit is how many members a page may have.
	Limit int
	// Cursor continues an earlier page, or is nil.
	Cursor *UnreadCursor
	// MinPositions are the presented positions.
	MinPositions []Position
	// IfNoneMatch and AnyMatch are as in [Pull].
	IfNoneMatch []string
	AnyMatch    bool
}

// ParseUnread parses the query string and headers of a pull of who has not read
// messageID.
func ParseUnread(messageID, rawQuery string, header http.Header, sealer Sealer) (*Unread, *Problem) {
	u := &Unread{MessageID: messageID, Limit: DefaultLimit}
	limited := false
	problem := eachParameter(rawQuery, func(name string, vs []string) (problem *Problem) {
		switch name {
		case "limit":
			limited = true
			u.Limit, problem = parseLimit(vs[0])
		case "cursor":
			cursor, err := parseUnreadCursor(vs[0], messageID, sealer)
			if err != nil {
				return NewProblem(BadCursor, "cursor: %v", err)
			}
			u.Cursor = &cursor
		case "min_position":
			u.MinPositions, problem = parsePositions(vs)
		default:
			problem = unknownParameter(name)
		}
		return problem
	})
	if problem != nil {
		return nil, problem
	}
	if u.Cursor != nil && limited && u.Limit == 0 {
		return nil, noPages()
	}
	u.IfNoneMatch, u.AnyMatch = parseETags(header.Values("If-None-Match"))
	return u, nil
}

// UnreadCursor is where the next page of an unread list begins. All pages are of
// one version.
type UnreadCursor struct {
	Log, Lineage uint32
	// Next is the version that the pages are of.
	Next int64
	// From is the number in the roster that the page begins at.
	From uint32
	// Count is how many have not read, as of the version.
	Count int
}

// Encode returns the cursor's string for this message.
func (c UnreadCursor) Encode(messageID string, s Sealer) string {
	b := append(make([]byte, 0, 64), formatUnreadCursor)
	b = binary.BigEndian.AppendUint32(b, c.Log)
	b = binary.BigEndian.AppendUint32(b, c.Lineage)
	for _, n := range []int64{c.Next, int64(c.From), int64(c.Count)} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return sealCursor(b, messageID, s)
}

// parseUnreadCursor fails unless s is a cursor that was given out for the unread
// list of this message.
func parseUnreadCursor(s, messageID string, sealer Sealer) (UnreadCursor, error) {
	b, err := openCursor(s, formatUnreadCursor, messageID, sealer)
	if err != nil || len(b) < 8 {
		return UnreadCursor{}, errOpaque
	}
	c := UnreadCursor{Log: binary.BigEndian.Uint32(b), Lineage: binary.BigEndian.Uint32(b[4:])}
	var from, count int64
	if !takeNumbers(b[8:], &c.Next, &from, &count) {
		return UnreadCursor{}, errOpaque
	}
	c.From, c.Count = uint32(from), int(count)
	return c, nil
}
