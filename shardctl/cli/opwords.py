"""What the answer of `op.show` says, in words. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shardctl.cli.columns import safe
from shardctl.cli.report import counted, ranges

Shown = Mapping[str, Any]
DONE: Final = "done"
RESPAWN: Final = "respawn"
SCALE: Final = "scale"
GUILD_KINDS: Final = frozenset({"migrate", "follow"})
"""Operations of one guild."""
FAILED: Final = frozenset({"failed", "reverted", "cancelled"})
OVER: Final = FAILED | {DONE}
HELD: Final = "held"
RUNNING: Final = "running"
PHASES: Final = {
    "": 0, "warming": 1, "warm": 2, "armed": 3, "releasing": 4, "released": 4, "taking": 5, HELD: 6,
    "retaken": 0, "failed": 0,
}  # fmt: skip
"""How far a shard is, of PHASES_ALL."""
PHASES_ALL: Final = PHASES[HELD]
TAIL_LINES: Final = 5
NAMES_MAX: Final = 4


class Bar(NamedTuple):
    """One shard's way."""

    shard: int
    node: str
    phase: str
    done: int


def is_over(shown: Shown) -> bool:
    """Whether nothing more comes of it."""
    return shown["state"] in OVER


def of_shards(shown: Shown) -> Iterator[tuple[Shown, Shown]]:
    """Each shard's progress with its step."""
    for step in shown["steps"]:
        for one in step["progress"]:
            yield step, one


WORDS: Final = {"": "waits", HELD: "ready"}
"""What people are told of a phase, where its name is not the word."""


def phase_word(phase: str) -> str:
    """A phase for people."""
    return WORDS.get(phase, phase)


def bars(shown: Shown) -> list[Bar]:
    """The shards of the steps that run."""
    return [
        Bar(one["shard"], step["target"], phase_word(one["phase"]), PHASES.get(one["phase"], 0))
        for step, one in of_shards(shown)
        if step["state"] == RUNNING
    ]


def held_count(shown: Shown) -> tuple[int, int]:
    """Shards that are where they shall be, and all."""
    total = sum(len(step["shards"]) for step in shown["steps"])
    held = 0
    for step in shown["steps"]:
        phases = [one["phase"] for one in step["progress"]]
        held += len(step["shards"]) if step["state"] == DONE else phases.count(HELD)
    return held, total


def how(one: Shown) -> str:
    """`resumed in 84 ms`, `identified`; empty where it is not known, as after a restart."""
    if one["identified"]:
        return "identified"
    return f"resumed in {one['gap_ms']:.0f} ms" if one["gap_ms"] >= 0 else ""


class Told:
    """From one answer to the next: what is new, in lines. Pure. ``others`` are all operations,
    asked for where one waits."""

    def __init__(self, others: Callable[[], Sequence[Shown]] = list) -> None:
        self._others = others
        self._said: set[object] = set()
        self._ready = 0

    def lines(self, shown: Shown) -> list[str]:
        """What has happened since the last one."""
        lines = []
        if shown["state"] == "waiting" and self._first("waiting"):
            lines.append(f"{shown['op']} waits for {before(shown, self._others())}")
        total = sum(len(step["shards"]) for step in shown["steps"])
        for number, step in enumerate(shown["steps"]):
            if step["state"] == RUNNING and self._first(("begun", number)):
                lines += _begins(shown, number, step)
            for one in step["progress"]:
                if one["phase"] == HELD and self._first(("held", number, one["shard"])):
                    self._ready += 1
                    words = [f"shard {one['shard']} ready on node {step['target']}", how(one)]
                    lines.append(f"{', '.join(filter(None, words))} ({self._ready} of {total})")
            if step["state"] in OVER and self._first(("over", number)):
                lines += _done(shown, number) if step["state"] == DONE else ends(step)
        return lines

    def _first(self, what: object) -> bool:
        new = what not in self._said
        self._said.add(what)
        return new


def _begins(shown: Shown, number: int, step: Shown) -> list[str]:
    """Which node it is now; of a single one, and of moves, there is nothing new to say."""
    count = len(shown["steps"])
    if shown["kind"] == SCALE and not step["shards"]:
        return [f"node {step['node']} {'starts' if starts(shown, number) else 'ends'}"]
    if shown["kind"] != RESPAWN or count == 1:
        return []
    return [f"node {step['node']} begins ({number + 1} of {count})"]


def _done(shown: Shown, number: int) -> list[str]:
    """What nobody sees by its shards: nodes that are there, and those that are not."""
    step = shown["steps"][number]
    if shown["kind"] != SCALE or step["shards"]:
        return []
    return [f"node {step['node']} {'is up' if starts(shown, number) else 'has ended'}"]


def starts(shown: Shown, number: int) -> bool:
    """Whether a step of a scale that has no shards starts its node. One that was started for
    nothing ends again, in a step of its own."""
    name = shown["steps"][number]["node"]
    before = {step["node"] for step in shown["steps"][:number] if not step["shards"]}
    return name in shown["args"].get("start", ()) and name not in before


