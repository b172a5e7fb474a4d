"""The openai SDK's responses against victor.

Besides the two providers that victor translates for there is `simr`, which serves responses itself:
what is asked of it passes through.
"""

import json
from typing import List

import openai
import pydantic

from cells import (
    CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, PLAIN, REPORT_SCHEMA, RESULT, STREAMED, SYSTEM, Row,
    check, raises, run, same,
)

ALL = ("simo", "sima", "simr")


def tool(name):
    described = {"name": name, "description": "About a city", "parameters": CITY_SCHEMA}
    return {"type": "function", "strict": True, **described}


WEATHER, TIME = tool("get_weather"), tool("get_time")


class Report(pydantic.BaseModel):
    city: str
    degrees: int
    tags: List[str]


def client(cell, **options):
    # An error is to be shown at once instead of asking again.
    options = {"api_key": cell.key, "max_retries": 0, **options}
    return openai.OpenAI(base_url=cell.url("/v1"), **options)


def ask(cell, model, input=GREETING, **more):
    """A call in the cell's mode: the whole response."""
    create = client(cell).responses.create
    if not cell.streamed:
        return create(model=model, input=input, **more)
    text, final = "", None
    for event in create(model=model, input=input, stream=True, **more):
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type in ("response.completed", "response.incomplete"):
            final = event.response
    check(final is not None, "no end")
    same(final.output_text, text, "output_text")
    return final


def of(response, kind):
    return [item for item in response.output if item.type == kind]


def param(response):
    """Its items, as they are sent back where nothing is stored."""
    return [item.model_dump(exclude_none=True, by_alias=True) for item in response.output]


def text(cell):
    response = ask(cell, cell.model())
    same([item.type for item in response.output], ["message"], "types")
    check(response.output_text.startswith("sim answer "), response)
    same(response.status, "completed", "status")
    check(response.usage.input_tokens > 0 and response.usage.output_tokens == 16, response.usage)
    cell.arrived(GREETING)


def helper(cell):
    with client(cell).responses.stream(model=cell.model("pace-2x8"), input=GREETING) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    same(kinds.count("response.output_text.delta"), 8, "the number of deltas")
    check(final.output_text, final)


def instructions(cell):
    response = ask(cell, cell.model(), instructions=SYSTEM)
    same(response.instructions, SYSTEM, "instructions")
    cell.arrived(SYSTEM, GREETING)


def conversation(cell):
    """Items and easy messages of every role."""
    items = [
        {"role": "developer", "content": SYSTEM},
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"role": "assistant", "content": "two"},
        {"type": "message", "role": "user", "content": "three"},
    ]
    response = ask(cell, cell.model(), items)
    same(response.status, "completed", "status")
    cell.arrived(SYSTEM, "one", "two", "three")


def output_of(call, text):
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


def tools(cell):
    """Nothing is stored: the whole conversation is sent again."""
    first = ask(cell, cell.model("tools"), tools=[WEATHER, TIME], store=False)
    (call,) = of(first, "function_call")
    same((call.name, json.loads(call.arguments)), ("get_weather", {"city": "sim"}))
    items = [{"role": "user", "content": GREETING}, *param(first), output_of(call, RESULT)]
    second = ask(cell, cell.model("tools"), items, tools=[WEATHER, TIME], store=False)
    check(second.output_text, second)
    cell.arrived(RESULT, call.call_id)


def parallel(cell):
    first = ask(cell, cell.model("tools-2"), tools=[WEATHER, TIME], store=False)
    calls = of(first, "function_call")
    same([call.name for call in calls], ["get_weather", "get_time"], "names")
    same([json.loads(call.arguments) for call in calls], [{"city": "sim"}] * 2, "arguments")
    same(len({call.call_id for call in calls}), 2, "the number of ids")
    results = [output_of(call, f"{RESULT} {number}") for number, call in enumerate(calls)]
    items = [{"role": "user", "content": GREETING}, *param(first), *results]
    ask(cell, cell.model("tools-2"), items, tools=[WEATHER, TIME], store=False)
    cell.arrived(f"{RESULT} 0", f"{RESULT} 1", *(call.call_id for call in calls))


