package events

import (
	_ "embed" // for the proto
	"encoding/json"
)

//go:embed events.proto
var protoText string

// Proto is events.proto, the topic's format.
func Proto() string { return protoText }

// AsyncAPI returns a description of the topic, for those who produce to it: AsyncAPI
// 3.0, in JSON. Two calls return the same bytes.
func AsyncAPI() []byte {
	type object = map[string]any
	key := object{
		"type": "string", "minLength": 1, "maxLength": MaxIDLen,
		"description": "The message ID's bytes. The partition is murmur2 of the key, as Java's client, franz-go and kafka-python have it by default; librdkafka's clients set partitioner=murmur2_random.",
	}
	messages, operations := object{}, []object{}
	for _, m := range []struct {
		name, title, text string
		key               object
	}{
		{"MessageSent", "A message was sent", "Who should read it: recipients by name, or their count. The first in the log counts.", key},
		{"MessageRead", "Somebody has read a message", "A receipt. The first of a reader counts; read_at is clamped to between sent_at and the record's timestamp.", key},
		{"MessageRecalled", "A message was recalled", "It empties the reader set for good.", key},
		{"UserErased", "A person is to be forgotten", "One record in every partition, with an empty or null key.", object{"type": []string{"string", "null"}, "maxLength": 0}},
	} {
		messages[m.name] = object{
			"name": m.name, "title": m.title, "summary": m.text, "contentType": "application/protobuf",
			"bindings": object{"kafka": object{"key": m.key, "bindingVersion": "0.5.0"}},
			"payload":  object{"schemaFormat": "application/vnd.google.protobuf;version=3", "schema": protoText},
		}
		operations = append(operations, object{"$ref": "#/channels/events/messages/" + m.name})
	}
	b, err := json.MarshalIndent(object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "seenby's topic", "version": "1", "license": object{"name": "Apache-2.0"},
			"description": "What happened to messages, in the order of each partition. Timestamps are the broker's (LogAppendTime). A value is one Event; its oneof's fields are numbered 1001-1999. `seenby topic create` makes the topic, and `seenby topic check` holds one to what it has to be.",
		},
		"defaultContentType": "application/protobuf",
		"channels": object{"events": object{
			"address": "{topic}", "parameters": object{"topic": object{"description": "--topic.", "default": "seenby-events"}},
			"messages": messages,
			"bindings": object{"kafka": object{
				"partitions": 64, "bindingVersion": "0.5.0",
				"topicConfiguration": object{"cleanup.policy": []string{"delete"}, "max.message.bytes": MaxEventSize},
			}},
		}},
		"operations": object{
			"produce": object{"action": "send", "channel": object{"$ref": "#/channels/events"}, "messages": operations, "summary": "What ingest does, and any other producer may, with acks=all."},
			"project": object{"action": "receive", "channel": object{"$ref": "#/channels/events"}, "messages": operations, "summary": "What a projector does, read-committed, from the log's start on."},
		},
	}, "", "  ")
	if err != nil {
		panic(err) // a mistake in this function
	}
	return append(b, '\n')
}
