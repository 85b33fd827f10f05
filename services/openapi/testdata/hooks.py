"""What the description cannot say: which version, cursor and position is one of this
server, and what excludes what. Only valid cases are changed; invalid ones stay as they are."""

import datetime
import os

import schemathesis
from hypothesis import strategies as st

MESSAGE = os.environ["SEENBY_MESSAGE"]
VERSION = os.environ["SEENBY_VERSION"]
CURSOR = os.environ["SEENBY_CURSOR"]
UNREAD_CURSOR = os.environ["SEENBY_UNREAD_CURSOR"]
POSITION = os.environ["SEENBY_POSITION"]

ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40).filter(
    lambda s: s not in (".", "..") and len(s.encode()) <= 128
)
schemathesis.openapi.format("seenby-id", ids)
schemathesis.openapi.format("seenby-version", st.just(VERSION))
schemathesis.openapi.format("seenby-cursor", st.sampled_from([CURSOR, UNREAD_CURSOR]))
schemathesis.openapi.format("seenby-position", st.just(POSITION))


def is_valid(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    if not is_valid(case):
        return
    query = case.query or {}
    if case.path.endswith(("/receipts", "/unread")) and case.method == "GET":
        if "cursor" in query:
            # It fixes the others.
            case.query = {"cursor": CURSOR if case.path.endswith("/receipts") else UNREAD_CURSOR}
            case.path_parameters["message_id"] = MESSAGE
        else:
            kinds = [name for name in ("since", "at", "at_version") if name in query]
            for name in kinds[1:]:
                del query[name]
            if kinds and kinds[0] != "at":
                case.path_parameters["message_id"] = MESSAGE
    body = case.body if isinstance(case.body, dict) else {}
    if case.method == "PUT":
        if "sent_at" in body:
            body["sent_at"] = datetime.datetime.now(datetime.timezone.utc).isoformat()
        if "recipient_count" in body:
            body.pop("opted_out", None)
    if case.path == "/v1/receipts":
        for item in body.get("receipts", []):
            item.setdefault("reader_id", "bob")
    if case.path == "/v1/pulls":
        distinct = {}
        for item in body.get("messages", []):
            if "since" in item:
                item["message_id"] = MESSAGE
            distinct.setdefault(item["message_id"], item)
        body["messages"] = list(distinct.values())
