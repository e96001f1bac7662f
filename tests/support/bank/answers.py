"""What the bank's nodes wrote down of the broker's answers, a line each, before they counted.

    ok KEY TX          confirmed, as this transaction of the log
    no KEY CODE        refused
    unsure KEY CODE    nobody knows; it is asked for again
    error KEY TEXT     what must not happen

A key has blanks as ``_``. A line without its end was cut off by the writer's death: its
answer counted nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

OK: Final = "ok"
NO: Final = "no"
UNSURE: Final = "unsure"
ERROR: Final = "error"
GLOB: Final = "said-*"


class Answer(NamedTuple):
    """One line. ``tx`` is 0 but for what was confirmed; ``text`` is the rest of the others."""

    word: str
    key: str
    tx: int
    text: str


def parsed(line: str) -> Answer:
    """A line of a node's file. Raises ValueError for what is none."""
    word, key, rest = line.split(" ", 2)
    if word not in (OK, NO, UNSURE, ERROR):
        raise ValueError(f"no answer: {line!r}")
    key = key.replace("_", " ")
    return Answer(word, key, int(rest), "") if word == OK else Answer(word, key, 0, rest)


class Reader:
    """Reads what was added to the files since it looked last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self.answers: list[Answer] = []
        self.settled: set[str] = set()
        """Keys that have an answer for good."""

    @property
    def files(self) -> int:
        """How many processes wrote one."""
        return len(self._offsets)

    def read(self) -> int:
        """Returns how many keys are settled."""
        for path in sorted(self._folder.glob(GLOB)):
            offset = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(whole)
            self._take(map(parsed, whole.decode().splitlines()))
        return len(self.settled)

    def _take(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self.answers.append(answer)
            if answer.word in (OK, NO):
                self.settled.add(answer.key)
