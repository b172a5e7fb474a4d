"""litellm as a client of victor, in OpenAI's dialect, by chat and by responses, and Anthropic's."""

import json
import os
from typing import List

# Before the import, which would fetch a list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import pydantic  # noqa: E402

from cells import (  # noqa: E402
    CITY_SCHEMA, GREETING, PICTURE_URL, PIXEL, RESULT, SYSTEM, Row, check, raises, run, same,
)

litellm.telemetry = False
litellm.suppress_debug_info = True
HELLO = [{"role": "user", "content": GREETING}]


def tool(name):
    function = {"name": name, "description": "About a city", "parameters": CITY_SCHEMA}
    return {"type": "function", "function": function}


BOTH_TOOLS = [tool("get_weather"), tool("get_time")]


class Report(pydantic.BaseModel):
    city: str
    degrees: int
    tags: List[str]


def ask(cell, vendor, model, messages=HELLO, **more):
    """The answer in the cell's mode, as an OpenAI completion whoever is asked."""
    base = cell.url("/v1") if vendor == "openai" else cell.url()
    options = {"api_base": base, "api_key": cell.key, "num_retries": 0, "max_tokens": 256, **more}
    if cell.streamed:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    answer = litellm.completion(model=f"{vendor}/{model}", messages=messages, **options)
    return litellm.stream_chunk_builder(list(answer), messages=messages) if cell.streamed else answer


def text(cell, vendor):
    messages = [{"role": "system", "content": SYSTEM}, *HELLO]
    answer = ask(cell, vendor, cell.model(), messages)
    check(answer.choices[0].message.content.startswith("sim answer "), answer)
    same(answer.choices[0].finish_reason, "stop", "finish_reason")
    same(answer.usage.completion_tokens, 16, "completion_tokens")
    cell.arrived(SYSTEM, GREETING)


def tools(cell, vendor, behaviour, count):
    model = cell.model(behaviour)
    first = ask(cell, vendor, model, tools=BOTH_TOOLS).choices[0]
    same(first.finish_reason, "tool_calls", "finish_reason")
    calls = first.message.tool_calls
    same([call.function.name for call in calls], ["get_weather", "get_time"][:count], "names")
    same([json.loads(call.function.arguments) for call in calls], [{"city": "sim"}] * count)
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{RESULT} {number}"}
        for number, call in enumerate(calls)
    ]
    turns = [first.message.model_dump(exclude_none=True), *results]
    second = ask(cell, vendor, model, HELLO + turns, tools=BOTH_TOOLS).choices[0]
    same(second.finish_reason, "stop", "finish_reason")
    cell.arrived(f"{RESULT} {count - 1}", *(call.id for call in calls))


def structured(cell, vendor):
    answer = ask(cell, vendor, cell.model(), response_format=Report)
    Report.model_validate_json(answer.choices[0].message.content)


def image(cell, vendor, url, needle):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = ask(cell, vendor, cell.model(), [{"role": "user", "content": content}])
    check(answer.choices[0].message.content, answer)
    cell.arrived(needle)


def error(cell, vendor, behaviour, kind):
    found = raises(kind, lambda: ask(cell, vendor, cell.model(behaviour)))
    check(found.message, found)


def responses(cell):
    options = {"api_base": cell.url("/v1"), "api_key": cell.key}
    answer = litellm.responses(
        model=f"openai/{cell.model()}", input=GREETING, stream=cell.streamed, **options
    )
    if cell.streamed:
        kinds = [str(getattr(event.type, "value", event.type)) for event in answer]
        same(kinds[-1], "response.completed", "the last event")
    else:
        check(answer.output[0].content[0].text.startswith("sim answer "), answer)
    cell.arrived(GREETING)


def table(vendor):
    picture = "data:image/png;base64," + PIXEL
    return [
        Row("text", text, options={"vendor": vendor}),
        Row("tools", tools, options={"vendor": vendor, "behaviour": "tools", "count": 1}),
        Row("parallel-tools", tools, options={"vendor": vendor, "behaviour": "tools-2", "count": 2}),
        Row("structured", structured, options={"vendor": vendor}),
        Row("image-base64", image, options={"vendor": vendor, "url": picture, "needle": PIXEL}),
        Row("image-url", image, options={"vendor": vendor, "url": PICTURE_URL, "needle": PICTURE_URL}),
        Row("error-400", error, options={"vendor": vendor, "behaviour": "context-length", "kind": litellm.BadRequestError}),
        Row("error-429", error, options={"vendor": vendor, "behaviour": "status-429", "kind": litellm.RateLimitError}),
    ]


if __name__ == "__main__":
    run({
        "litellm-openai": table("openai") + [Row("responses", responses)],
        "litellm-anthropic": table("anthropic"),
    })
