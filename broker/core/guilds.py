"""Guilds that belong elsewhere than the formula says: the records, and what processes say of them.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shard_node.wire.migration import GuildMoved, GuildPart, GuildPhase

SAID_MAX: Final = 4096
"""Guilds of which one process's reports are kept."""
OVER: Final = frozenset({GuildPhase.NONE, GuildPhase.HOME, GuildPhase.LEFT})
"""After these a process has nothing more to do with a guild."""
Who = tuple[str, int]
"""A node's process: name and epoch."""
Key = tuple[int, GuildPart]


class GuildHome(NamedTuple):
    """A guild that was given away, as its GuildRecord has it (see there)."""

    guild: int
    version: int
    node: str = ""
    shard: int = -1
    label: str = ""
    by: str = "operator"
    since_ms: int = 0
    given_back: int = 0


def label_of(who: Who) -> str:
    """As a process is called: ``name#epoch``."""
    return f"{who[0]}#{who[1]}"


def process_of(label: str) -> Who:
    """The other way round; ("", 0) of what is no label.

    >>> process_of("c#9"), process_of("")
    (('c', 9), ('', 0))
    """
    name, mark, epoch = label.rpartition("#")
    return (name, int(epoch)) if mark and epoch.isdecimal() else ("", 0)


@dataclass(slots=True)
class Guilds:
    """``records``: where each guild shall be and who has it, as the store has it."""

    records: dict[int, GuildHome] = field(default_factory=dict)
    _said: dict[Who, dict[Key, GuildMoved]] = field(default_factory=dict)

    @property
    def any_said(self) -> bool:
        """Whether anybody has anything to do with a guild of another's shard."""
        return any(self._said.values())

    def put(self, record: GuildHome | None, guild: int) -> None:
        """A guild's record; None: it is at home for good."""
        if record is None:
            self.records.pop(guild, None)
        else:
            self.records[guild] = record

    def heard(self, who: Who, body: GuildMoved) -> bool:
        """What a process says of a guild now. False: it says more than is kept."""
        mine = self._said.setdefault(who, {})
        key = (body.guild, body.part)
        mine.pop(key, None)
        if len(mine) >= SAID_MAX:
            return False
        mine[key] = body
        return True

    def said(self, who: Who, guild: int, part: GuildPart) -> GuildMoved | None:
        """The last that a process said of a guild."""
        return self._said.get(who, {}).get((guild, part))

    def gone(self, who: Who) -> None:
        """A process has ended."""
        self._said.pop(who, None)

    def forget(self, lives: Callable[[str, int], bool]) -> None:
        """What dead processes said."""
        for who in [who for who in self._said if not lives(*who)]:
            del self._said[who]

    def over(self, who: Who, body: GuildMoved) -> None:
        """Nobody needs to know that any more."""
        mine = self._said.get(who, {})
        if mine.get((body.guild, body.part)) is body:
            del mine[body.guild, body.part]

    def all_said(self) -> Iterator[tuple[Who, GuildMoved]]:
        """All that is known."""
        for who, mine in list(self._said.items()):
            for body in list(mine.values()):
                yield who, body
