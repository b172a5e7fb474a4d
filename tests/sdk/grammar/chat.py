"""The order of a chat completion's chunks (OpenAI, "Chat streaming events").

All chunks share id, model and created. A choice begins with its role and ends with its one finish
reason. A tool call begins with id, type and name, and goes on with fragments of its arguments, also
between those of others. The usage comes alone, last, and only if it was asked for; then `[DONE]`.
"""

import json

from openai.types import Completion
from openai.types.chat import ChatCompletionChunk

from . import errors, schema


def finish_faults(reason, calls, request):
    """Whether the reason fits the calls that there are."""
    forced = isinstance(request.get("tool_choice"), dict)
    if calls and reason == "stop" and not forced:
        return ["finish_reason is stop, though tools are called"]
    if not calls and reason == "tool_calls":
        return ["finish_reason is tool_calls, and there is none"]
    return []


def usage_faults(usage):
    faults = []
    if usage["prompt_tokens"] + usage["completion_tokens"] != usage["total_tokens"]:
        faults.append(f"total_tokens is no sum: {usage}")
    details = usage.get("prompt_tokens_details") or {}
    if (details.get("cached_tokens") or 0) > usage["prompt_tokens"]:
        faults.append("more tokens cached than there are")
    details = usage.get("completion_tokens_details") or {}
    if (details.get("reasoning_tokens") or 0) > usage["completion_tokens"]:
        faults.append("more tokens thought than there are")
    return faults


def arguments_faults(call):
    try:
        if isinstance(json.loads(call["arguments"]), dict):
            return []
    except ValueError:
        pass
    return [f"the arguments of {call['name']} are no JSON object: {call['arguments']!r:.80}"]


class Choice:
    """One of a completion's answers."""

    def __init__(self, request):
        self.request = request
        self.role = None
        self.calls = []
        self.finish = None

    def delta(self, delta):
        faults = []
        if self.role is None and "role" not in delta:
            faults.append("the first delta has no role")
        if self.role is not None and delta.get("role"):
            faults.append("a second role")
        self.role = self.role or delta.get("role")
        if self.finish and any(value not in (None, "", []) for value in delta.values()):
            faults.append(f"a delta after finish_reason: {delta}")
        for call in delta.get("tool_calls") or []:
            faults += self._call(call)
        return faults

    def _call(self, call):
        function = call.get("function") or {}
        if call["index"] == len(self.calls):
            self.calls.append({"name": function.get("name"), "arguments": function.get("arguments") or ""})
            needed = {"id": call.get("id"), "type": call.get("type"), "name": function.get("name")}
            faults = [f"a call begins without {name}" for name, value in needed.items() if not value]
            if not isinstance(function.get("arguments"), str):
                faults.append("a call begins without arguments")
            return faults
        if call["index"] > len(self.calls):
            return [f"call {call['index']} after {len(self.calls)} calls"]
        self.calls[call["index"]]["arguments"] += function.get("arguments") or ""
        again = {"id": call.get("id"), "name": function.get("name")}
        return [f"call {call['index']} is given a second {name}" for name in again if again[name]]

    def end(self):
        if self.finish is None:
            return ["no finish_reason"]
        faults = finish_faults(self.finish, self.calls, self.request)
        if self.finish != "length":
            faults += [fault for call in self.calls for fault in arguments_faults(call)]
        return faults


class Order:
    kind = ChatCompletionChunk

    def __init__(self, request):
        self.request = request
        self.same = None
        self.choices = {}
        self.usage = None
        self.done = False
        self.failed = False

    @property
    def usage_wanted(self):
        return (self.request.get("stream_options") or {}).get("include_usage") is True

    def event(self, event):
        if self.done or self.failed:
            return [f"an event after the last: {event.data[:80]}"]
        faults = [] if event.name is None else [f"an event's name: {event.name}"]
        if event.data == "[DONE]":
            self.done = True
            return faults
        try:
            chunk = json.loads(event.data)
        except ValueError as error:
            return faults + [f"not JSON: {error}"]
        if "error" in chunk:
            self.failed = True
            return faults + errors.openai(chunk)
        return faults + (self.fields(chunk) or self.chunk(chunk))

    def fields(self, chunk):
        return schema.check(self.kind, chunk)

    def chunk(self, chunk):
        faults = []
        same = {name: chunk[name] for name in ("id", "model", "created", "object")}
        self.same = self.same or same
        if same != self.same:
            faults.append(f"another {same} than {self.same}")
        if self.usage:
            faults.append("a chunk after the usage")
        if chunk.get("usage"):
            self.usage = chunk["usage"]
            faults += usage_faults(self.usage)
            if not self.usage_wanted:
                faults.append("a usage that nobody asked for")
            if chunk["choices"]:
                faults.append("the usage is not alone")
        elif not chunk["choices"]:
            faults.append("a chunk without choices and without usage")
        for choice in chunk["choices"]:
            faults += [f"choice {choice['index']}: {fault}" for fault in self.choice(choice)]
        return faults

    def choice(self, choice):
        if choice["index"] >= (self.request.get("n") or 1):
            return ["it was not asked for"]
        state = self.choices.setdefault(choice["index"], Choice(self.request))
        faults = state.delta(choice["delta"])
        if choice.get("finish_reason"):
            if state.finish:
                faults.append("a second finish_reason")
            state.finish = choice["finish_reason"]
        return faults

    def end(self):
        if self.failed:
            return []
        faults = [] if self.done else ["no [DONE]"]
        if len(self.choices) != (self.request.get("n") or 1):
            faults.append(f"{len(self.choices)} choices")
        for index, choice in self.choices.items():
            faults += [f"choice {index}: {fault}" for fault in choice.end()]
        if self.usage_wanted and not self.usage:
            faults.append("the usage was asked for and is not there")
        return faults


class LegacyOrder(Order):
    """Legacy completions: texts instead of deltas."""

    kind = Completion

    def fields(self, chunk):
        # The vendor streams null until the end; its type knows plain answers only.
        choices = [
            {**choice, "finish_reason": choice["finish_reason"] or "stop"}
            for choice in chunk["choices"]
        ]
        return schema.check(self.kind, {**chunk, "choices": choices})

    def choice(self, choice):
        state = self.choices.setdefault(choice["index"], Choice(self.request))
        if state.finish:
            return ["a text after finish_reason"]
        state.finish = choice.get("finish_reason")
        return []
