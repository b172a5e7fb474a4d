"""The anthropic SDK against victor."""

import json
from typing import List

import anthropic
import pydantic

from cells import (
    CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, PLAIN, REPORT_SCHEMA, RESULT, STREAMED, SYSTEM, Row,
    check, raises, run, same,
)

HELLO = [{"role": "user", "content": GREETING}]
ANTHROPIC_ONLY = ("sima",)


def tool(name):
    return {"name": name, "description": "About a city", "input_schema": CITY_SCHEMA}


WEATHER, TIME = tool("get_weather"), tool("get_time")


class Report(pydantic.BaseModel):
    city: str
    degrees: int
    tags: List[str]


def client(cell, **options):
    # An error is to be shown at once instead of asking again.
    options = {"api_key": cell.key, "max_retries": 0, **options}
    return anthropic.Anthropic(base_url=cell.url(), **options)


def gathered(events):
    """The message that a stream's raw events add up to, as a dict; by hand, to see what is sent."""
    message, json_text = None, ""
    for event in events:
        if event.type == "message_start":
            message = event.message.model_dump(exclude_none=True)
        elif event.type == "content_block_start":
            message["content"].append(event.content_block.model_dump(exclude_none=True))
            json_text = ""
        elif event.type == "content_block_delta":
            block, delta = message["content"][event.index], event.delta
            if delta.type == "input_json_delta":
                json_text += delta.partial_json
                continue
            field = delta.type.removesuffix("_delta")
            block[field] = (block.get(field) or "") + getattr(delta, field)
        elif event.type == "content_block_stop" and json_text:
            message["content"][event.index]["input"] = json.loads(json_text)
        elif event.type == "message_delta":
            message["stop_reason"] = event.delta.stop_reason
            message["stop_sequence"] = event.delta.stop_sequence
            message["usage"].update(event.usage.model_dump(exclude_none=True))
    return message


def ask(cell, model, messages=HELLO, **more):
    """A call in the cell's mode: the message, as a dict without what is null."""
    arguments = {"model": model, "max_tokens": 64, "messages": messages, **more}
    create = client(cell).messages.create
    if cell.streamed:
        return gathered(create(stream=True, **arguments))
    return create(**arguments).model_dump(exclude_none=True)


def of(message, kind):
    return [block for block in message["content"] if block["type"] == kind]


def message(cell):
    answer = ask(cell, cell.model())
    same([block["type"] for block in answer["content"]], ["text"], "types")
    check(answer["content"][0]["text"].startswith("sim answer "), answer)
    same((answer["type"], answer["role"], answer["stop_reason"]), ("message", "assistant", "end_turn"))
    check(answer["usage"]["input_tokens"] > 0, answer)
    same(answer["usage"]["output_tokens"], 16, "output_tokens")
    cell.arrived(GREETING)


def many_events(cell):
    events = client(cell).messages.create(
        model=cell.model("pace-2x16"), max_tokens=64, messages=HELLO, stream=True
    )
    kinds = [event.type for event in events]
    same((kinds[0], kinds[-1]), ("message_start", "message_stop"))
    same(kinds.count("content_block_delta"), 16, "the number of deltas")


def helper(cell):
    with client(cell).messages.stream(
        model=cell.model("pace-2x8"), max_tokens=64, messages=HELLO
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    same(final.content[0].text, text, "text")
    same(final.usage.output_tokens, 8, "output_tokens")


def system(cell, value):
    answer = ask(cell, cell.model(), system=value)
    same(answer["stop_reason"], "end_turn", "stop_reason")
    cell.arrived(SYSTEM, GREETING)


def conversation(cell):
    """Several turns, contents as text and as blocks, one marked for the cache."""
    marked = {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "one"}, marked]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
    ]
    answer = ask(cell, cell.model(), messages)
    same(answer["stop_reason"], "end_turn", "stop_reason")
    cell.arrived("one", "two", "three", "four")


def tools(cell):
    first = ask(cell, cell.model("tools"), tools=[WEATHER, TIME])
    same(first["stop_reason"], "tool_use", "stop_reason")
    (use,) = of(first, "tool_use")
    same((use["name"], use["input"]), ("get_weather", {"city": "sim"}))
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": RESULT}
    turns = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    second = ask(cell, cell.model("tools"), HELLO + turns, tools=[WEATHER, TIME])
    same(second["stop_reason"], "end_turn", "stop_reason")
    check(of(second, "text"), second)
    cell.arrived(RESULT, use["id"])


