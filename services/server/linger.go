package server

import (
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// How much of a refused request's body is read after its answer, and for how
// long. Clients which send all of a body before they look for an answer, as most
// do, would find their connection broken instead of a 401 or a 413. What is read
// is thrown away at once.
const (
	lingerBytes = 16 << 20
	lingerTime  = 5 * time.Second
)

// bodyMayFollow says whether more of the body may be on its way. A client that
// expects to be told to continue has sent none, and is not told.
func bodyMayFollow(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ContentLength != 0 && r.Header.Get("Expect") == ""
}

// answerFirst lets an answer be written while the body is still coming.
func answerFirst(c echo.Context) {
	if bodyMayFollow(c.Request()) {
		// The server's own connections can do this.
		_ = http.NewResponseController(c.Response().Writer).EnableFullDuplex()
	}
}

// linger sends the answer off, and reads on. The request counts as answered.
func linger(c echo.Context) {
	r := c.Request()
	if !bodyMayFollow(r) {
		return
	}
	control := http.NewResponseController(c.Response().Writer)
	// Where this fails the connection is gone, or ends after this.
	if control.Flush() == nil && control.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
	}
}
