"""The order of a response's events (OpenAI, "Responses streaming events").

`sequence_number` counts from 0. `response.created` and `response.in_progress` come first; then the
items, each added, filled and done; then one of completed, incomplete and failed, with the whole
response. An error is last, or `response.failed` alone comes after it. What the deltas of a text add up to is its `done` text, its part, its item, and the item
in the whole.
"""

import json

from openai.types.responses import ResponseStreamEvent

from . import schema

TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
# The texts that come in deltas: the event's stem, what holds the text in the done event, and
# which of an item's lists its part is in.
TEXTS = {
    "response.output_text": ("text", "content", "content_index"),
    "response.refusal": ("refusal", "content", "content_index"),
    "response.reasoning_text": ("text", "content", "content_index"),
    "response.reasoning_summary_text": ("text", "summary", "summary_index"),
    "response.function_call_arguments": ("arguments", None, None),
}
PARTS = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}


def usage_faults(usage):
    if usage is None:
        return ["no usage"]
    faults = []
    if usage["input_tokens"] + usage["output_tokens"] != usage["total_tokens"]:
        faults.append(f"total_tokens is no sum: {usage}")
    if usage["input_tokens_details"]["cached_tokens"] > usage["input_tokens"]:
        faults.append("more tokens cached than there are")
    if usage["output_tokens_details"]["reasoning_tokens"] > usage["output_tokens"]:
        faults.append("more tokens thought than there are")
    return faults


def whole_faults(response):
    """A response that is complete, streamed or not."""
    faults = []
    if response.get("status") == "incomplete" and not response.get("incomplete_details"):
        faults.append("incomplete without incomplete_details")
    if (response.get("status") == "failed") != (response.get("error") is not None):
        faults.append(f"status {response.get('status')} with error {response.get('error')}")
    if response.get("status") == "completed":
        faults += usage_faults(response.get("usage"))
    ids = [item["id"] for item in response["output"] if item.get("id")]
    if len(ids) != len(set(ids)):
        faults.append(f"two items with one id: {ids}")
    for item in response["output"]:
        if item.get("status") == "in_progress":
            faults.append(f"an item is in progress at the end: {item.get('id')}")
        if item["type"] == "function_call" and item.get("status") != "incomplete":
            faults += arguments_faults(item)
    return faults


def arguments_faults(item):
    try:
        if isinstance(json.loads(item["arguments"]), dict):
            return []
    except ValueError:
        pass
    return [f"the arguments of {item['name']} are no JSON object: {item['arguments']!r:.80}"]


class Item:
    """An output item while it is filled."""

    def __init__(self, item):
        self.id = item.get("id")
        self.kind = item["type"]
        # By list and index; the arguments of a call are its one text, by (None, None).
        self.texts = {}
        self.done_texts = {}
        self.parts = {}
        self.done = None

    def added(self, item):
        filled = {name: item.get(name) for name in ("content", "summary", "arguments") if item.get(name)}
        return [f"an item is added with {filled}"] if filled else []

    def part(self, place, part, is_done):
        if not is_done:
            if place in self.parts:
                return [f"part {place} is added twice"]
            if place[1] != sum(1 for known in self.parts if known[0] == place[0]):
                return [f"part {place} is added out of order"]
            self.parts[place] = None
            text = part.get("text") or part.get("refusal")
            return [f"a part is added with {text!r:.40}"] if text else []
        if self.parts.get(place, part) is not None:
            return [f"part {place} is done, but not open"]
        self.parts[place] = part
        text = part.get("text", part.get("refusal"))
        if text != self.texts.get(place, ""):
            return [f"part {place} is not what its deltas add up to: {text!r:.80}"]
        if text and place not in self.done_texts:
            return [f"part {place} is done before its text"]
        return []

    def text(self, place, value, is_done):
        if place[0] and self.parts.get(place, value) is not None:
            return [f"a text for part {place}, which is not open"]
        if place in self.done_texts:
            return [f"a text for {place}, which is done"]
        if not is_done:
            self.texts[place] = self.texts.get(place, "") + value
            return []
        self.done_texts[place] = value
        if value != self.texts.get(place, ""):
            return [f"{place} is done as {value!r:.80}, not {self.texts.get(place, '')!r:.80}"]
        return []

    def finish(self, item):
        self.done = item
        faults = []
        if item.get("id") != self.id or item["type"] != self.kind:
            faults.append("an item is done as another than it was added")
        if item.get("status") == "in_progress":
            faults.append("an item is done and in progress")
        for place, part in self.parts.items():
            if part is None:
                faults.append(f"part {place} is not done")
        for name in ("content", "summary"):
            own = [part for place, part in self.parts.items() if place[0] == name]
            if own != (item.get(name) or []):
                faults.append(f"{name} of the item is not its parts: {item.get(name)!r:.80}")
        if self.kind == "function_call":
            if item["arguments"] != self.done_texts.get((None, None)):
                faults.append(f"arguments are not what was done: {item['arguments']!r:.80}")
        return faults