def tool_helper(cell):
    with client(cell).messages.stream(
        model=cell.model("tools"), max_tokens=64, messages=HELLO, tools=[WEATHER]
    ) as stream:
        final = stream.get_final_message()
    (use,) = [block for block in final.content if block.type == "tool_use"]
    same((use.input, final.stop_reason), ({"city": "sim"}, "tool_use"))


def parallel(cell):
    first = ask(cell, cell.model("tools-2"), tools=[WEATHER, TIME])
    uses = of(first, "tool_use")
    same([use["name"] for use in uses], ["get_weather", "get_time"], "names")
    same([use["input"] for use in uses], [{"city": "sim"}] * 2, "inputs")
    same(len({use["id"] for use in uses}), 2, "the number of ids")
    # One result as text that is marked as an error, one as blocks, and a word besides.
    results = [
        {"type": "tool_result", "tool_use_id": uses[0]["id"], "content": "no such city", "is_error": True},
        {"type": "tool_result", "tool_use_id": uses[1]["id"], "content": [{"type": "text", "text": RESULT}]},
        {"type": "text", "text": "Go on."},
    ]
    turns = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": results}]
    ask(cell, cell.model(), HELLO + turns, tools=[WEATHER, TIME])
    cell.arrived(RESULT, "no such city", "Go on.", *(use["id"] for use in uses))


def tool_choice(cell):
    both = {"tools": [WEATHER, TIME]}
    answer = ask(cell, cell.model(), tool_choice={"type": "tool", "name": "get_time"}, **both)
    same([use["name"] for use in of(answer, "tool_use")], ["get_time"], "names")
    answer = ask(cell, cell.model(), tool_choice={"type": "any"}, **both)
    same(answer["stop_reason"], "tool_use", "stop_reason")
    answer = ask(cell, cell.model("tools"), tool_choice={"type": "none"}, **both)
    same(answer["stop_reason"], "end_turn", "stop_reason")
    single = {"type": "auto", "disable_parallel_tool_use": True}
    answer = ask(cell, cell.model("tools-2"), tool_choice=single, **both)
    same(len(of(answer, "tool_use")), 1, "the number of calls")


def image(cell, source, needle):
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    answer = ask(cell, cell.model(), [{"role": "user", "content": content}])
    same(answer["stop_reason"], "end_turn", "stop_reason")
    cell.arrived(needle, "What is this?")


def json_schema(cell):
    wanted = {"format": {"type": "json_schema", "schema": REPORT_SCHEMA}}
    answer = ask(cell, cell.model(), output_config=wanted)
    same(answer["stop_reason"], "end_turn", "stop_reason")
    Report.model_validate_json("".join(block["text"] for block in of(answer, "text")))


def parsed(cell):
    messages = client(cell).messages
    arguments = {"model": cell.model(), "max_tokens": 64, "messages": HELLO, "output_format": Report}
    if cell.streamed:
        with messages.stream(**arguments) as stream:
            answer = stream.get_final_message()
    else:
        answer = messages.parse(**arguments)
    check(isinstance(answer.parsed_output, Report), answer)


def limit(cell):
    answer = ask(cell, cell.model(), max_tokens=4)
    same((answer["stop_reason"], answer["usage"]["output_tokens"]), ("max_tokens", 4))


def stop(cell):
    """OpenAI does not tell that it was a stop sequence that ended an answer, or which."""
    answer = ask(cell, cell.model(), stop_sequences=["answer"])
    same("".join(block["text"] for block in of(answer, "text")).strip(), "sim", "text")
    if cell.provider == "sima":
        same((answer["stop_reason"], answer["stop_sequence"]), ("stop_sequence", "answer"))


def sampling(cell):
    # Still a field of the API, no longer one of the SDK.
    warm = {"extra_body": {"temperature": 0.5}}
    answer = ask(cell, cell.model(), metadata={"user_id": "someone"}, **warm)
    same(answer["stop_reason"], "end_turn", "stop_reason")
    cell.arrived("someone")


