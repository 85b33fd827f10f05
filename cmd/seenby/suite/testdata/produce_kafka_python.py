"""Reads messages as a producer that uses kafka-python does, with its defaults.

Arguments: brokers, topic, reader, message IDs. Each record's partition is
printed behind its message ID. events_pb2 is compiled from events.proto.
"""

import sys

from events_pb2 import Event
from kafka import KafkaProducer

brokers, topic, reader, *message_ids = sys.argv[1:]
producer = KafkaProducer(bootstrap_servers=brokers.split(","), acks="all")
for message_id in message_ids:
    event = Event()
    event.message_read.reader_id = reader
    sent = producer.send(topic, key=message_id.encode(), value=event.SerializeToString())
    print(message_id, sent.get(timeout=30).partition)
producer.close()
