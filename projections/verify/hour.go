package verify

import "time"

// hourName is an hour as findings name it.
func hourName(hour int64) string {
	return "the hour of " + time.UnixMilli(hour*hourMillis).UTC().Format("2006-01-02T15Z")
}
