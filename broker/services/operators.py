"""What operators ask of the data plane: the dead letters, and the routing table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Final, TypeVar

from broker.core.effects import Effects, Refuse, Reply, RetryLetters
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from shard_node.wire import topics
from shard_node.wire.bodies import (
    DeadLettersRequest,
    ErrorBody,
    LettersChosen,
    LettersDone,
    RoutesRequest,
)
from store.records import Durable

TOPICS_SHOWN_MAX: Final = 1024
OVERRIDES_SHOWN_MAX: Final = 4096
NODES_SHOWN_MAX: Final = 1024
MISSING_SHOWN_MAX: Final = 64
SUBSCRIBERS_SHOWN_MAX: Final = 64
"""Of each topic; the answer's ``more`` counts the others."""
NAMES_SHOWN_MAX_CHARS: Final = 192 << 10
"""Of all topics, and of all rules: long names must not make the answer too large."""
T = TypeVar("T")


class Operators:
    """Reads the table and the letters; a retry is the data plane's."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=DeadLettersRequest(after=after)):
                return [Reply(ref, self._fleet.letters.shown(max(0, after), now))]
            case Asked(ref=ref, topic=topic, body=LettersChosen(numbers=numbers)):
                return self._chosen(ref, topic, numbers)
            case Asked(ref=ref, body=RoutesRequest()):
                return [Reply(ref, self._routes())]
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    def _chosen(self, ref: Ref, topic: str, numbers: tuple[int, ...]) -> Effects:
        letters = self._fleet.letters
        missing = letters.unknown(numbers)
        if missing:
            text = f"no dead letter {', '.join(map(str, missing[:MISSING_SHOWN_MAX]))}"
            details = {"exists": letters.numbers()}
            return [Refuse(ref, ErrorBody("E_NOT_FOUND", text, details=details))]
        if topic == topics.DEAD_LETTERS_RETRY:
            return [RetryLetters(ref, numbers)]
        dropped, _ = letters.take(numbers, whole=False)
        return [Reply(ref, LettersDone(len(dropped)))]

    def _routes(self) -> dict[str, Any]:
        fleet, table = self._fleet, self._fleet.table
        heard = table.topics_heard()
        rules = fleet.settings.routes
        some_rules = _within(rules, lambda rule: len(rule.category) + _chars(rule.nodes or ()))
        some_topics = _within(
            list(heard.items())[:TOPICS_SHOWN_MAX],
            lambda entry: len(entry[0]) + _chars(entry[1][:SUBSCRIBERS_SHOWN_MAX]),
        )
        overrides = table.overrides()
        nodes = list(fleet.nodes.values())
        return {
            "version": table.version,
            "num_shards": fleet.num_shards,
            "rules": [rule.shown() for rule in some_rules],
            "nodes": [
                {
                    "id": node.name,
                    "epoch": node.epoch,
                    "registered": table.node(node.name) is not None,
                    "shards": ranges(node.shards),
                    "topics": len(table.topics(node.name)),
                }
                for node in nodes[:NODES_SHOWN_MAX]
            ],
            "clients": [owner.name for owner in table.peers() if not owner.epoch],
            "topics": {name: names[:SUBSCRIBERS_SHOWN_MAX] for name, names in some_topics},
            "overrides": {
                str(guild): name for guild, name in list(overrides.items())[:OVERRIDES_SHOWN_MAX]
            },
            "more": {
                "nodes": max(0, len(nodes) - NODES_SHOWN_MAX),
                "topics": len(heard) - len(some_topics),
                "rules": len(rules) - len(some_rules),
                "subscribers": {
                    name: len(names) - SUBSCRIBERS_SHOWN_MAX
                    for name, names in some_topics
                    if len(names) > SUBSCRIBERS_SHOWN_MAX
                },
                "overrides": max(0, len(overrides) - OVERRIDES_SHOWN_MAX),
            },
        }


def ranges(numbers: tuple[int, ...]) -> list[list[int]]:
    """Numbers as ranges, both ends included.

    >>> ranges((0, 1, 2, 5))
    [[0, 2], [5, 5]]
    """
    found = []
    for _, group in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        found.append([members[0], members[-1]])
    return found


def _chars(names: Iterable[str]) -> int:
    return sum(map(len, names))


def _within(items: Iterable[T], chars: Callable[[T], int]) -> list[T]:
    """The first of the items, as many as their names fit into the limit."""
    taken: list[T] = []
    left = NAMES_SHOWN_MAX_CHARS
    for item in items:
        left -= chars(item)
        if left < 0:
            break
        taken.append(item)
    return taken