class Order:
    def __init__(self, request):
        self.number = 0
        self.seen = []
        self.id = None
        self.items = []
        self.over = None

    def event(self, event):
        failed = self.over == "error" and event.name == "response.failed"
        if self.over and not failed:
            return [f"an event after {self.over}: {event.data[:80]}"]
        try:
            data = json.loads(event.data)
        except ValueError as error:
            return [f"not JSON: {error}"]
        kind = data.get("type") if isinstance(data, dict) else None
        faults = [] if kind == event.name else [f"event {event.name!r} of type {kind!r}"]
        faults += schema.check_variant(ResponseStreamEvent, data)
        if faults:
            return faults
        if data["sequence_number"] != self.number:
            faults.append(f"sequence_number {data['sequence_number']}, not {self.number}")
        self.number = data["sequence_number"] + 1
        faults += self.opening(kind)
        if "response" in data:
            faults += self.response(kind, data["response"])
        elif kind == "error":
            self.over = kind
        elif kind == "response.output_item.added":
            faults += self.item_added(data)
        else:
            faults += self.of_item(kind, data)
        return faults

    def opening(self, kind):
        """The first two events; an error may come instead of the second, or after it."""
        self.seen.append(kind)
        first = ["response.created", "response.in_progress"]
        if kind in first and kind in self.seen[:-1]:
            return [f"a second {kind}"]
        number = len(self.seen) - 1
        if number < 2 and kind != first[number] and kind not in ("error", "response.failed"):
            return [f"{kind} where {first[number]} is expected"]
        return []

    def response(self, kind, response):
        faults = []
        self.id = self.id or response["id"]
        if response["id"] != self.id:
            faults.append(f"another id: {response['id']}")
        status = TERMINAL.get(kind, "in_progress")
        if response.get("status") != status:
            faults.append(f"{kind} with status {response.get('status')}")
        if kind not in TERMINAL:
            return faults + (["output at the beginning"] if response["output"] else [])
        self.over = kind
        if kind == "response.failed":
            return faults + whole_faults(response)
        items = [item.done for item in self.items]
        if None in items:
            faults.append("an item is not done at the end")
        elif response["output"] != items:
            faults.append("output is not the items that were done")
        return faults + whole_faults(response)

    def item_added(self, data):
        faults = []
        if data["output_index"] != len(self.items):
            faults.append(f"item {data['output_index']} after {len(self.items)} items")
        self.items.append(Item(data["item"]))
        return faults + self.items[-1].added(data["item"])

    def of_item(self, kind, data):
        index = data.get("output_index")
        if index is None or index >= len(self.items) or self.items[index].done:
            return [f"{kind} of item {index}, which is not open"]
        item = self.items[index]
        if kind == "response.output_item.done":
            return item.finish(data["item"])
        faults = [] if data.get("item_id") == item.id else [f"{kind} of {data.get('item_id')}"]
        stem, _, step = kind.rpartition(".")
        if stem in PARTS:
            name, key = PARTS[stem]
            return faults + item.part((name, data[key]), data["part"], step == "done")
        if stem in TEXTS:
            field, name, key = TEXTS[stem]
            place = (name, data[key] if key else None)
            value = data["delta"] if step == "delta" else data[field]
            return faults + item.text(place, value, step == "done")
        return faults

    def end(self):
        return [] if self.over else ["no end: completed, incomplete or failed"]
