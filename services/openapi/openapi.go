// Package openapi describes the HTTP contract as OpenAPI 3.1. The description is made
// from the contract's own codes and limits; tests hold it to the real server, both
// ways. Every process that serves a part of the contract serves all of the description.
package openapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seenby/seenby/services/contract"
	"github.com/seenby/seenby/services/server"
)

// object is a JSON object. Its members are sorted by name when it is encoded.
type object = map[string]any

// Operation is one method of one path, as the description has it.
type Operation struct {
	Method, Path string
	// Statuses has the codes of each status that it answers with; none for what is not
	// a problem.
	Statuses map[int][]contract.Code

	id, summary, text string
	parameters        []object
	body              string // the name of its schema
	bodyLimit         int
	answers           map[int]answer
}

type answer struct {
	text, schema, mediaType string
	headers                 []string
}

// Every authenticated operation can come to these.
var always = []contract.Code{
	contract.NoToken, contract.InvalidToken, contract.TokenExpired, contract.RateLimited, contract.HeadersTooLarge,
	contract.Internal, contract.Overloaded, contract.Timeout,
}

func withCodes(groups ...[]contract.Code) map[int][]contract.Code {
	statuses := make(map[int][]contract.Code)
	for _, code := range slices.Concat(groups...) {
		statuses[code.Status()] = append(statuses[code.Status()], code)
	}
	return statuses
}

var (
	writes  = []contract.Code{contract.KafkaUnavailable, contract.BadParameter}
	pulls   = []contract.Code{contract.BadParameter, contract.BadPosition, contract.PositionGone, contract.OwnerUnavailable, contract.Starting}
	oneOf   = []contract.Code{contract.BadID, contract.BadCursor, contract.NotFound, contract.CursorGone, contract.NotFresh}
	bodies  = []contract.Code{contract.BadJSON, contract.InvalidBody, contract.UnsupportedMediaType, contract.BodyTooLarge}
	backend = []contract.Code{contract.BackendOnly}
	pathID  = []contract.Code{contract.BadID}
)

func parameter(in, name, text string, schema object) object {
	p := object{"in": in, "name": name, "description": text, "schema": schema}
	if in == "path" {
		p["required"] = true
	}
	return p
}

func ref(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }

func pathParameter(name, text string) object {
	return parameter("path", name, text+" Percent-encoded, and decoded once: %2F is data.", ref("ID"))
}

var (
	messageID = pathParameter("message_id", "The message.")
	cursor    = parameter("query", "cursor", "Continues an answer's next. It fixes message and version: repeat the other parameters or leave them out.", ref("Cursor"))
	limit     = parameter("query", "limit", "How many a page has at most; a page may be shorter, and only next: null ends it.",
		object{"type": "integer", "minimum": 0, "maximum": contract.MaxLimit, "default": contract.DefaultLimit})
	minPosition = object{
		"in": "query", "name": "min_position", "description": "Waits until what these positions cover is applied, or answers not_fresh.",
		"schema": object{"type": "array", "items": ref("Position"), "maxItems": contract.MaxMinPositions}, "style": "form", "explode": true,
	}
	ifNoneMatch = parameter("header", "If-None-Match", "A list of entity tags, or *: 304 if the current one is among them.", object{"type": "string"})
	freshness   = []string{"ETag", "Seenby-Position", "Seenby-Lag-Ms", "Seenby-Poll"}
)

