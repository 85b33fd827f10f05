// Package js has the client side of seenby for pages, as an ES module without
// dependencies: the sender's half, which keeps the rules of [pull] and runs the same
// table of scenarios, and the reader's half.
//
// [pull]: https://pkg.go.dev/github.com/seenby/seenby/services/pull
package js

import _ "embed" // for Module

// Module is seenby.js. It must not be changed.
//
//go:embed seenby.js
var Module []byte

// Types is seenby.d.ts, which documents it. It must not be changed.
//
//go:embed seenby.d.ts
var Types []byte