def thinking(cell):
    wanted = {"max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    answer = ask(cell, cell.model("thinking"), **wanted)
    same([block["type"] for block in answer["content"]], ["thinking", "text"], "types")
    check(answer["content"][0]["thinking"].startswith("sim thought "), answer)
    turns = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": "And now?"}]
    ask(cell, cell.model("thinking"), HELLO + turns, **wanted)
    cell.arrived("And now?")


def cached(cell):
    bare = ask(cell, cell.model())["usage"]
    usage = ask(cell, cell.model("cached-100"))["usage"]
    same(usage["cache_read_input_tokens"], 100, "cache_read_input_tokens")
    same(usage["input_tokens"], bare["input_tokens"], "input_tokens")


def refusal(cell):
    answer = ask(cell, cell.model("refusal"))
    same(answer["stop_reason"], "refusal", "stop_reason")


def counted(cell):
    raw = client(cell).messages.with_raw_response.count_tokens(
        model=cell.model(), messages=HELLO, system=SYSTEM, tools=[WEATHER]
    )
    count = raw.parse().input_tokens
    check(20 < count < 400, count)
    estimated = None if cell.provider == "sima" else "input_tokens"
    same(raw.headers.get("x-victor-estimated"), estimated, "x-victor-estimated")


def error(cell, behaviour, kind, statuses, type=None):
    """The SDK's own exception, with status, type, message and request id."""
    model = "nobody/nothing" if behaviour is None else cell.model(behaviour)
    found = raises(kind, lambda: ask(cell, model))
    check(found.status_code in statuses, f"status {found.status_code}: {found}")
    same(found.body["error"]["type"], type, "type")
    check(found.body["error"]["message"] and found.request_id, found)


def wrong_key(cell):
    stranger = client(cell, api_key="wrong")
    found = raises(
        anthropic.AuthenticationError,
        lambda: stranger.messages.create(
            model=cell.model(), max_tokens=64, messages=HELLO, stream=cell.streamed
        ),
    )
    same(found.body["error"]["type"], "authentication_error", "type")


def broken(cell):
    stream = client(cell).messages.create(
        model=cell.model("pace-1x20", "cut-5"), max_tokens=64, messages=HELLO, stream=True
    )
    found = raises(anthropic.APIError, lambda: list(stream))
    check(found.message, found)


def headers(cell):
    raw = client(cell).messages.with_raw_response.create(
        model=cell.model(), max_tokens=64, messages=HELLO
    )
    same(raw.headers["x-victor-provider"], cell.provider)
    check(raw.parse()._request_id)


def models(cell):
    ids = [model.id for model in client(cell).models.list()]
    check("sim" in ids, ids)
    same(client(cell).models.retrieve("sim").id, "sim", "id")
    raises(anthropic.NotFoundError, lambda: client(cell).models.retrieve("nothing-like-it"))


def fault(behaviour, kind, type, *statuses):
    return {"behaviour": behaviour, "kind": kind, "type": type, "statuses": statuses}


BASE64 = {"type": "base64", "media_type": "image/png", "data": PIXEL}
URL = {"type": "url", "url": PICTURE_URL}
BLOCKS = [{"type": "text", "text": SYSTEM}, {"type": "text", "text": "Always."}]

TABLE = [
    Row("message", message),
    Row("many-events", many_events, STREAMED),
    Row("helper", helper, STREAMED),
    Row("system", system, options={"value": SYSTEM}),
    Row("system-blocks", system, options={"value": BLOCKS}),
    Row("conversation", conversation, drops={"simo": ["cache_control"]}),
    Row("tools", tools),
    Row("tool-helper", tool_helper, STREAMED),
    Row("parallel-tools", parallel, drops={"simo": ["is_error"]}),
    Row("tool-choice", tool_choice),
    Row("image-base64", image, options={"source": BASE64, "needle": PIXEL}),
    Row("image-url", image, options={"source": URL, "needle": PICTURE_URL}),
    Row("json-schema", json_schema),
    Row("parse", parsed),
    Row("limit", limit),
    Row("stop", stop),
    Row("sampling", sampling),
    # What was thought has no place in the chat completions' requests.
    Row("thinking", thinking, drops={"simo": ["messages[].thinking"]}),
    Row("cached", cached),
    Row("refusal", refusal),
    Row("count-tokens", counted, PLAIN),
    Row("error-400", error, options=fault("context-length", anthropic.BadRequestError, "invalid_request_error", 400)),
    Row("error-401", wrong_key),
    Row("error-404", error, options=fault(None, anthropic.NotFoundError, "not_found_error", 404)),
    Row("error-429", error, options=fault("status-429", anthropic.RateLimitError, "rate_limit_error", 429)),
    Row("error-500", error, options=fault("status-500", anthropic.InternalServerError, "api_error", 500)),
    Row("error-529", error, options=fault("status-529", anthropic.InternalServerError, "overloaded_error", 529, 503)),
    Row("broken-stream", broken, STREAMED),
    Row("headers", headers, PLAIN),
    Row("models", models, PLAIN, ANTHROPIC_ONLY),
]

if __name__ == "__main__":
    run({"anthropic-python": TABLE})