// Operations are the contract's.
func Operations() []Operation {
	position := map[int]answer{202: {text: "It is in the log, at this position.", schema: "Written"}}
	return []Operation{
		{
			Method: http.MethodPut, Path: "/v1/messages/{message_id}", id: "putMessage", summary: "Say that a message was sent",
			text:       "For the backend. Either recipients or recipient_count. The first PUT of a message counts; a repeat changes nothing, so that it may be tried again with the same body. Give the position to the sender's client.",
			parameters: []object{messageID}, body: "Message", bodyLimit: contract.MaxPutBody, answers: position,
			Statuses: withCodes(always, writes, bodies, backend, pathID, []contract.Code{contract.RosterTooLarge}),
		},
		{
			Method: http.MethodDelete, Path: "/v1/messages/{message_id}", id: "recallMessage", summary: "Recall a message",
			text:       "For the backend. It empties the message's reader set for good, and may come before the PUT.",
			parameters: []object{messageID}, answers: position, Statuses: withCodes(always, writes, backend, pathID),
		},
		{
			Method: http.MethodDelete, Path: "/v1/users/{user_id}", id: "eraseUser", summary: "Erase a person",
			text:       "For the backend. The person is taken out of everything up to here. Repeat after a 503.",
			parameters: []object{pathParameter("user_id", "The person.")}, answers: position, Statuses: withCodes(always, writes, backend, pathID),
		},
		{
			Method: http.MethodPost, Path: "/v1/receipts", id: "postReceipts", summary: "Say that messages were read",
			text: "A user reads as the token's sub; a backend names reader_id. Any bad item refuses the request, and nothing is written. The same request may always be sent again.",
			body: "Receipts", bodyLimit: contract.MaxBody, answers: map[int]answer{202: {text: "They are in the log.", schema: "Accepted"}},
			Statuses: withCodes(always, writes, bodies, []contract.Code{contract.ForeignReader}),
		},
		{
			Method: http.MethodGet, Path: "/v1/messages/{message_id}/receipts", id: "getReceipts", summary: "Who has read a message",
			text: "For its sender and the backend. since, at and at_version exclude each other.",
			parameters: []object{
				messageID, limit, cursor,
				parameter("query", "since", "A version: asks for what was added since.", ref("Version")),
				parameter("query", "at", "Today's set, restricted to read_at at or before this time.", object{"type": "string", "format": "date-time"}),
				parameter("query", "at_version", "Today's set, restricted to receipts added at or before this version.", ref("Version")),
				minPosition, ifNoneMatch,
			},
			answers:  map[int]answer{200: {text: "The set, or what was added to it.", schema: "Set", headers: freshness}, 304: {text: "The version is the current one.", headers: freshness}},
			Statuses: withCodes(always, pulls, oneOf, []contract.Code{contract.BadVersion}),
		},
		{
			Method: http.MethodGet, Path: "/v1/messages/{message_id}/unread", id: "getUnread", summary: "Who has not read a message",
			text:       "For its sender and the backend: recipients by name, bytewise ascending.",
			parameters: []object{messageID, limit, cursor, minPosition, ifNoneMatch},
			answers:    map[int]answer{200: {text: "Those who have not read it.", schema: "Unread", headers: freshness}, 304: {text: "The version is the current one.", headers: freshness}},
			Statuses:   withCodes(always, pulls, oneOf, []contract.Code{contract.NoRoster, contract.Recalled}),
		},
		{
			Method: http.MethodPost, Path: "/v1/pulls", id: "pull", summary: "Pull everything on screen",
			text: "What the proactive pull asks every interval. It is a 200 even if all messages failed; of those, not_fresh, owner_unavailable, overloaded, timeout and internal may be tried again.",
			body: "Pull", bodyLimit: contract.MaxBody, answers: map[int]answer{200: {text: "What each message came to.", schema: "Pulled", headers: freshness[1:]}},
			Statuses: withCodes(always, pulls, bodies),
		},
	}
}

// Document returns the description. Two calls return the same bytes.
func Document() []byte {
	paths := make(object)
	for _, o := range Operations() {
		at, found := paths[o.Path].(object)
		if !found {
			at = make(object)
			paths[o.Path] = at
		}
		at[strings.ToLower(o.Method)] = o.describe()
	}
	for path, text := range map[string]string{"/livez": "It runs.", "/readyz": "It can do its work."} {
		answers := object{"200": plain(text)}
		if path == "/readyz" {
			answers["503"] = plain("Why it cannot, in words.")
		}
		paths[path] = object{"get": object{"operationId": strings.TrimPrefix(path, "/"), "summary": text, "security": []object{}, "responses": answers}}
	}
	paths["/metrics"] = object{"get": object{"operationId": "metrics", "summary": "Metrics, for Prometheus", "security": []object{}, "responses": object{"200": plain("In the format that was asked for.")}}}
	paths["/openapi.json"] = object{"get": object{"operationId": "openapi", "summary": "This description", "security": []object{}, "responses": object{
		"200": object{"description": "OpenAPI 3.1.", "content": object{"application/json": object{"schema": object{"type": "object"}}}},
	}}}
	paths["/openapi.html"] = object{"get": object{"operationId": "openapiPage", "summary": "This description, to read", "security": []object{}, "responses": object{
		"200": object{"description": "A page.", "content": object{"text/html": object{"schema": object{"type": "string"}}}},
	}}}
	b, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "seenby", "version": "1", "summary": "Who has read this message?", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Clients ignore unknown fields in answers; servers refuse them in requests. Versions, cursors and positions are opaque. Errors are problem documents (RFC 9457): branch on code.",
		},
		"servers":  []object{{"url": "/"}},
		"security": []object{{"bearer": []string{}}},
		"paths":    paths,
		"components": object{
			"securitySchemes": object{"bearer": object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
			"schemas":         schemas(),
			"headers":         headers(),
		},
	}, "", "  ")
	if err != nil {
		panic(err) // a mistake in this package
	}
	return append(b, '\n')
}

func plain(text string) object {
	return object{"description": text, "content": object{"text/plain": object{"schema": object{"type": "string"}}}}
}

