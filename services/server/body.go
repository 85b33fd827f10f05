package server

import (
	"bytes"
	"errors"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/seenby/seenby/services/contract"
)

// firstBuffer is what is set aside for a body before any of it came: a client
// that announces much and sends little shall not hold much.
const firstBuffer = 16 << 10

// readBody reads the whole body of at most limit bytes. Its problems are, in
// order, 415 and 413; a body that does not arrive whole is bad_json, and one
// that arrives too slowly a timeout.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *contract.Problem) {
	if problem := checkMediaType(r.Header); problem != nil {
		return nil, problem
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var b bytes.Buffer
	// ReadFrom wants room to see the end in.
	b.Grow(int(min(max(r.ContentLength, 0), firstBuffer)) + bytes.MinRead)
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	var network net.Error
	switch {
	case err == nil:
		return b.Bytes(), nil
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case errors.As(err, &network) && network.Timeout():
		return nil, contract.NewProblem(contract.Timeout, "the body arrived too slowly").After(time.Second)
	}
	return nil, contract.NewProblem(contract.BadJSON, "the body did not arrive whole")
}

func tooLarge(limit int64) *contract.Problem {
	return contract.NewProblem(contract.BodyTooLarge, "the body is over %d bytes", limit)
}

// checkMediaType takes application/json, in UTF-8 if it says in what, and not
// compressed.
func checkMediaType(h http.Header) *contract.Problem {
	refused := func(detail string) *contract.Problem {
		return contract.NewProblem(contract.UnsupportedMediaType, "%s", detail)
	}
	for _, coding := range h["Content-Encoding"] {
		if !strings.EqualFold(coding, "identity") {
			return refused("send the body without Content-Encoding")
		}
	}
	types := h["Content-Type"]
	if len(types) != 1 {
		return refused("send one Content-Type: application/json")
	}
	if types[0] == "application/json" {
		return nil
	}
	media, parameters, err := mime.ParseMediaType(types[0])
	if err != nil || media != "application/json" {
		return refused("send Content-Type: application/json")
	}
	if charset, found := parameters["charset"]; found && !strings.EqualFold(charset, "utf-8") {
		return refused("send the body in UTF-8")
	}
	return nil
}
