"""instructor over victor: structured answers from both vendors' clients, by tool and by schema."""

from typing import List

import anthropic
import instructor
import openai
import pydantic

from cells import GREETING, PLAIN, STREAMED, Row, check, run, same

HELLO = [{"role": "user", "content": GREETING}]


class Report(pydantic.BaseModel):
    """A report on a city."""

    city: str
    degrees: int
    tags: List[str]


def over_openai(cell, mode):
    client = openai.OpenAI(base_url=cell.url("/v1"), api_key=cell.key, max_retries=0)
    return instructor.from_openai(client, mode=mode), {}


def over_anthropic(cell, mode):
    client = anthropic.Anthropic(base_url=cell.url(), api_key=cell.key, max_retries=0)
    return instructor.from_anthropic(client, mode=mode), {"max_tokens": 256}


def report(cell, make, mode):
    client, more = make(cell, mode)
    answer, raw = client.chat.completions.create_with_completion(
        model=cell.model(), messages=HELLO, response_model=Report, max_retries=0, **more
    )
    same((answer.city, answer.degrees), ("sim", 1))
    check(raw.usage, raw)
    cell.arrived(GREETING)


def partial(cell, make, mode):
    client, more = make(cell, mode)
    answers = list(
        client.chat.completions.create_partial(
            model=cell.model(), messages=HELLO, response_model=Report, max_retries=0, **more
        )
    )
    same((answers[-1].city, answers[-1].degrees), ("sim", 1))


def table(make, modes):
    rows = []
    for mode in modes:
        options = {"make": make, "mode": mode}
        rows.append(Row(f"report-{mode.value}", report, PLAIN, options=options))
        rows.append(Row(f"partial-{mode.value}", partial, STREAMED, options=options))
    return rows


if __name__ == "__main__":
    Mode = instructor.Mode
    run({
        "instructor-openai": table(over_openai, (Mode.TOOLS, Mode.JSON_SCHEMA)),
        "instructor-anthropic": table(over_anthropic, (Mode.TOOLS,)),
    })
