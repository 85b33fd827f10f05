"""Reads messages as a producer that uses confluent-kafka (librdkafka) does.

Arguments: brokers, topic, reader, partitioner ("default" sets none), message IDs.
Each record's partition is printed behind its message ID. events_pb2 is compiled
from events.proto.
"""

import sys

from confluent_kafka import Producer
from events_pb2 import Event

brokers, topic, reader, partitioner, *message_ids = sys.argv[1:]
config = {"bootstrap.servers": brokers, "acks": "all", "message.timeout.ms": 30000}
if partitioner != "default":
    config["partitioner"] = partitioner
producer = Producer(config)


def delivered(error, record):
    if error is not None:
        sys.exit(f"{record.key()}: {error}")
    print(record.key().decode(), record.partition())


for message_id in message_ids:
    event = Event()
    event.message_read.reader_id = reader
    producer.produce(topic, key=message_id.encode(), value=event.SerializeToString(), on_delivery=delivered)
if producer.flush(60) > 0:
    sys.exit("records were not delivered in time")
