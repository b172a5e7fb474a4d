"""The grammar finds no fault in what the vendors send, and finds those that are put there.

Each good stream is a list of events; a bad one is a good one with a change, and what is expected to
be said of it.
"""

import copy
import json
import unittest

import grammar

HEADERS = {"content-type": "text/event-stream", "x-request-id": "r", "request-id": "r"}
PLAIN = {**HEADERS, "content-type": "application/json"}


def faults_of(path, request, wire, headers=HEADERS, status=200, method="POST", step=7):
    """All faults of an answer that comes in pieces of `step` bytes."""
    body = json.dumps(request).encode()
    judge, faults = grammar.judge(method, path, {}, body, status, headers)
    for start in range(0, len(wire), step):
        faults += judge.feed(wire[start : start + step])
    return faults + judge.end(True)


def chunk(delta=None, finish=None, index=0, **more):
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": choices, **more}


def call(index, arguments, **first):
    function = {"arguments": arguments}
    if first:
        function["name"] = first.pop("name")
        first["type"] = "function"
    return {"tool_calls": [{"index": index, **first, "function": function}]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CHAT = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Well"}),
    chunk(call(0, "", id="a", name="f")),
    chunk(call(0, '{"x":')),
    chunk(call(1, "", id="b", name="g")),
    chunk(call(0, "1}")),
    chunk(call(1, "{}")),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
    "[DONE]",
]
CHAT_REQUEST = {"stream": True, "stream_options": {"include_usage": True}}

MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1},
}


def block(index, block, *deltas):
    start = {"type": "content_block_start", "index": index, "content_block": block}
    between = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [start, *between, {"type": "content_block_stop", "index": index}]


