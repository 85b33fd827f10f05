package openapi

import (
	"github.com/seenby/seenby/events"
	"github.com/seenby/seenby/services/contract"
)

// properties makes an object's schema; what is required comes first.
func properties(text string, required []string, members object) object {
	return object{"type": "object", "description": text, "required": required, "properties": members}
}

// strict is properties of which there may be no others, as in requests.
func strict(text string, required []string, members object) object {
	o := properties(text, required, members)
	o["additionalProperties"] = false
	return o
}

// either adds that one of two members must be there, and not both.
func either(o object, one, other string) object {
	o["oneOf"] = []object{{"required": []string{one}}, {"required": []string{other}}}
	return o
}

func text(description string) object { return object{"type": "string", "description": description} }

func nullable(kind, description string) object {
	return object{"type": []string{kind, "null"}, "description": description}
}

func list(of object, least, most int) object {
	l := object{"type": "array", "items": of}
	if least > 0 {
		l["minItems"] = least
	}
	if most > 0 {
		l["maxItems"] = most
	}
	return l
}

func opaque(format, description string) object {
	return object{"type": "string", "format": format, "description": "Of A-Z, a-z, 0-9, - and _. " + description}
}

func with(schema object, description string) object {
	return object{"allOf": []object{schema}, "description": description}
}

func count(description string) object {
	return object{"type": "integer", "minimum": 0, "description": description}
}

