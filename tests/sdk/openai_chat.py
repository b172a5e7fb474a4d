"""The openai SDK's chat completions (and its other calls) against victor."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import List

import openai
import pydantic

from cells import (
    BOTH, CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, PLAIN, REPORT_SCHEMA, RESULT, STREAMED, SYSTEM,
    Row, check, raises, run, same,
)

HELLO = [{"role": "user", "content": GREETING}]
OPENAI_ONLY = ("simo",)


def tool(name):
    function = {"name": name, "description": "About a city", "parameters": CITY_SCHEMA}
    return {"type": "function", "function": function}


WEATHER, TIME = tool("get_weather"), tool("get_time")


class Report(pydantic.BaseModel):
    city: str
    degrees: int
    tags: List[str]


def client(cell, **options):
    # An error is to be shown at once instead of asking again.
    options = {"api_key": cell.key, "max_retries": 0, **options}
    return openai.OpenAI(base_url=cell.url("/v1"), **options)


def gathered(chunks):
    """One choice of a stream as the message that a plain call answers with."""
    message, finish, usage = {"role": None, "content": "", "tool_calls": []}, None, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            delta = choice.delta
            message["role"] = message["role"] or delta.role
            message["content"] += delta.content or ""
            for name in ("refusal", "reasoning_content"):
                if getattr(delta, name, None):
                    message[name] = message.get(name, "") + getattr(delta, name)
            message.setdefault("thinking_blocks", []).extend(getattr(delta, "thinking_blocks", []))
            for call in delta.tool_calls or []:
                if call.index == len(message["tool_calls"]):
                    function = {"name": call.function.name, "arguments": ""}
                    call_is = {"id": call.id, "type": "function", "function": function}
                    message["tool_calls"].append(call_is)
                own = message["tool_calls"][call.index]["function"]
                own["arguments"] += call.function.arguments or ""
            finish = choice.finish_reason or finish
    return {key: value for key, value in message.items() if value != []}, finish, usage


def ask(cell, model, messages=HELLO, **more):
    """A call in the cell's mode: the message, the finish reason, and the usage."""
    create = client(cell).chat.completions.create
    if cell.streamed:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return gathered(create(model=model, messages=messages, **options, **more))
    answer = create(model=model, messages=messages, **more)
    choice = answer.choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason, answer.usage


def chat(cell):
    message, finish, usage = ask(cell, cell.model())
    check(message["content"].startswith("sim answer "), message)
    same(message["role"], "assistant", "role")
    same(finish, "stop", "finish_reason")
    check(usage.prompt_tokens > 0 and usage.completion_tokens == 16, usage)
    cell.arrived(GREETING)


def many_events(cell):
    stream = client(cell).chat.completions.create(
        model=cell.model("pace-2x16"), messages=HELLO, stream=True
    )
    chunks = list(stream)
    parts = [c for c in chunks if c.choices and c.choices[0].delta.content]
    same(len(parts), 16, "the number of texts")
    check(not any(chunk.usage for chunk in chunks), "a usage that nobody asked for")


def helper(cell):
    with client(cell).chat.completions.stream(model=cell.model("pace-2x8"), messages=HELLO) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    check("content.delta" in kinds and "content.done" in kinds, kinds)
    check(final.choices[0].message.content)


def system(cell, role):
    messages = [{"role": role, "content": SYSTEM}, *HELLO]
    message, finish, usage = ask(cell, cell.model(), messages)
    same(finish, "stop", "finish_reason")
    cell.arrived(SYSTEM, GREETING)


