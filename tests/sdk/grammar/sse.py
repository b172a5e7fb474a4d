"""Server-sent events, as both vendors write them: `event:` and `data:` lines, one blank line.

The standard allows more (comments, CR, several data lines); a comment is let pass, everything else
that the vendors never send is a fault, for some clients read no more than the vendors write.
"""

from typing import NamedTuple, Optional


class Event(NamedTuple):
    name: Optional[str]
    data: str


class Reader:
    """Cuts bytes into events, however they are split."""

    def __init__(self):
        self._rest = b""
        self._faults = []

    def feed(self, data):
        """The events that are now complete."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        events = (self._event(block) for block in blocks)
        return [event for event in events if event is not None]

    def faults(self):
        """What was wrong with the framing since the last time."""
        faults, self._faults = self._faults, []
        return faults

    def rest(self):
        """What has not ended yet."""
        return self._rest.strip()

    def _event(self, block):
        name, data = None, []
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError as error:
            self._faults.append(f"not UTF-8: {error}")
            return None
        for line in lines:
            if line.startswith("data: "):
                data.append(line[6:])
            elif line.startswith("event: ") and name is None and not data:
                name = line[7:]
            elif not line.startswith(":"):
                self._faults.append(f"a line that no vendor sends: {line[:80]!r}")
        if len(data) == 1:
            return Event(name, data[0])
        if data or name:
            self._faults.append(f"{len(data)} data lines in one event")
        return None
