"""LangChain over victor: ChatOpenAI, by chat completions and by responses, and ChatAnthropic."""

from typing import List

import anthropic
import openai
import pydantic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from cells import GREETING, PIXEL, RESULT, SYSTEM, Row, check, raises, run, same


class Report(pydantic.BaseModel):
    """A report on a city."""

    city: str
    degrees: int
    tags: List[str]


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{RESULT} in {city}"


@tool
def get_time(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


TOOLS = {"get_weather": get_weather, "get_time": get_time}


def model(cell, make, *behaviours):
    return make(cell, cell.model(*behaviours))


def chat_openai(cell, name):
    return ChatOpenAI(
        model=name, base_url=cell.url("/v1"), api_key=cell.key, max_retries=0, stream_usage=True,
        use_responses_api=False,
    )


def responses(cell, name):
    return ChatOpenAI(
        model=name, base_url=cell.url("/v1"), api_key=cell.key, max_retries=0, use_responses_api=True
    )


def chat_anthropic(cell, name):
    return ChatAnthropic(
        model=name, base_url=cell.url(), api_key=cell.key, max_retries=0, max_tokens=256
    )


def ask(cell, runnable, messages):
    """The answer in the cell's mode."""
    if not cell.streamed:
        return runnable.invoke(messages)
    whole = None
    for chunk in runnable.stream(messages):
        whole = chunk if whole is None else whole + chunk
    return whole


def invoke(cell, make):
    answer = ask(cell, model(cell, make), [SystemMessage(SYSTEM), HumanMessage(GREETING)])
    check(answer.text.startswith("sim answer "), answer)
    usage = answer.usage_metadata
    check(usage["input_tokens"] > 0, usage)
    same(usage["output_tokens"], 16, "output_tokens")
    cell.arrived(SYSTEM, GREETING)


def agent(cell, make, behaviour, count):
    """Until the model calls no more tools."""
    bound = model(cell, make, behaviour).bind_tools(list(TOOLS.values()))
    messages = [HumanMessage(GREETING)]
    called = []
    while True:
        answer = ask(cell, bound, messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            called.append(call["name"])
            result = TOOLS[call["name"]].invoke(call["args"])
            messages.append(ToolMessage(result, tool_call_id=call["id"]))
        check(len(messages) < 8, "it calls without end")
    same(called, list(TOOLS)[:count], "calls")
    check(answer.text, answer)
    cell.arrived(f"{RESULT} in sim")


def structured(cell, make, options):
    bound = model(cell, make).with_structured_output(Report, **options)
    answer = list(bound.stream(GREETING))[-1] if cell.streamed else bound.invoke(GREETING)
    check(isinstance(answer, Report), answer)


def image(cell, make):
    picture = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
    content = [{"type": "text", "text": "What is this?"}, picture]
    answer = ask(cell, model(cell, make), [HumanMessage(content)])
    check(answer.text, answer)
    cell.arrived(PIXEL)


def error(cell, make, kind):
    found = raises(kind, lambda: ask(cell, model(cell, make, "status-429"), GREETING))
    check(found.status_code == 429 and str(found), found)


def table(make, vendor, structures):
    rows = [
        Row("invoke", invoke, options={"make": make}),
        Row("tools", agent, options={"make": make, "behaviour": "tools", "count": 1}),
        Row("parallel-tools", agent, options={"make": make, "behaviour": "tools-2", "count": 2}),
        Row("image", image, options={"make": make}),
        Row("error-429", error, options={"make": make, "kind": vendor.RateLimitError}),
    ]
    return rows + [
        Row(f"structured-{method}", structured, options={"make": make, "options": {"method": method}})
        for method in structures
    ]


if __name__ == "__main__":
    run({
        "langchain-openai": table(chat_openai, openai, ("json_schema", "function_calling")),
        "langchain-openai-responses": table(responses, openai, ("json_schema",)),
        "langchain-anthropic": table(chat_anthropic, anthropic, ("json_schema", "function_calling")),
    })