def conversation(cell):
    """Several turns, contents as text and as parts."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "four"},
    ]
    _, finish, _ = ask(cell, cell.model(), messages)
    same(finish, "stop", "finish_reason")
    cell.arrived("one", "two", "three", "four")


def tools(cell):
    message, finish, _ = ask(cell, cell.model("tools"), tools=[WEATHER, TIME])
    same(finish, "tool_calls", "finish_reason")
    (call,) = message["tool_calls"]
    same(call["function"]["name"], "get_weather", "name")
    same(json.loads(call["function"]["arguments"]), {"city": "sim"}, "arguments")
    messages = HELLO + [message, {"role": "tool", "tool_call_id": call["id"], "content": RESULT}]
    message, finish, _ = ask(cell, cell.model("tools"), messages, tools=[WEATHER, TIME])
    same(finish, "stop", "finish_reason")
    check(message["content"], message)
    cell.arrived(RESULT, call["id"])


def parallel(cell, *behaviours):
    model = cell.model("tools-2", *behaviours)
    message, finish, _ = ask(cell, model, tools=[WEATHER, TIME])
    same(finish, "tool_calls", "finish_reason")
    names = [call["function"]["name"] for call in message["tool_calls"]]
    same(names, ["get_weather", "get_time"], "names")
    for call in message["tool_calls"]:
        same(json.loads(call["function"]["arguments"]), {"city": "sim"}, "arguments")
    ids = [call["id"] for call in message["tool_calls"]]
    same(len(set(ids)), 2, "the number of ids")
    results = [
        {"role": "tool", "tool_call_id": id, "content": f"{RESULT} {number}"}
        for number, id in enumerate(ids)
    ]
    message, finish, _ = ask(cell, model, [*HELLO, message, *results], tools=[WEATHER, TIME])
    same(finish, "stop", "finish_reason")
    cell.arrived(*ids, f"{RESULT} 0", f"{RESULT} 1")


def interleaved(cell):
    parallel(cell, "interleave")


def tool_choice(cell):
    named = {"type": "function", "function": {"name": "get_time"}}
    message, _, _ = ask(cell, cell.model(), tools=[WEATHER, TIME], tool_choice=named)
    same([call["function"]["name"] for call in message["tool_calls"]], ["get_time"], "names")
    message, finish, _ = ask(cell, cell.model(), tools=[WEATHER, TIME], tool_choice="required")
    same(finish, "tool_calls", "finish_reason")
    message, finish, _ = ask(cell, cell.model("tools"), tools=[WEATHER, TIME], tool_choice="none")
    same(finish, "stop", "finish_reason")
    message, finish, _ = ask(
        cell, cell.model("tools-2"), tools=[WEATHER, TIME], parallel_tool_calls=False
    )
    same(len(message["tool_calls"]), 1, "the number of calls")


def image(cell, url, needle):
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    _, finish, _ = ask(cell, cell.model(), [{"role": "user", "content": content}])
    same(finish, "stop", "finish_reason")
    cell.arrived(needle, "What is this?")


def json_schema(cell):
    schema = {"name": "report", "strict": True, "schema": REPORT_SCHEMA}
    wanted = {"type": "json_schema", "json_schema": schema}
    message, finish, _ = ask(cell, cell.model(), response_format=wanted)
    same(finish, "stop", "finish_reason")
    check(not message.get("tool_calls"), message)
    Report.model_validate_json(message["content"])


def parsed(cell):
    completions = client(cell).chat.completions
    arguments = {"model": cell.model(), "messages": HELLO, "response_format": Report}
    if cell.streamed:
        with completions.stream(**arguments) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_completion()
    else:
        answer = completions.parse(**arguments)
    report = answer.choices[0].message.parsed
    check(isinstance(report, Report), answer)


def limit(cell):
    message, finish, usage = ask(cell, cell.model(), max_completion_tokens=4)
    same(finish, "length", "finish_reason")
    same(usage.completion_tokens, 4, "completion_tokens")


def stop(cell):
    message, finish, _ = ask(cell, cell.model(), stop=["answer"])
    same((message["content"].strip(), finish), ("sim", "stop"))


def sampling(cell):
    _, finish, _ = ask(cell, cell.model(), temperature=0.5, max_tokens=50, user="someone")
    same(finish, "stop", "finish_reason")
    cell.arrived("someone")


def reasoning(cell):
    message, finish, usage = ask(cell, cell.model("thinking"), reasoning_effort="low")
    check(message["reasoning_content"].startswith("sim thought "), message)
    check(message["content"].startswith("sim answer "), message)
    same(usage.completion_tokens_details.reasoning_tokens, 8, "reasoning_tokens")
    if cell.provider == "simo":
        # The vendor refuses what it does not send itself, and here everything passes through.
        del message["reasoning_content"]
    messages = HELLO + [message, {"role": "user", "content": "And now?"}]
    ask(cell, cell.model("thinking"), messages, reasoning_effort="low")
    cell.arrived("And now?")


def cached(cell):
    _, _, bare = ask(cell, cell.model())
    _, _, usage = ask(cell, cell.model("cached-100"))
    same(usage.prompt_tokens_details.cached_tokens, 100, "cached_tokens")
    same(usage.prompt_tokens, bare.prompt_tokens + 100, "prompt_tokens")
    same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total_tokens")


def refusal(cell):
    message, finish, _ = ask(cell, cell.model("refusal"))
    check(message.get("refusal") or finish == "content_filter", (message, finish))


def choices(cell):
    options = {"stream": True} if cell.streamed else {}
    answer = client(cell).chat.completions.create(model=cell.model(), messages=HELLO, n=2, **options)
    if cell.streamed:
        indices = {choice.index for chunk in answer for choice in chunk.choices}
    else:
        indices = {choice.index for choice in answer.choices}
    same(indices, {0, 1}, "indices")


def error(cell, behaviour, kind, statuses, code=None):
    """The SDK's own exception, with status, message and request id."""
    model = "nobody/nothing" if behaviour is None else cell.model(behaviour)
    found = raises(kind, lambda: ask(cell, model))
    check(found.status_code in statuses, f"status {found.status_code}: {found}")
    check(found.message and found.request_id, found)
    if code and cell.provider == "simo":
        same(found.code, code, "code")


