// Package materialize keeps a node's partitions in memory and on disk: it runs
// the fold over records as they come, keeps hot messages in bounded memory,
// flushes what changed together with its checkpoint, and answers who has read a
// message, as of a position that callers can wait for.
package materialize
