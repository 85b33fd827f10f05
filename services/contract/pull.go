package contract

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The limits of a pull of one message's receipts.
const (
	DefaultLimit    = 200
	MaxLimit        = 2000
	MaxMinPositions = 8
)

// Pull is GET /v1/messages/{message_id}/receipts, parsed: what a client
// presents, and what it wants.
type Pull struct {
	MessageID string
	// Limit is how many readers a page may have.
	Limit int
	// Part is which part of the set is wanted: by since, at or at_version, or by
	// Cursor, where it is set.
	Part Part
	// Cursor continues an earlier page, or is nil.
	Cursor *Cursor
	// MinPositions are the presented positions.
	MinPositions []Position
	// IfNoneMatch are the entity tags of the header of that name, without W/ and
	// quotes; AnyMatch stands for its *.
	IfNoneMatch []string
	AnyMatch    bool
}

// ParsePull parses the query string and headers of a pull of messageID.
func ParsePull(messageID, rawQuery string, header http.Header, sealer Sealer) (*Pull, *Problem) {
	p := &Pull{MessageID: messageID, Limit: DefaultLimit}
	limited := false
	problem := eachParameter(rawQuery, func(name string, vs []string) *Problem {
		limited = limited || name == "limit"
		return p.parameter(name, vs, sealer)
	})
	if problem != nil {
		return nil, problem
	}
	if problem := p.settle(limited); problem != nil {
		return nil, problem
	}
	p.IfNoneMatch, p.AnyMatch = parseETags(header.Values("If-None-Match"))
	return p, nil
}

// eachParameter calls f with each parameter of a query string, of which only
// min_position may be repeated.
func eachParameter(rawQuery string, f func(name string, values []string) *Problem) *Problem {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return NewProblem(BadParameter, "the query string is not well-formed")
	}
	for _, name := range sortedNames(values) {
		vs := values[name]
		if len(vs) > 1 && name != "min_position" {
			return NewProblem(BadParameter, "%q may be given once", short(name))
		}
		if problem := f(name, vs); problem != nil {
			return problem
		}
	}
	return nil
}

// NoParameters refuses a query string where a route has no parameters.
func NoParameters(rawQuery string) *Problem {
	if rawQuery != "" {
		return NewProblem(BadParameter, "this route has no query parameters")
	}
	return nil
}

// sortedNames makes which of several mistakes is told of the same every time.
func sortedNames(values url.Values) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (p *Pull) parameter(name string, vs []string, sealer Sealer) (problem *Problem) {
	switch v := vs[0]; name {
	case "limit":
		p.Limit, problem = parseLimit(v)
	case "since":
		return p.versionPart(PartSince, name, v)
	case "at_version":
		return p.versionPart(PartAtVersion, name, v)
	case "at":
		at, err := ParseTime(v)
		if err != nil {
			return NewProblem(BadParameter, "at: %v", err)
		}
		return p.part(Part{Kind: PartAt, At: at})
	case "cursor":
		cursor, err := ParseCursor(v, p.MessageID, sealer)
		if err != nil {
			return NewProblem(BadCursor, "cursor: %v", err)
		}
		p.Cursor = &cursor
	case "min_position":
		p.MinPositions, problem = parsePositions(vs)
	default:
		problem = unknownParameter(name)
	}
	return problem
}

func unknownParameter(name string) *Problem {
	return NewProblem(BadParameter, "there is no parameter %q here", short(name))
}

func parsePositions(vs []string) ([]Position, *Problem) {
	if len(vs) > MaxMinPositions {
		return nil, NewProblem(BadParameter, "min_position may be given %d times", MaxMinPositions)
	}
	positions := make([]Position, 0, len(vs))
	for _, v := range vs {
		position, err := ParsePosition(v)
		if err != nil {
			return nil, NewProblem(BadPosition, "min_position: %v", err)
		}
		positions = append(positions, position)
	}
	return positions, nil
}

func (p *Pull) versionPart(kind PartKind, name, value string) *Problem {
	version, err := ParseVersion(value, p.MessageID)
	if err != nil {
		return NewProblem(BadVersion, "%s: %v", name, err)
	}
	return p.part(Part{Kind: kind, Version: version})
}

// part takes the part that a parameter chooses, if no other did.
func (p *Pull) part(part Part) *Problem {
	if p.Part.Kind != WholeSet {
		return NewProblem(BadParameter, "since, at and at_version exclude each other")
	}
	p.Part = part
	return nil
}

// settle checks what parameters say of each other.
func (p *Pull) settle(limited bool) *Problem {
	if p.Cursor == nil {
		return nil
	}
	if p.Part.Kind != WholeSet && p.Part != p.Cursor.Part {
		return NewProblem(BadParameter,
			"since, at or at_version conflicts with cursor: repeat what the cursor was given for, or leave it out")
	}
	p.Part = p.Cursor.Part
	if limited && p.Limit == 0 {
		return noPages()
	}
	return nil
}

func noPages() *Problem {
	return NewProblem(BadParameter, "cursor and limit=0 conflict: limit=0 has no pages")
}

func parseLimit(s string) (int, *Problem) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > MaxLimit || s[0] == '+' {
		return 0, NewProblem(BadParameter, "limit must be an integer from 0 to %d", MaxLimit)
	}
	return int(n), nil
}

// parseETags returns the opaque tags of If-None-Match's lines. A malformed rest
// of a line matches nothing, as a client that garbles it is best served in full.
func parseETags(lines []string) (tags []string, anyMatch bool) {
	for _, line := range lines {
		for line = strings.Trim(line, " \t,"); line != ""; line = strings.Trim(line, " \t,") {
			if line == "*" {
				return nil, true
			}
			rest, found := strings.CutPrefix(strings.TrimPrefix(line, "W/"), `"`)
			if !found {
				break
			}
			tag, after, found := strings.Cut(rest, `"`)
			if !found {
				break
			}
			tags = append(tags, tag)
			line = after
		}
	}
	return tags, false
}
