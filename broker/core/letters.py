"""Dead letters: kept frames that reached nobody. Bounded; the oldest make room."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs, to_builtins

from broker.core.frames import Batch
from shard_node.wire.limits import DEAD_LETTERS_MAX, DEAD_LETTERS_MAX_BYTES

SHOWN_MAX: Final = 256
"""Letters in one answer."""


@dataclass(slots=True)
class Letter:
    """A frame with the reason of its end. ``body`` None: too much to keep."""

    number: int
    batch: Batch
    body: bytes | None
    code: str
    text: str
    died_at: float

    def shown(self, now: float) -> dict[str, Any]:
        """The letter for people and programs."""
        head = self.batch.head
        return {
            "number": self.number,
            "sender": self.batch.sender,
            "target": to_builtins(head.target),
            "lane": head.lane.name.lower(),
            "messages": self.batch.count,
            "size_bytes": self.batch.size_bytes,
            "code": self.code,
            "reason": self.text,
            "age_s": round(now - self.died_at, 3),
            "waited_s": round(self.died_at - self.batch.arrived, 3),
            "can_retry": self.body is not None,
        }


class Letters:
    """The list. ``lost`` counts letters that made room for newer ones; ``ended`` all that
    there ever were, by the code of their end."""

    def __init__(
        self, limit: int = DEAD_LETTERS_MAX, max_bytes: int = DEAD_LETTERS_MAX_BYTES
    ) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._letters: OrderedDict[int, Letter] = OrderedDict()
        self._next = 1
        self.size_bytes = 0
        self.lost = 0
        self.ended: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, batch: Batch, code: str, text: str, now: float) -> None:
        """Takes a frame in that reached nobody."""
        self.ended[code] += 1
        while len(self._letters) >= self._limit:
            self._forget(next(iter(self._letters)))
            self.lost += 1
        body = batch.body if self.size_bytes + batch.size_bytes <= self._max_bytes else None
        if body is not None:
            self.size_bytes += len(body)
        # Many letters may be of one stuck target: keep no more of the frame than is shown.
        batch.body = b""
        self._letters[self._next] = Letter(self._next, batch, body, code, text, now)
        self._next += 1

    def shown(self, after: int, now: float) -> dict[str, Any]:
        """A page of the list."""
        rows = [letter for number, letter in self._letters.items() if number > after]
        return {
            "letters": [letter.shown(now) for letter in rows[:SHOWN_MAX]],
            "total": len(self._letters),
            "lost": self.lost,
            "more": len(rows) > SHOWN_MAX,
        }

    def unknown(self, numbers: tuple[int, ...]) -> list[int]:
        """Those of the numbers that name no letter."""
        return [number for number in numbers if number not in self._letters]

    def numbers(self) -> list[int]:
        """The numbers of all letters, oldest first."""
        return list(self._letters)

    def take(self, numbers: tuple[int, ...], *, whole: bool) -> tuple[list[Letter], int]:
        """Takes letters out (none named: all); ``whole``: only those with their bytes.

        The number is how many were passed over.
        """
        chosen = [self._letters[n] for n in numbers or tuple(self._letters) if n in self._letters]
        taken = [letter for letter in chosen if letter.body is not None or not whole]
        for letter in taken:
            self._forget(letter.number)
        return taken, len(chosen) - len(taken)

    def _forget(self, number: int) -> None:
        letter = self._letters.pop(number, None)
        if letter is not None and letter.body is not None:
            self.size_bytes -= len(letter.body)


def again(letter: Letter, sender: str, ttl_ms: int, now: float) -> Batch:
    """The frame for another try, under a sender that no receiver has seen."""
    head = structs.replace(letter.batch.head, ttl_ms=ttl_ms, pin="", low=0, flags=1)
    return Batch(sender, head, letter.body or b"", now)
