"""Answers that are one JSON document, by method and path."""

import base64

from anthropic.types import Message, MessageTokensCount, ModelInfo
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from . import chat, messages, responses, schema


def check(method, path, request, anthropic):
    """What finds the faults of such an answer; None if there is no grammar for it."""
    if (method, path) == ("POST", "/v1/chat/completions"):
        return lambda value: chat_completion(value, request)
    exact = {
        ("POST", "/v1/messages"): message,
        ("POST", "/v1/messages/count_tokens"): lambda value: schema.check(MessageTokensCount, value),
        ("POST", "/v1/responses"): response,
        ("POST", "/v1/completions"): completion,
        ("POST", "/v1/embeddings"): embeddings,
        ("GET", "/v1/models"): anthropic_models if anthropic else openai_models,
    }
    if (method, path) in exact:
        return exact[(method, path)]
    if path.startswith("/v1/models/") and method == "GET":
        kind = ModelInfo if anthropic else Model
        return lambda value: schema.check(kind, value)
    if path.startswith("/v1/responses/"):
        return {"GET": response, "DELETE": deleted}.get(method)
    return None


def chat_completion(value, request):
    faults = schema.check(ChatCompletion, value)
    if faults:
        return faults
    if len(value["choices"]) != (request.get("n") or 1):
        faults.append(f"{len(value['choices'])} choices")
    for index, choice in enumerate(value["choices"]):
        if choice["index"] != index:
            faults.append(f"choice {choice['index']} at {index}")
        for name in ("content", "refusal"):
            if name not in choice["message"]:
                faults.append(f"message has no {name}, not even null")
        calls = choice["message"].get("tool_calls") or []
        calls = [call["function"] for call in calls if call["type"] == "function"]
        faults += chat.finish_faults(choice["finish_reason"], calls, request)
        if choice["finish_reason"] != "length":
            faults += [fault for call in calls for fault in chat.arguments_faults(call)]
    if value.get("usage"):
        faults += chat.usage_faults(value["usage"])
    else:
        faults.append("no usage")
    return faults


def completion(value):
    faults = schema.check(Completion, value)
    return faults or chat.usage_faults(value["usage"])


def message(value):
    faults = schema.check(Message, value)
    if faults:
        return faults
    if not value.get("stop_reason"):
        faults.append("no stop_reason")
    if "stop_sequence" not in value:
        faults.append("no stop_sequence, not even null")
    kinds = [block["type"] for block in value["content"]]
    for block in value["content"]:
        if block["type"] == "thinking" and not block["signature"]:
            faults.append("a thought without signature")
        if block["type"] == "tool_use" and not isinstance(block["input"], dict):
            faults.append(f"the input of {block['name']} is no object")
    return faults + messages.stop_faults(value["stop_reason"], kinds)


def response(value):
    faults = schema.check(Response, value)
    if faults:
        return faults
    if value.get("status") not in ("completed", "incomplete", "failed"):
        faults.append(f"status {value.get('status')}")
    return faults + responses.whole_faults(value)


def deleted(value):
    """What the reference shows; the SDKs throw it away."""
    wanted = {"object": "response", "deleted": True}
    if not isinstance(value.get("id"), str):
        return ["no id"]
    return [] if {**value, **wanted} == value else [f"not the reference's: {value}"]


def embeddings(value):
    # The SDK asks for base64 and decodes it itself; its type has the numbers only.
    for item in value.get("data", []):
        if isinstance(item.get("embedding"), str):
            size = len(base64.b64decode(item["embedding"], validate=True))
            if size == 0 or size % 4:
                return [f"{size} bytes are no vector of 32-bit numbers"]
            item["embedding"] = [0.0] * (size // 4)
    faults = schema.check(CreateEmbeddingResponse, value)
    indices = [item["index"] for item in value["data"]]
    if not faults and indices != list(range(len(indices))):
        faults.append(f"indices {indices}")
    return faults


def openai_models(value):
    if value.get("object") != "list":
        return ["object is not list"]
    return [fault for one in value["data"] for fault in schema.check(Model, one)]


def anthropic_models(value):
    missing = {"data", "has_more", "first_id", "last_id"} - set(value)
    if missing:
        return [f"{name} is missing" for name in sorted(missing)]
    return [fault for one in value["data"] for fault in schema.check(ModelInfo, one)]