def stored_tools(cell):
    """What is stored is gone on with: only the result is sent."""
    first = ask(cell, cell.model("tools"), tools=[WEATHER], instructions=SYSTEM)
    (call,) = of(first, "function_call")
    second = ask(
        cell, cell.model("tools"), [output_of(call, RESULT)], tools=[WEATHER], previous_response_id=first.id
    )
    same(second.previous_response_id, first.id, "previous_response_id")
    check(second.output_text, second)
    cell.arrived(GREETING, RESULT, call.call_id)
    sent = cell.sent()
    check(sent is None or SYSTEM not in sent, "instructions hold for one call only")


def previous(cell):
    first = ask(cell, cell.model(), "The first question")
    second = ask(cell, cell.model(), "The second question", previous_response_id=first.id)
    third = ask(cell, cell.model(), "The third question", previous_response_id=second.id)
    check(third.usage.input_tokens > second.usage.input_tokens > first.usage.input_tokens)
    cell.arrived(
        "The first question", first.output_text, "The second question", second.output_text,
        "The third question",
    )
    missing = {"previous_response_id": "resp_0123456789abcdef"}
    found = raises(openai.BadRequestError, lambda: ask(cell, cell.model(), **missing))
    same(found.code, "previous_response_not_found", "code")


def stored(cell):
    responses = client(cell).responses
    made = ask(cell, cell.model())
    kept = responses.retrieve(made.id)
    same((kept.id, kept.output_text, kept.status), (made.id, made.output_text, "completed"))
    responses.delete(made.id)
    raises(openai.NotFoundError, lambda: responses.retrieve(made.id))
    raises(openai.NotFoundError, lambda: responses.delete(made.id))


def not_stored(cell):
    made = ask(cell, cell.model(), store=False)
    raises(openai.NotFoundError, lambda: client(cell).responses.retrieve(made.id))


def tool_choice(cell):
    both = {"tools": [WEATHER, TIME]}
    named = {"type": "function", "name": "get_time"}
    response = ask(cell, cell.model(), tool_choice=named, **both)
    same([call.name for call in of(response, "function_call")], ["get_time"], "names")
    response = ask(cell, cell.model(), tool_choice="required", **both)
    same(len(of(response, "function_call")), 1, "the number of calls")
    response = ask(cell, cell.model("tools"), tool_choice="none", **both)
    same(of(response, "function_call"), [], "calls")
    response = ask(cell, cell.model("tools-2"), parallel_tool_calls=False, **both)
    same(len(of(response, "function_call")), 1, "the number of calls")


def image(cell, url, needle):
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
    ]
    response = ask(cell, cell.model(), [{"role": "user", "content": content}])
    same(response.status, "completed", "status")
    cell.arrived(needle, "What is this?")


def json_schema(cell):
    wanted = {"type": "json_schema", "name": "report", "strict": True, "schema": REPORT_SCHEMA}
    response = ask(cell, cell.model(), text={"format": wanted})
    same([item.type for item in response.output], ["message"], "types")
    Report.model_validate_json(response.output_text)


def parsed(cell):
    responses = client(cell).responses
    arguments = {"model": cell.model(), "input": GREETING, "text_format": Report}
    if cell.streamed:
        with responses.stream(**arguments) as stream:
            for _ in stream:
                pass
            response = stream.get_final_response()
    else:
        response = responses.parse(**arguments)
    check(isinstance(response.output_parsed, Report), response)


def limit(cell):
    # The vendor takes no fewer than 16.
    response = ask(cell, cell.model("pace-0x40"), max_output_tokens=16)
    same(response.status, "incomplete", "status")
    same(response.incomplete_details.reason, "max_output_tokens", "reason")
    same(response.usage.output_tokens, 16, "output_tokens")


def sampling(cell):
    response = ask(cell, cell.model(), temperature=0.5, metadata={"purpose": "test"})
    same((response.temperature, response.metadata), (0.5, {"purpose": "test"}))


def reasoning(cell):
    wanted = {"reasoning": {"effort": "low", "summary": "auto"}, "store": False}
    first = ask(cell, cell.model("thinking"), **wanted)
    same([item.type for item in first.output], ["reasoning", "message"], "types")
    same(first.usage.output_tokens_details.reasoning_tokens, 8, "reasoning_tokens")
    items = [{"role": "user", "content": GREETING}, *param(first), {"role": "user", "content": "And now?"}]
    ask(cell, cell.model("thinking"), items, **wanted)
    cell.arrived("And now?")