MESSAGES = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "ping"},
    *block(
        0, {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm"}, {"type": "signature_delta", "signature": "s"},
    ),
    *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Well"}),
    *block(
        2, {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"x":'},
        {"type": "input_json_delta", "partial_json": "1}"},
    ),
    {
        "type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]
MESSAGES_REQUEST = {"stream": True}

TEXT = {"type": "output_text", "text": "Well", "annotations": []}
SAID = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [TEXT]}
CALLED = {
    "id": "f", "type": "function_call", "call_id": "c", "name": "f", "arguments": '{"x":1}',
    "status": "completed",
}
DETAILS = {
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


def response(status, output, **more):
    return {
        "id": "r", "object": "response", "created_at": 1, "model": "m", "status": status,
        "output": output, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "error": None, **more,
    }


def numbered(events):
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def of_text(kind, **more):
    return {"type": kind, "item_id": "i", "output_index": 0, "content_index": 0, **more}


def of_call(step, **more):
    kind = f"response.function_call_arguments.{step}"
    return {"type": kind, "item_id": "f", "output_index": 1, **more}


WHOLE = response(
    "completed", [SAID, CALLED],
    usage={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, **DETAILS},
)
EMPTY_TEXT = {**TEXT, "text": ""}
EMPTY_SAID = {**SAID, "status": "in_progress", "content": []}
EMPTY_CALLED = {**CALLED, "status": "in_progress", "arguments": ""}
RESPONSES = numbered([
    {"type": "response.created", "response": response("in_progress", [])},
    {"type": "response.in_progress", "response": response("in_progress", [])},
    {"type": "response.output_item.added", "output_index": 0, "item": EMPTY_SAID},
    of_text("response.content_part.added", part=EMPTY_TEXT),
    of_text("response.output_text.delta", delta="We", logprobs=[]),
    of_text("response.output_text.delta", delta="ll", logprobs=[]),
    of_text("response.output_text.done", text="Well", logprobs=[]),
    of_text("response.content_part.done", part=TEXT),
    {"type": "response.output_item.done", "output_index": 0, "item": SAID},
    {"type": "response.output_item.added", "output_index": 1, "item": EMPTY_CALLED},
    of_call("delta", delta='{"x":'),
    of_call("delta", delta="1}"),
    of_call("done", arguments='{"x":1}'),
    {"type": "response.output_item.done", "output_index": 1, "item": CALLED},
    {"type": "response.completed", "response": WHOLE},
])


def wire(events):
    text = ""
    for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        text += f"event: {kind}\n" if kind else ""
        text += f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"
    return text.encode()


def without(*places):
    return lambda events: [event for at, event in enumerate(events) if at not in places]


def swapped(one, other):
    def change(events):
        events[one], events[other] = events[other], events[one]
        return events

    return change


def twice(place):
    return lambda events: events[: place + 1] + events[place:]


def put(place, path, value):
    """Sets what is at a path of keys within an event."""

    def change(events):
        at = events[place]
        *keys, last = path
        for key in keys:
            at = at[key]
        at[last] = value
        return events

    return change


def removed(place, *path):
    def change(events):
        at = events[place]
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]
        return events

    return change


OPENAI_ERROR = {"error": {"message": "gone", "type": "server_error", "param": None, "code": None}}
ANTHROPIC_ERROR = {"type": "error", "error": {"type": "api_error", "message": "gone"}, "request_id": "r"}
RESPONSE_ERROR = {"type": "error", "code": "x", "message": "gone", "param": None, "sequence_number": 4}

BAD_CHATS = [
    ("first delta has no role", removed(0, "choices", 0, "delta", "role")),
    ("a second role", put(1, ["choices", 0, "delta", "role"], "assistant")),
    ("another {'id': 'd'", put(3, ["id"], "d")),
    ("created", put(3, ["created"], "1")),
    ("choices.0.index: Field required", removed(1, "choices", 0, "index")),
    ("a field that the vendor does not have", put(1, ["choices", 0, "delta", "citations"], [])),
    ("begins without id", removed(2, "choices", 0, "delta", "tool_calls", 0, "id")),
    ("given a second id", put(3, ["choices", 0, "delta", "tool_calls", 0, "id"], "a")),
    ("call 2 after 1 calls", put(4, ["choices", 0, "delta", "tool_calls", 0, "index"], 2)),
    ("are no JSON object", without(5)),
    ("no finish_reason", without(7)),
    ("a second finish_reason", twice(7)),
    ("though tools are called", put(7, ["choices", 0, "finish_reason"], "stop")),
    ("a delta after finish_reason", swapped(1, 7)),
    ("asked for and is not there", without(8)),
    ("a chunk after the usage", swapped(7, 8)),
    ("total_tokens is no sum", put(8, ["usage", "total_tokens"], 6)),
    ("no [DONE]", without(9)),
    ("an event after the last", twice(9)),
    ("an event after the last", lambda events: [*events[:4], OPENAI_ERROR, *events[4:]]),
    ("error.code is missing", lambda events: [*events[:4], {"error": {"message": "m", "type": "t"}}]),
    ("not JSON", lambda events: ["{", *events]),
]
BAD_MESSAGES = [
    ("before message_start", without(0)),
    ("a second message_start", twice(0)),
    ("message_start has a stop_reason", put(0, ["message", "stop_reason"], "end_turn")),
    ("input_tokens: Field required", removed(0, "message", "usage", "input_tokens")),
    ("a thought without signature", without(4)),
    ("a thought after its signature", swapped(3, 4)),
    ("a block begins within another", without(5)),
    ("block 2 after 1 blocks", put(6, ["index"], 2)),
    ("which is not open", put(7, ["index"], 0)),
    ("text_delta for a block of type thinking", put(3, ["delta"], {"type": "text_delta", "text": "Hm"})),
    ("the input is no JSON", without(11)),
    ("while a block is open", without(12)),
    ("message_delta without stop_reason", put(13, ["delta", "stop_reason"], None)),
    ("though tools are called", put(13, ["delta", "stop_reason"], "end_turn")),
    ("a second message_delta", twice(13)),
    ("before message_delta", without(13)),
    ("no message_stop", without(14)),
    ("an event after message_stop", twice(14)),
    ("type 'text_start' is none of the vendor's", put(2, ["type"], "text_start")),
    ("an event after error", lambda events: [*events[:4], ANTHROPIC_ERROR, *events[4:]]),
    ("request_id is missing", lambda events: [*events[:4], {**ANTHROPIC_ERROR, "request_id": None}]),
]
BAD_RESPONSES = [
    ("sequence_number 4, not 3", without(3)),
    ("sequence_number 1, not 0", lambda events: [{**e, "sequence_number": n + 1} for n, e in enumerate(events)]),
    ("where response.in_progress is expected", without(1)),
    ("with status completed", put(0, ["response", "status"], "completed")),
    ("item 1 after 0 items", put(2, ["output_index"], 1)),
    ("an item is added with", put(2, ["item", "content"], [TEXT])),
    ("which is not open", put(4, ["content_index"], 1)),
    ("of j", put(4, ["item_id"], "j")),
    ("not 'Wexx'", put(5, ["delta"], "xx")),
    ("not what its deltas add up to", put(7, ["part", "text"], "Wel")),
    ("content of the item is not its parts", put(8, ["item", "content"], [])),
    ("arguments are not what was done", put(13, ["item", "arguments"], "{}")),
    ("an item is not done at the end", without(13)),
    ("output is not the items that were done", put(14, ["response", "output"], [SAID])),
    ("total_tokens is no sum", put(14, ["response", "usage", "total_tokens"], 6)),
    ("usage.input_tokens_details: Field required", removed(14, "response", "usage", "input_tokens_details")),
    ("another id", put(14, ["response", "id"], "s")),
    ("no end", without(14)),
    ("an event after response.completed", twice(14)),
    ("logprobs: Field required", removed(4, "logprobs")),
    ("an event after error", lambda events: [*events[:4], RESPONSE_ERROR, *events[4:]]),
]


class Streams(unittest.TestCase):
    def check(self, path, request, good, bad):
        for step in (1, 7, 100_000):
            self.assertEqual(faults_of(path, request, wire(good), step=step), [])
        for wanted, change in bad:
            with self.subTest(wanted):
                changed = wire(change(copy.deepcopy(good)))
                found = faults_of(path, request, changed)
                self.assertTrue(any(wanted in fault for fault in found), found)

    def test_chat_completions(self):
        self.check("/v1/chat/completions", CHAT_REQUEST, CHAT, BAD_CHATS)

    def test_messages(self):
        self.check("/v1/messages", MESSAGES_REQUEST, MESSAGES, BAD_MESSAGES)

    def test_responses(self):
        self.check("/v1/responses", {"stream": True}, RESPONSES, BAD_RESPONSES)

    def test_an_error_may_be_the_last_event(self):
        failed = {
            "type": "response.failed", "sequence_number": 5,
            "response": response("failed", [], error={"code": "server_error", "message": "gone"}),
        }
        cases = [
            ("/v1/chat/completions", CHAT_REQUEST, [*CHAT[:4], OPENAI_ERROR]),
            ("/v1/messages", MESSAGES_REQUEST, [*MESSAGES[:4], ANTHROPIC_ERROR]),
            ("/v1/responses", {"stream": True}, [*RESPONSES[:4], RESPONSE_ERROR]),
            ("/v1/responses", {"stream": True}, [*RESPONSES[:4], RESPONSE_ERROR, failed]),
        ]
        for path, request, events in cases:
            self.assertEqual(faults_of(path, request, wire(events)), [], path)

    def test_a_usage_that_nobody_asked_for(self):
        found = faults_of("/v1/chat/completions", {"stream": True}, wire(CHAT))
        self.assertEqual(len(found), 1, found)
        self.assertIn("nobody asked for", found[0])

    def test_the_framing(self):
        good = wire(CHAT)
        for bad, wanted in [
            (good.replace(b"data: [DONE]", b"data:[DONE]"), "a line that no vendor sends"),
            (good.replace(b"data: [DONE]\n\n", b"data: [DONE]\n"), "half an event at the end"),
            (b"event: chunk\n" + good, "an event's name"),
            (good.replace(b"Well", b"\xff"), "not UTF-8"),
        ]:
            found = faults_of("/v1/chat/completions", CHAT_REQUEST, bad)
            self.assertTrue(any(wanted in fault for fault in found), found)
        self.assertEqual(faults_of("/v1/chat/completions", CHAT_REQUEST, b": hi\n\n" + good), [])


class Plain(unittest.TestCase):
    def check(self, path, request, value, wanted, status=200, headers=PLAIN, method="POST"):
        found = faults_of(path, request, json.dumps(value).encode(), headers, status, method)
        if wanted is None:
            return self.assertEqual(found, [])
        self.assertTrue(any(wanted in fault for fault in found), found)

    def test_chat_completions(self):
        message = {"role": "assistant", "content": "Well", "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        good = {
            "id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
            "usage": USAGE,
        }
        path = "/v1/chat/completions"
        self.check(path, {}, good, None)
        self.check(path, {"n": 2}, good, "1 choices")
        self.check(path, {}, {**good, "usage": None}, "no usage")
        self.check(path, {}, {**good, "created": None}, "created")
        called = {**choice, "finish_reason": "tool_calls"}
        self.check(path, {}, {**good, "choices": [called]}, "there is none")

    def test_messages(self):
        good = {**MESSAGE, "stop_reason": "end_turn", "content": [{"type": "text", "text": "Well"}]}
        self.check("/v1/messages", {}, good, None)
        self.check("/v1/messages", {}, {**good, "stop_reason": None}, "no stop_reason")
        self.check("/v1/messages", {}, {**good, "content": [{"type": "text"}]}, "text: Field required")
        self.check("/v1/messages", {}, {**good, "object": "x"}, "does not have")

    def test_responses(self):
        self.check("/v1/responses", {}, WHOLE, None)
        self.check("/v1/responses", {}, {**WHOLE, "output": [EMPTY_SAID]}, "in progress at the end")
        self.check("/v1/responses", {}, {**WHOLE, "status": "failed"}, "with error None")
        self.check("/v1/responses/r", {}, WHOLE, None, method="GET")
        deleted = {"id": "r", "object": "response", "deleted": True}
        self.check("/v1/responses/r", {}, deleted, None, method="DELETE")
        self.check("/v1/responses/r", {}, {"id": "r"}, "not the reference's", method="DELETE")

    def test_errors(self):
        chat, messages = "/v1/chat/completions", "/v1/messages"
        self.check(chat, {"stream": True}, OPENAI_ERROR, None, 500)
        self.check(chat, {}, ANTHROPIC_ERROR, "error.param is missing", 500)
        self.check(messages, {"stream": True}, ANTHROPIC_ERROR, None, 500)
        self.check(messages, {}, ANTHROPIC_ERROR, "not 'rate_limit_error'", 429)
        self.check(messages, {}, OPENAI_ERROR, "Field required", 500)

    def test_heads(self):
        self.check("/v1/responses", {}, WHOLE, "content-type", headers={**PLAIN, "content-type": "text/html"})
        self.check("/v1/responses", {}, WHOLE, "no x-request-id", headers={"content-type": "application/json"})
        self.check("/v1/nothing", {}, {}, "no grammar for POST /v1/nothing")


if __name__ == "__main__":
    unittest.main()
