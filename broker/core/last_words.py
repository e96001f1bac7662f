"""The error that a node's process wrote last, read back from the end of its log. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from broker.core.events import Exited

_ERROR: Final = re.compile(r"error\[(E_BOT[A-Z_]*)\]: (.*)")
_HINT: Final = "hint: "


class BotError(NamedTuple):
    """Why a bot cannot be loaded, in the words of `shard_node.failure.told`."""

    code: str
    message: str
    hint: str

    def told(self) -> str:
        """In one line: ``E_CODE: message; hint: what to type``."""
        hint = f"; {_HINT}{self.hint}" if self.hint else ""
        return f"{self.code}: {self.message}{hint}"


def bot_error(tail: tuple[str, ...]) -> BotError | None:
    """The last error in the last lines of a log; None where there is none.

    >>> bot_error(("Traceback", "error[E_BOT_FILE]: no such file", "  hint: look"))
    BotError(code='E_BOT_FILE', message='no such file', hint='look')
    """
    for place in range(len(tail) - 1, -1, -1):
        found = _ERROR.fullmatch(tail[place].strip())
        if found:
            rest = [line.strip() for line in tail[place + 1 :]]
            hints = [line.removeprefix(_HINT) for line in rest if line.startswith(_HINT)]
            return BotError(found[1], found[2], hints[0] if hints else "")
    return None


def how_ended(event: Exited) -> str:
    """Why a process ended, in words: its bot's own error where it wrote one."""
    error = bot_error(event.tail)
    if error is not None:
        return error.message
    if event.signal is not None:
        return f"was ended by signal {event.signal}"
    return "ended" if event.code is None else f"ended with {event.code}"