func (o *Operation) describe() object {
	responses := make(object)
	for status, a := range o.answers {
		r := object{"description": a.text}
		if a.schema != "" {
			r["content"] = object{cmp.Or(a.mediaType, "application/json"): object{"schema": ref(a.schema)}}
		}
		if len(a.headers) > 0 {
			h := make(object)
			for _, name := range a.headers {
				h[name] = object{"$ref": "#/components/headers/" + name}
			}
			r["headers"] = h
		}
		responses[strconv.Itoa(status)] = r
	}
	for status, codes := range o.Statuses {
		names := make([]string, len(codes))
		for i, c := range codes {
			names[i] = string(c)
		}
		slices.Sort(names)
		r := object{
			"description": strings.Join(names, ", "),
			"content": object{"application/problem+json": object{"schema": object{"allOf": []object{
				ref("Problem"), {"properties": object{"code": object{"enum": names}, "status": object{"const": status}}},
			}}}},
		}
		switch status {
		case http.StatusUnauthorized:
			r["headers"] = object{"WWW-Authenticate": object{"$ref": "#/components/headers/WWW-Authenticate"}}
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			r["headers"] = object{"Retry-After": object{"$ref": "#/components/headers/Retry-After"}}
		case http.StatusRequestHeaderFieldsTooLarge:
			// It is refused before there is a request.
			r["content"].(object)["text/plain"] = object{"schema": object{"type": "string"}}
		}
		responses[strconv.Itoa(status)] = r
	}
	d := object{"operationId": o.id, "summary": o.summary, "description": o.text, "responses": responses}
	if len(o.parameters) > 0 {
		d["parameters"] = o.parameters
	}
	if o.body != "" {
		d["requestBody"] = object{
			"required": true, "description": fmt.Sprintf("At most %d KiB, one strict JSON object: no duplicate, differently-cased or unknown names.", o.bodyLimit>>10),
			"content": object{"application/json": object{"schema": ref(o.body)}},
		}
	}
	return d
}

// Routes serve the description, and a page to read it.
func Routes() []server.Route {
	document := Document()
	page := readable(document)
	file := func(path, mediaType string, body []byte) server.Route {
		header := http.Header{
			"Content-Type": {mediaType}, "Cache-Control": {"no-cache"}, "X-Content-Type-Options": {"nosniff"},
			"Content-Security-Policy": {"default-src 'none'; style-src 'sha256-" + styleHash + "'; base-uri 'none'; frame-ancestors 'none'"},
		}
		return server.Route{Method: http.MethodGet, Path: path, Access: server.Public, Handler: func(context.Context, *server.Request) (contract.Answer, *contract.Problem) {
			return contract.Answer{Status: http.StatusOK, Header: header, Body: body}, nil
		}}
	}
	return []server.Route{file("/openapi.json", "application/json", document), file("/openapi.html", "text/html; charset=utf-8", page)}
}

//go:embed page.html
var pageText string

// styleHash is that of the page's style, which is all that it may use.
var styleHash = func() string {
	_, rest, _ := strings.Cut(pageText, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return base64.StdEncoding.EncodeToString(sum[:])
}()

// readable makes a page of the description: all that it says, without a script.
func readable(document []byte) []byte {
	var d struct {
		Info       struct{ Summary, Description string }
		Components struct {
			Schemas map[string]json.RawMessage
			Headers map[string]struct{ Description string }
		}
	}
	if err := json.Unmarshal(document, &d); err != nil {
		panic(err)
	}
	type schema struct{ Name, Text string }
	var named []schema
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		var text bytes.Buffer
		if err := json.Indent(&text, d.Components.Schemas[name], "", "  "); err != nil {
			panic(err)
		}
		named = append(named, schema{name, text.String()})
	}
	type row struct {
		Status int
		Text   string
	}
	type operation struct {
		Method, Path, Summary, Text, Body string
		Parameters                        []object
		Rows                              []row
	}
	var operations []operation
	for _, o := range Operations() {
		shown := operation{Method: o.Method, Path: o.Path, Summary: o.summary, Text: o.text, Body: o.body, Parameters: o.parameters}
		for status, a := range o.answers {
			shown.Rows = append(shown.Rows, row{status, strings.TrimSpace(a.text + " " + a.schema)})
		}
		for status, codes := range o.Statuses {
			var names []string
			for _, c := range codes {
				names = append(names, string(c))
			}
			slices.Sort(names)
			shown.Rows = append(shown.Rows, row{status, strings.Join(names, ", ")})
		}
		slices.SortFunc(shown.Rows, func(a, b row) int { return cmp.Compare(a.Status, b.Status) })
		operations = append(operations, shown)
	}
	var page bytes.Buffer
	err := template.Must(template.New("page").Parse(pageText)).Execute(&page, object{
		"Info": d.Info, "Operations": operations, "Schemas": named, "Headers": d.Components.Headers,
	})
	if err != nil {
		panic(err)
	}
	return page.Bytes()
}