def wrong_key(cell):
    stranger = client(cell, api_key="wrong")
    found = raises(
        openai.AuthenticationError,
        lambda: stranger.chat.completions.create(
            model=cell.model(), messages=HELLO, stream=cell.streamed
        ),
    )
    same((found.status_code, found.code), (401, "invalid_api_key"))


def broken(cell):
    stream = client(cell).chat.completions.create(
        model=cell.model("pace-1x20", "cut-5"), messages=HELLO, stream=True
    )
    found = raises(openai.APIError, lambda: list(stream))
    check(found.message, found)


def headers(cell):
    raw = client(cell).chat.completions.with_raw_response.create(model=cell.model(), messages=HELLO)
    same(raw.headers["x-victor-provider"], cell.provider)
    check(raw.parse()._request_id)


def embeddings(cell):
    for encoding in ("float", "base64", openai.NOT_GIVEN):
        answer = client(cell).embeddings.create(
            model=cell.model(), input=["one", "two"], encoding_format=encoding
        )
        same([item.index for item in answer.data], [0, 1], "indices")
        check(len(answer.data[0].embedding) > 1)
        check(answer.usage.total_tokens > 0)


def merged_embeddings(cell):
    """Single texts at the same time, which go to the provider in one call."""
    create, texts = client(cell).embeddings.create, [f"text {number}" for number in range(8)]
    expected = create(model=cell.model(), input=texts)
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(lambda text: create(model=cell.model(), input=text), texts))
    for answer, item in zip(answers, expected.data, strict=True):
        same([(it.index, it.embedding) for it in answer.data], [(0, item.embedding)])
    tokens = sum(answer.usage.total_tokens for answer in answers)
    same(tokens, expected.usage.total_tokens, "tokens")


def no_embeddings(cell):
    embed = client(cell).embeddings.create
    found = raises(openai.BadRequestError, lambda: embed(model=cell.model(), input="one"))
    same(found.code, "dialect_not_served", "code")


def completions(cell):
    create = client(cell).completions.create
    answer = create(model=cell.model(), prompt="Once upon", max_tokens=8, stream=cell.streamed)
    if cell.streamed:
        texts = [choice.text for chunk in answer for choice in chunk.choices]
        check("".join(texts), texts)
    else:
        check(answer.choices[0].text, answer)


def models(cell):
    ids = [model.id for model in client(cell).models.list()]
    check("sim" in ids, ids)
    same(client(cell).models.retrieve("sim").id, "sim", "id")
    raises(openai.NotFoundError, lambda: client(cell).models.retrieve("nothing-like-it"))


def fault(behaviour, kind, *statuses, code=None):
    return {"behaviour": behaviour, "kind": kind, "statuses": statuses, "code": code}


TABLE = [
    Row("chat", chat),
    Row("many-events", many_events, STREAMED),
    Row("helper", helper, STREAMED),
    Row("system", system, options={"role": "system"}),
    Row("developer", system, options={"role": "developer"}),
    Row("conversation", conversation),
    Row("tools", tools),
    Row("parallel-tools", parallel),
    Row("interleaved-tools", interleaved, STREAMED, OPENAI_ONLY),
    Row("tool-choice", tool_choice),
    Row("image-base64", image, options={"url": "data:image/png;base64," + PIXEL, "needle": PIXEL}),
    Row("image-url", image, options={"url": PICTURE_URL, "needle": PICTURE_URL}),
    Row("json-schema", json_schema, providers=("simo", "sima", "simn")),
    Row("parse", parsed, providers=("simo", "sima", "simn")),
    Row("limit", limit),
    # Which of them it was has no place in the answer.
    Row("stop", stop, drops={"sima": ["stop_sequence"]}),
    Row("sampling", sampling),
    Row("reasoning", reasoning),
    Row("cached", cached),
    Row("refusal", refusal),
    Row("choices", choices, providers=OPENAI_ONLY),
    Row("error-400", error, options=fault("context-length", openai.BadRequestError, 400, code="context_length_exceeded")),
    Row("error-401", wrong_key),
    Row("error-404", error, options=fault(None, openai.NotFoundError, 404)),
    Row("error-429", error, options=fault("status-429", openai.RateLimitError, 429)),
    Row("error-500", error, options=fault("status-500", openai.InternalServerError, 500)),
    Row("error-529", error, options=fault("status-529", openai.InternalServerError, 503, 529)),
    Row("broken-stream", broken, STREAMED),
    Row("headers", headers, PLAIN),
    Row("embeddings", embeddings, PLAIN, OPENAI_ONLY),
    Row("merged_embeddings", merged_embeddings, PLAIN, OPENAI_ONLY),
    Row("embeddings", no_embeddings, PLAIN, ("sima",)),
    Row("completions", completions, BOTH, OPENAI_ONLY),
    Row("models", models, PLAIN, OPENAI_ONLY),
]

if __name__ == "__main__":
    run({"openai-python": TABLE})
