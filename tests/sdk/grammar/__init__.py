"""What the vendors publish about their answers, as a program that finds faults in one.

`judge` picks the grammar for a request. It is given the answer's body as it arrives and collects
faults, in words. Two layers find them: `schema` (the SDKs' own types: which fields there are, and
of which kind) and a hand-written order for each kind of stream (`chat`, `messages`, `responses`),
which no type can hold. Pure: bytes in, faults out. Start reading at `judge`.
"""

import json

from . import chat, errors, messages, plain, responses
from .sse import Reader


class Whole:
    """Judges a body that is one JSON document."""

    def __init__(self, check):
        self.check = check
        self.body = bytearray()
        self.events = 0

    def feed(self, data):
        self.body += data
        return []

    def end(self, complete):
        if not complete:
            return ["the body was cut off"]
        try:
            value = json.loads(self.body)
        except ValueError as error:
            return [f"not JSON: {error}: {bytes(self.body[:80])!r}"]
        return self.check(value)


class Stream:
    """Judges a body of server-sent events, one by one as they arrive."""

    def __init__(self, order):
        self.order = order
        self.reader = Reader()
        self.events = 0

    def feed(self, data):
        faults = []
        for event in self.reader.feed(data):
            self.events += 1
            faults += [f"event {self.events}: {fault}" for fault in self.order.event(event)]
        return faults + self.reader.faults()

    def end(self, complete):
        faults = [] if complete else ["the stream was cut off"]
        if self.reader.rest():
            faults.append(f"half an event at the end: {self.reader.rest()[:80]!r}")
        return faults + self.order.end()


def _parsed(body):
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _headers(request_headers, status, headers, streamed, anthropic):
    faults = []
    kind = headers.get("content-type", "").split(";")[0]
    wanted = "text/event-stream" if streamed else "application/json"
    if kind != wanted:
        faults.append(f"content-type is {kind!r}, not {wanted!r}")
    if not headers.get("x-request-id"):
        faults.append("no x-request-id")
    if anthropic and headers.get("request-id") != headers.get("x-request-id"):
        faults.append("request-id is missing or another than x-request-id")
    if status >= 400 and streamed:
        faults.append(f"a stream with status {status}")
    return faults


STREAMS = {
    "/v1/chat/completions": chat.Order,
    "/v1/messages": messages.Order,
    "/v1/responses": responses.Order,
    "/v1/completions": chat.LegacyOrder,
}


def judge(method, path, request_headers, request_body, status, headers):
    """The judge of an answer, and the faults that its head has. Header names are lower case.

    The judge has `feed(bytes) -> faults`, `end(complete) -> faults` and a count of `events`.
    """
    request = _parsed(request_body)
    anthropic = path.startswith("/v1/messages") or (
        path.startswith("/v1/models") and "anthropic-version" in request_headers
    )
    # An error is plain, whatever was asked for: a stream's status is decided before it begins.
    streamed = method == "POST" and request.get("stream") is True and status < 400
    faults = _headers(request_headers, status, headers, streamed, anthropic)
    if streamed and path in STREAMS:
        return Stream(STREAMS[path](request)), faults
    if status >= 400:
        check = errors.anthropic if anthropic else errors.openai
        return Whole(lambda value: check(value, status)), faults
    check = plain.check(method, path, request, anthropic)
    if check is None:
        faults.append(f"no grammar for {method} {path}")
        return Whole(lambda value: []), faults
    return Whole(check), faults
