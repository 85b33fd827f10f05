module github.com/seenby/seenby

go 1.26.0

require (
	github.com/twmb/franz-go v1.22.2 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
