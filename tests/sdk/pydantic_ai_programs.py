"""pydantic-ai over victor: agents with tools and typed output, by each of its three models."""

import asyncio
import base64
from typing import List

import anthropic
import openai
import pydantic
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles.anthropic import AnthropicModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from cells import GREETING, PIXEL, RESULT, SYSTEM, Row, check, raises, run, same

# One for all cells: the clients close their connections in it, after the cell that they are of.
LOOP = asyncio.new_event_loop()


class Report(pydantic.BaseModel):
    """A report on a city."""

    city: str
    degrees: int
    tags: List[str]


def openai_provider(cell):
    client = openai.AsyncOpenAI(base_url=cell.url("/v1"), api_key=cell.key, max_retries=0)
    return OpenAIProvider(openai_client=client)


def chat(cell, name):
    return OpenAIChatModel(name, provider=openai_provider(cell))


def responses(cell, name):
    return OpenAIResponsesModel(name, provider=openai_provider(cell))


def messages(cell, name):
    client = anthropic.AsyncAnthropic(base_url=cell.url(), api_key=cell.key, max_retries=0)
    # It knows of Anthropic's own models which of them can; a name it does not know cannot.
    can = AnthropicModelProfile(supports_json_schema_output=True)
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client), profile=can)


def ask(cell, agent, prompt=GREETING):
    """The output and the usage, in the cell's mode."""

    async def whole():
        result = await agent.run(prompt)
        return result.output, result.usage

    async def streamed():
        async with agent.run_stream(prompt) as result:
            return await result.get_output(), result.usage

    return LOOP.run_until_complete(streamed() if cell.streamed else whole())


def text(cell, make):
    agent = Agent(make(cell, cell.model()), instructions=SYSTEM)
    output, usage = ask(cell, agent)
    check(output.startswith("sim answer "), output)
    same(usage.output_tokens, 16, "output_tokens")
    check(usage.input_tokens > 0, usage)
    cell.arrived(SYSTEM, GREETING)


def tools(cell, make, behaviour, count):
    agent = Agent(make(cell, cell.model(behaviour)))
    called = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        called.append("get_weather")
        return f"{RESULT} in {city}"

    @agent.tool_plain
    def get_time(city: str) -> str:
        called.append("get_time")
        return f"noon in {city}"

    output, _ = ask(cell, agent)
    # They may be run at the same time.
    same(sorted(called), sorted(["get_weather", "get_time"][:count]), "calls")
    check(output.startswith("sim answer "), output)
    cell.arrived(f"{RESULT} in sim")


def typed(cell, make, kind):
    output, _ = ask(cell, Agent(make(cell, cell.model()), output_type=kind(Report)))
    check(isinstance(output, Report), output)


def image(cell, make):
    picture = BinaryContent(base64.b64decode(PIXEL), media_type="image/png")
    output, _ = ask(cell, Agent(make(cell, cell.model())), ["What is this?", picture])
    check(output, output)
    cell.arrived(PIXEL)


def error(cell, make):
    agent = Agent(make(cell, cell.model("status-429")))
    found = raises(ModelHTTPError, lambda: ask(cell, agent))
    same(found.status_code, 429, "status")


def table(make):
    return [
        Row("text", text, options={"make": make}),
        Row("tools", tools, options={"make": make, "behaviour": "tools", "count": 1}),
        Row("parallel-tools", tools, options={"make": make, "behaviour": "tools-2", "count": 2}),
        Row("typed-by-tool", typed, options={"make": make, "kind": ToolOutput}),
        Row("typed-by-schema", typed, options={"make": make, "kind": NativeOutput}),
        Row("image", image, options={"make": make}),
        Row("error-429", error, options={"make": make}),
    ]


if __name__ == "__main__":
    run({
        "pydantic-ai-openai": table(chat),
        "pydantic-ai-openai-responses": table(responses),
        "pydantic-ai-anthropic": table(messages),
    })
