// Package standalone is all of seenby in one process: an embedded broker, ingest,
// a projector and query, behind one listener. It is for trying, developing and
// small tests, never for production: there is one copy, of one log, on one disk.
package standalone