def cached(cell):
    bare = ask(cell, cell.model()).usage
    usage = ask(cell, cell.model("cached-100")).usage
    same(usage.input_tokens_details.cached_tokens, 100, "cached_tokens")
    same(usage.input_tokens, bare.input_tokens + 100, "input_tokens")


def refusal(cell):
    response = ask(cell, cell.model("refusal"))
    parts = [part.type for item in of(response, "message") for part in item.content]
    filtered = response.incomplete_details and response.incomplete_details.reason == "content_filter"
    check(filtered or parts == ["refusal"], response)


def error(cell, behaviour, kind, statuses, code=None):
    model = "nobody/nothing" if behaviour is None else cell.model(behaviour)
    found = raises(kind, lambda: ask(cell, model))
    check(found.status_code in statuses, f"status {found.status_code}: {found}")
    check(found.message and found.request_id, found)
    if code and cell.provider != "sima":
        same(found.code, code, "code")


def wrong_key(cell):
    create = client(cell, api_key="wrong").responses.create
    found = raises(
        openai.AuthenticationError,
        lambda: create(model=cell.model(), input=GREETING, stream=cell.streamed),
    )
    same(found.status_code, 401, "status")


def broken(cell):
    """The SDK hands on the error event, or raises it; it must not look complete."""
    stream = client(cell).responses.create(
        model=cell.model("pace-1x20", "cut-5"), input=GREETING, stream=True
    )
    try:
        kinds = [event.type for event in stream]
    except openai.APIError:
        return
    check(kinds[-1] in ("error", "response.failed"), kinds)


def headers(cell):
    raw = client(cell).responses.with_raw_response.create(model=cell.model(), input=GREETING)
    same(raw.headers["x-victor-provider"], cell.provider)
    check(raw.parse()._request_id)


def fault(behaviour, kind, *statuses, code=None):
    return {"behaviour": behaviour, "kind": kind, "statuses": statuses, "code": code}


TABLE = [
    Row("text", text, providers=ALL),
    Row("helper", helper, STREAMED, ALL),
    Row("instructions", instructions, providers=ALL),
    Row("conversation", conversation, providers=ALL),
    Row("tools", tools, providers=ALL),
    Row("parallel-tools", parallel, providers=ALL),
    Row("stored-tools", stored_tools),
    Row("previous", previous),
    Row("stored", stored),
    Row("not-stored", not_stored),
    Row("tool-choice", tool_choice, providers=ALL),
    Row("image-base64", image, providers=ALL, options={"url": "data:image/png;base64," + PIXEL, "needle": PIXEL}),
    Row("image-url", image, providers=ALL, options={"url": PICTURE_URL, "needle": PICTURE_URL}),
    Row("json-schema", json_schema, providers=ALL + ("simn",)),
    Row("parse", parsed, providers=ALL + ("simn",)),
    Row("limit", limit, providers=ALL),
    Row("sampling", sampling, providers=ALL),
    # What was thought has no place in the chat completions' requests.
    Row("reasoning", reasoning, providers=ALL, drops={"simo": ["messages[].thinking"]}),
    Row("cached", cached, providers=ALL),
    Row("refusal", refusal, providers=ALL),
    Row("error-400", error, providers=ALL, options=fault("context-length", openai.BadRequestError, 400, code="context_length_exceeded")),
    Row("error-401", wrong_key),
    Row("error-404", error, options=fault(None, openai.NotFoundError, 404)),
    Row("error-429", error, providers=ALL, options=fault("status-429", openai.RateLimitError, 429)),
    Row("error-500", error, providers=ALL, options=fault("status-500", openai.InternalServerError, 500)),
    Row("error-529", error, providers=ALL, options=fault("status-529", openai.InternalServerError, 503, 529)),
    Row("broken-stream", broken, STREAMED, ALL),
    Row("headers", headers, PLAIN, ALL),
]

if __name__ == "__main__":
    run({"openai-responses-python": TABLE})
