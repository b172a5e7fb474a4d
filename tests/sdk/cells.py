"""The table of cells: client x provider x mode x capability, and how one is run.

A runner has one function for each capability and a table that says in which cells it is run; `run`
does the rest. A cell fails if its function raises, if the tap found a fault in an answer, or if
victor left a field of its request out. Where to and as whom comes from the environment:

    VICTOR_URL      of the tap, or of victor itself (then nothing judges the answers)
    VICTOR_KEY      a key that it takes
    VICTOR_SIM_URL  of the simulator behind it; without it nobody looks at what arrived there
"""

import json
import os
import sys
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

PLAIN, STREAMED = ("plain",), ("streamed",)
BOTH = PLAIN + STREAMED
# The OpenAI and the Anthropic dialect, both spoken by the simulator.
PROVIDERS = ("simo", "sima")

GREETING = "Hello there, \u201cGrüße\u201d 👋"
SYSTEM = "Be brief and kind."
RESULT = "sunny, 23 degrees"
# One red pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
PICTURE_URL = "https://example.com/picture.png"
CITY_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Its name"}},
    "required": ["city"],
    "additionalProperties": False,
}
# What is asked for as structured output; the same as a pydantic class in the runners.
REPORT_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "degrees": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city", "degrees", "tags"],
    "additionalProperties": False,
}


class Row(NamedTuple):
    """A capability, and the cells that it has."""

    name: str
    function: object
    modes: tuple = BOTH
    providers: tuple = PROVIDERS
    # Further arguments of the function.
    options: dict = {}
    # Fields that may be left out of the request, by provider: it has nothing like them.
    drops: dict = {}


class Cell:
    """One run of one capability."""

    def __init__(self, client, provider, mode, row):
        self.provider, self.mode, self.row = provider, mode, row
        self.streamed = mode == "streamed"
        self.name = f"{client}/{provider}/{mode}/{row.name}"
        self.key = os.environ.get("VICTOR_KEY", "unused")
        self._url = os.environ["VICTOR_URL"].rstrip("/")

    def url(self, path=""):
        """The base URL for the client; it names the cell to the tap."""
        prefix = "/@" + self.name.replace("/", "~") if tap_is_there() else ""
        return self._url + prefix + path

    def model(self, *behaviours):
        """A model of the cell's provider that also validates what it is sent."""
        return f"{self.provider}/" + "+".join(("sim", "strict") + behaviours)

    def sent(self):
        """The body that the provider was sent last, as text; None if nobody can know."""
        simulator = os.environ.get("VICTOR_SIM_URL")
        if not simulator:
            return None
        body = get(simulator + "/_sim/log?body=1")[-1]["body"]
        return json.dumps(json.loads(body), ensure_ascii=False)

    def arrived(self, *needles):
        """Checks that the provider was sent all of these, wherever its dialect has them."""
        sent = self.sent()
        for needle in needles:
            quoted = json.dumps(needle, ensure_ascii=False)[1:-1]
            check(sent is None or quoted in sent, f"{needle!r:.60} did not arrive: {sent!r:.900}")


def check(condition, message="it does not hold"):
    """An assertion that is not optimised away and says what was there."""
    if not condition:
        raise AssertionError(message)


def same(found, wanted, what="value"):
    check(found == wanted, f"{what} is {found!r:.300}, not {wanted!r:.300}")


def raises(kind, action):
    """The exception of that kind that `action` raises."""
    try:
        found = action()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {found!r:.300}")


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def report(cell_name):
    """What the tap has seen of a cell."""
    name = urllib.parse.quote(cell_name, safe="")
    return get(os.environ["VICTOR_URL"].rstrip("/") + "/@tap/report?cell=" + name)


def tap_is_there(known=[]):
    """Whether VICTOR_URL is a tap's."""
    if not known:
        try:
            report("nobody")
            known.append(True)
        except (urllib.error.HTTPError, ValueError):
            known.append(False)
    return known[0]


def _faults(cell):
    if not tap_is_there():
        return []
    seen = report(cell.name)
    allowed = cell.row.drops.get(cell.provider, ())
    dropped = sorted(set(seen["dropped"]) - set(allowed))
    faults = seen["faults"] + [f"left out of the request: {name}" for name in dropped]
    return faults if seen["exchanges"] else faults + ["nothing came by the tap"]


def _run(cell):
    """Why it failed, in lines; none if it passed."""
    try:
        cell.row.function(cell, **cell.row.options)
        lines = []
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename][-1]
        lines = [f"{type(error).__name__}: {error}"[:1200], f"at {own.name}: {own.line}"]
    return lines + _faults(cell)


def cells(client, table):
    """All cells of a table, whose names hold every one of the program's arguments."""
    for row in table:
        for provider in row.providers:
            for mode in row.modes:
                cell = Cell(client, provider, mode, row)
                if all(word in cell.name for word in sys.argv[1:]):
                    yield cell


def run(tables):
    """Runs the cells of each client's table, prints a line for each and the count of each client,
    and ends the program."""
    good = True
    for client, table in tables.items():
        passed = failed = 0
        for cell in cells(client, table):
            began = time.monotonic()
            lines = _run(cell)
            passed, failed = passed + (not lines), failed + bool(lines)
            took = round((time.monotonic() - began) * 1000)
            print(f"{'FAIL' if lines else 'ok  '} {cell.name} ({took} ms)", flush=True)
            for line in lines:
                print(f"     {line}", flush=True)
        print(f"{client}: {passed} passed, {failed} failed", flush=True)
        good = good and not failed and (passed > 0 or len(sys.argv) > 1)
    sys.exit(0 if good else 1)
