"""The order of a message's events (Anthropic, "Streaming messages").

`message_start`, then the blocks one after another, each start, deltas, stop, then one
`message_delta` with the stop reason, then `message_stop`. `ping` may come anywhere, `error` last.
"""

import json

from anthropic.types import RawMessageStreamEvent

from . import errors, schema

# Which deltas a block takes; one that is not here takes none.
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
}
# What a block is at its start: everything that deltas bring is empty.
EMPTY = {"text": ("text", ""), "tool_use": ("input", {}), "thinking": ("thinking", "")}


def stop_faults(reason, kinds):
    """Whether the reason fits the blocks that there are."""
    if reason == "tool_use" and "tool_use" not in kinds:
        return ["stop_reason is tool_use, and there is none"]
    if reason in ("end_turn", "stop_sequence") and "tool_use" in kinds:
        return [f"stop_reason is {reason}, though tools are called"]
    return []


class Block:
    """The block that is open."""

    def __init__(self, block):
        self.kind = block["type"]
        self.json = ""
        self.signature = block.get("signature") or ""

    def delta(self, delta):
        if delta["type"] not in DELTAS.get(self.kind, ()):
            return [f"{delta['type']} for a block of type {self.kind}"]
        if delta["type"] == "thinking_delta" and self.signature:
            return ["a thought after its signature"]
        self.json += delta.get("partial_json", "")
        self.signature += delta.get("signature", "")
        return []

    def stop(self):
        if self.kind == "thinking" and not self.signature:
            return ["a thought without signature"]
        if self.kind.endswith("tool_use") and self.json:
            try:
                if not isinstance(json.loads(self.json), dict):
                    return [f"the input is no object: {self.json[:80]}"]
            except ValueError as error:
                return [f"the input is no JSON: {error}: {self.json[:80]}"]
        return []


class Order:
    def __init__(self, request):
        self.started = False
        self.open = None
        self.kinds = []
        self.reason = None
        self.over = None

    def event(self, event):
        if self.over:
            return [f"an event after {self.over}: {event.data[:80]}"]
        try:
            data = json.loads(event.data)
        except ValueError as error:
            return [f"not JSON: {error}"]
        kind = data.get("type") if isinstance(data, dict) else None
        faults = [] if kind == event.name else [f"event {event.name!r} of type {kind!r}"]
        if kind == "ping":
            return faults + ([] if data == {"type": "ping"} else [f"a ping with more: {data}"])
        if kind == "error":
            self.over = "error"
            return faults + errors.anthropic(data)
        faults += schema.check_variant(RawMessageStreamEvent, data)
        if faults:
            return faults
        if not self.started and kind != "message_start":
            faults.append(f"{kind} before message_start")
        return faults + getattr(self, kind)(data)

    def message_start(self, data):
        message = data["message"]
        faults = ["a second message_start"] if self.started else []
        self.started = True
        if message["content"]:
            faults.append("message_start has content")
        if message.get("stop_reason") is not None:
            faults.append("message_start has a stop_reason")
        for name in ("stop_reason", "stop_sequence"):
            if name not in message:
                faults.append(f"message_start has no {name}, not even null")
        return faults

    def content_block_start(self, data):
        faults = []
        block = data["content_block"]
        if self.open:
            faults.append("a block begins within another")
        if self.reason:
            faults.append("a block after message_delta")
        if data["index"] != len(self.kinds):
            faults.append(f"block {data['index']} after {len(self.kinds)} blocks")
        field, empty = EMPTY.get(block["type"], (None, None))
        if field and block[field] != empty:
            faults.append(f"a block begins with {field} {block[field]!r:.60}")
        self.open = Block(block)
        self.kinds.append(block["type"])
        return faults

    def content_block_delta(self, data):
        if not self.open or data["index"] != len(self.kinds) - 1:
            return [f"a delta for block {data['index']}, which is not open"]
        return self.open.delta(data["delta"])

    def content_block_stop(self, data):
        if not self.open or data["index"] != len(self.kinds) - 1:
            return [f"the end of block {data['index']}, which is not open"]
        block, self.open = self.open, None
        return block.stop()

    def message_delta(self, data):
        faults = ["a second message_delta"] if self.reason else []
        if self.open:
            faults.append("message_delta while a block is open")
        self.reason = data["delta"].get("stop_reason")
        if not self.reason:
            faults.append("message_delta without stop_reason")
        if "stop_sequence" not in data["delta"]:
            faults.append("message_delta has no stop_sequence, not even null")
        return faults + stop_faults(self.reason, self.kinds)

    def message_stop(self, data):
        self.over = "message_stop"
        return [] if self.reason else ["message_stop before message_delta"]

    def end(self):
        return [] if self.over else ["no message_stop"]
