package events

// Record is one record of a partition as the log holds it.
type Record struct {
	// Offset is the record's own; the position after it is Offset+1.
	Offset int64
	// Timestamp is the broker's (LogAppendTime), in Unix milliseconds.
	Timestamp int64
	// LeaderEpoch is that of the batch, or -1 if the broker keeps none.
	LeaderEpoch int32
	// Control says that the record is a transaction's marker: it carries no
	// event, but its offset counts.
	Control bool
	Key     []byte
	Value   []byte
}