def before(shown: Shown, others: Sequence[Shown]) -> str:
    """The operations that one waits for: `op-1, op-2`; ``others`` have the latest first."""
    shards, nodes = set(shards_of(shown)), set(nodes_of(shown))
    found = [
        str(one["op"])
        for one in others
        if not is_over(one)
        and number_of(one) < number_of(shown)
        and (shards.intersection(shards_of(one)) or nodes.intersection(nodes_of(one)))
    ]
    return ", ".join(reversed(found)) or "its turn"


def number_of(shown: Shown) -> int:
    """12 of op-12."""
    return int(shown["op"].removeprefix("op-"))


def ends(step: Shown) -> list[str]:
    """A step that did not succeed, with the last lines of its process."""
    reason = f": {step['reason']}" if step["reason"] not in ("", step["state"]) else ""
    tail = [safe(line) for line in step["tail"][-TAIL_LINES:]]
    return [f"node {step['node']} {step['state']}{safe(reason)}", *(f"    | {x}" for x in tail)]


def header(shown: Shown) -> str:
    """What somebody waits for: `op-12 respawn: nodes a b, shards 0-3`."""
    if shown["kind"] in GUILD_KINDS:
        (step,) = shown["steps"]
        way = f"from node {step['node']} to node {step['target']}"
        return f"{shown['op']} {shown['kind']}: guild {shown['args']['guild']} {way}"
    names = nodes_of(shown)
    words = f"node{'s' * (len(names) != 1)} {some(names)}"
    return f"{shown['op']} {shown['kind']}: {words}, shards {ranges(shards_of(shown))}"


def shards_of(shown: Shown) -> list[int]:
    """The shards that it is about, each once."""
    return sorted({shard for step in shown["steps"] for shard in step["shards"]})


def some(names: Sequence[str]) -> str:
    """The first names, and how many more.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e", "f"])
    ('a b', 'a b c d and 2 more')
    """
    more = len(names) - NAMES_MAX
    return " ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def nodes_of(shown: Shown) -> list[str]:
    """The nodes that it is about, each once."""
    both = (name for step in shown["steps"] for name in (step["node"], step["target"]))
    return list(dict.fromkeys(both))


def summary(shown: Shown) -> str:
    """The end in a line: `op-12 done: 4 shards, 0 IDENTIFYs, gap median 61 ms, max 88 ms`.

    What a shard's hand-over took is known where there was one, not after a restart.
    """
    if shown["state"] != DONE:
        said = (one["reason"] for one in (shown, *shown["steps"]))
        why = next((reason for reason in said if reason and reason != shown["state"]), "")
        return f"{shown['op']} {shown['state']}" + (f": {safe(why)}" if why else "")
    if shown["kind"] in GUILD_KINDS:
        return f"{shown['op']} done: {of_guild(shown)}"
    progress = [one for _, one in of_shards(shown)]
    count = counted(sum(len(step["shards"]) for step in shown["steps"]), "shard")
    parts = [count if shown["kind"] == RESPAWN else f"{count} moved"]
    gaps = [one["gap_ms"] for one in progress if one["gap_ms"] >= 0]
    identified = sum(one["identified"] for one in progress)
    if gaps or identified:
        parts.append(counted(identified, "IDENTIFY"))
    if gaps:
        parts.append(f"gap median {statistics.median(gaps):.0f} ms, max {max(gaps):.0f} ms")
    return f"{shown['op']} done: {', '.join(parts)}"


def of_guild(shown: Shown) -> str:
    """Of a guild's way that is done: `guild 7 is handled by node c: held for 14 ms, 3 events
    waited`."""
    (step,), args = shown["steps"], shown["args"]
    words = [f"guild {args['guild']} is handled by node {step['target']}"]
    if args.get("held_ms", -1.0) >= 0:
        waited = counted(int(args.get("held", 0)), "event")
        words.append(f"held for {args['held_ms']:.0f} ms, {waited} waited")
    if args.get("interrupted"):
        words.append(f"not handled to the end: {safe(args['interrupted'])}")
    return ": ".join(words[:2]) + "".join(f"; {one}" for one in words[2:])


def what_they_run(found: Sequence[tuple[Shown, Shown]]) -> list[str]:
    """What became of the nodes of steps that did not succeed, by the status of each."""
    same: dict[str, list[str]] = {}
    for step, node in found:
        same.setdefault(_what_it_runs(step, node), []).append(node["id"])
    return [f"node{'s' * (len(names) != 1)} {some(names)}: {runs}" for runs, names in same.items()]


def _what_it_runs(step: Shown, node: Shown) -> str:
    if step["target"] != step["node"]:
        stays = set(step["shards"]) <= set(node["shards"])
        return f"{_shards(step)} {'still' if stays else 'not any more'} there"
    if node["state"] != "up":
        return str(node["state"])
    if not step["old_epoch"]:
        return "up"
    if node["epoch"] == step["old_epoch"]:
        return "the old process goes on"
    return f"a new process, #{node['epoch']}"


def waits_for(shown: Shown) -> str:
    """Where it is: `shard 3 armed; shard 4 waits`."""
    found = [f"shard {bar.shard} {bar.phase}" for bar in bars(shown) if bar.done < PHASES_ALL]
    return "; ".join(found[:4]) or str(shown["state"])


def _shards(step: Shown) -> str:
    return f"shard{'s' * (len(step['shards']) != 1)} {ranges(step['shards'])}"