func schemas() object {
	when := func(description string) object {
		return object{"type": "string", "format": "date-time", "description": description}
	}
	truth := func(description string) object { return object{"type": "boolean", "description": description} }
	reader := properties("One receipt.", []string{"reader_id", "read_at"}, object{"reader_id": ref("ID"), "read_at": when("When, in UTC with milliseconds.")})
	set := object{
		"message_id": ref("ID"), "conversation_id": ref("ID"), "sender_id": nullable("string", "null if the sender was erased."),
		"sent_at": when("When it was sent."), "state": object{"type": "string", "enum": []string{"active", "recalled"}},
		"version":    ref("Version"),
		"read_count": count("How many have read it."), "recipient_count": count("How many should."),
		"opted_out_count": nullable("integer", "How many give no receipts; null where recipients are not known by name."),
		"complete":        truth("All have read it."), "truncated": truth("Readers ends before read_count."),
		"delta":   truth("Readers are those added since; else they are the whole set, to replace what the client has."),
		"readers": list(ref("Reader"), 0, 0), "next": object{"description": "The cursor of the next page, or null.", "anyOf": []object{ref("Cursor"), {"type": "null"}}},
	}
	setNames := []string{"message_id", "conversation_id", "sender_id", "sent_at", "state", "version", "read_count", "recipient_count", "opted_out_count", "complete", "truncated", "delta", "readers", "next"}
	pulled := make(object)
	for name, schema := range set {
		pulled[name] = schema
	}
	pulled["read_by"] = with(list(ref("Reader"), 0, contract.MaxNamedReaders), "Those of the request's readers who have read it; only where there were any.")
	return object{
		"ID": object{
			"type": "string", "format": "seenby-id", "minLength": 1, "maxLength": events.MaxIDLen,
			"description": "1-128 bytes of UTF-8 without control characters; not . or ..; compared bytewise.",
		},
		"Version":  opaque("seenby-version", "Of one message. Versions survive restarts, rebuilds and another copy's answers."),
		"Cursor":   opaque("seenby-cursor", "Where an answer goes on."),
		"Position": opaque("seenby-position", "Where the log was: whoever presents it sees what was written up to there."),
		"Message": either(strict("Either recipients or recipient_count.", []string{"conversation_id", "sender_id"}, object{
			"conversation_id": ref("ID"), "sender_id": ref("ID"),
			"sent_at":         when("By default now; neither 5 minutes ahead nor older than the retention."),
			"recipients":      list(ref("ID"), 0, 0),
			"opted_out":       list(ref("ID"), 0, 0),
			"recipient_count": object{"type": "integer", "minimum": 0, "maximum": events.MaxRecipientCount, "description": "Of a group whose members are not given."},
		}), "recipients", "recipient_count"),
		"Receipts": strict("1-500 of them.", []string{"receipts"}, object{"receipts": list(strict("One.", []string{"message_id"}, object{
			"message_id": ref("ID"), "reader_id": with(ref("ID"), "For the backend, which must give it."), "read_at": when("By default now. Clamped, never refused."),
		}), 1, contract.MaxReceipts)}),
		"Pull": strict("What is on screen.", []string{"messages"}, object{
			"messages": list(strict("One; each may be there once.", []string{"message_id"}, object{"message_id": ref("ID"), "since": with(ref("Version"), "What the client has.")}), 1, contract.MaxBatch),
			"limit":    object{"type": "integer", "minimum": 0, "maximum": contract.MaxBatchLimit, "default": contract.DefaultBatchLimit, "description": "How many readers of each message."},
			"readers":  with(list(ref("ID"), 0, contract.MaxNamedReaders), "Asks of each message which of these people have read it."), "min_position": list(ref("Position"), 0, contract.MaxMinPositions),
		}),
		"Written":  properties("", []string{"position"}, object{"position": ref("Position")}),
		"Accepted": properties("", []string{"accepted", "position"}, object{"accepted": count("Items, duplicates included; it does not say that they count."), "position": ref("Position")}),
		"Reader":   reader,
		"Set":      properties("Who has read a message.", setNames, set),
		"Unread": properties("Who has not.", []string{"message_id", "version", "unread_count", "members", "next"}, object{
			"message_id": ref("ID"), "version": ref("Version"), "unread_count": count("How many."), "members": list(ref("ID"), 0, contract.MaxLimit), "next": set["next"],
		}),
		"Pulled": properties("What each message came to: each is in one of the lists.", []string{"messages", "unchanged", "failed", "poll"}, object{
			"messages":  list(properties("Who has read it.", setNames, pulled), 0, contract.MaxBatch),
			"unchanged": list(ref("ID"), 0, contract.MaxBatch),
			"failed": list(properties("One that is not answered.", []string{"message_id", "code"}, object{
				"message_id": ref("ID"), "code": object{"type": "string", "enum": []contract.Code{contract.NotFound, contract.NotFresh, contract.OwnerUnavailable, contract.Overloaded, contract.Timeout, contract.Internal}},
			}), 0, contract.MaxBatch),
			"poll": properties("What pulls to come should keep to.", []string{"interval_ms", "window_ms", "stop"}, object{
				"interval_ms": count("From request to request."), "window_ms": count("From the look's start."), "stop": truth("Nothing will change."),
			}),
		}),
		"Problem": properties("RFC 9457. Branch on code.", []string{"type", "title", "status", "code", "detail"}, object{
			"type": text("urn:seenby:problem: and the code."), "title": text("The code in words."), "status": object{"type": "integer"}, "code": object{"type": "string"},
			"detail": text("What happened, and what to do."),
			"errors": list(properties("One bad field.", []string{"field", "code", "detail"}, object{
				"index": count("Of the item, from 0, where the field is in a list."), "field": object{"type": "string"}, "detail": object{"type": "string"},
				"code": object{"type": "string", "enum": []contract.Code{
					contract.Required, contract.WrongType, contract.UnknownField, contract.BadID, contract.BadTime, contract.BadVersion,
					contract.OutOfRange, contract.TooMany, contract.Duplicate, contract.Conflicting, contract.ReaderRequired,
				}},
			}), 0, 0),
		}),
	}
}

func headers() object {
	h := func(text string, schema object) object { return object{"description": text, "schema": schema} }
	s := object{"type": "string"}
	return object{
		"ETag":             h(`W/"<version>".`, s),
		"Seenby-Position":  h("Of which position the answer is.", ref("Position")),
		"Seenby-Lag-Ms":    h("For how many milliseconds the owner has not known that it had applied everything.", object{"type": "integer", "minimum": 0}),
		"Seenby-Poll":      h("interval=2000, window=20000 (RFC 9651, milliseconds), or stop.", s),
		"WWW-Authenticate": h("RFC 6750.", s),
		"Retry-After":      h("Whole seconds.", object{"type": "integer", "minimum": 1}),
	}
}
