"""The states of a shard: the table in the code, in ARCHITECTURE.md, and once more here."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from shard_node.wire.bodies import ShardState
from shard_node.wire.shard_states import OF_NODE, REPORTABLE, TRANSITIONS, ShardEvent, after

S = ShardState

TABLE = """
            permitted   ready resumed disconnected interrupted zombie deaf partly-deaf heard release   taken    retaken  closed drain    ended died hung spawned failed
queued      identifying -     -       queued       resuming    -      -    -           -     releasing -        -        lost   draining gone  dead hung -       -
identifying -           ready -       queued       resuming    -      -    -           -     releasing -        -        lost   draining gone  dead hung -       -
resuming    identifying -     ready   queued       resuming    -      -    -           -     releasing -        -        lost   draining gone  dead hung -       -
ready       -           -     -       queued       resuming    zombie deaf partly-deaf -     releasing -        -        lost   draining gone  dead hung -       -
zombie      -           -     -       queued       resuming    -      -    -           -     releasing -        -        lost   draining gone  dead hung -       -
deaf        -           -     -       queued       resuming    zombie -    -           ready releasing -        -        lost   draining gone  dead hung -       -
partly-deaf -           -     -       queued       resuming    zombie deaf -           ready releasing -        -        lost   draining gone  dead hung -       -
releasing   -           -     -       -            -           -      -    -           -     -         resuming resuming -      draining gone  dead hung -       -
draining    -           -     -       -            -           -      -    -           -     -         -        -        -      -        gone  dead hung -       -
lost        -           -     -       queued       resuming    -      -    -           -     releasing -        -        -      draining gone  dead hung queued  -
hung        -           -     -       -            -           -      -    -           -     -         -        -        -      -        -     dead -    -       -
dead        -           -     -       -            -           -      -    -           -     -         resuming -        -      -        -     -    -    queued  lost
gone        -           -     -       -            -           -      -    -           -     -         -        -        -      -        -     -    -    queued  -
"""  # noqa: E501


def read(lines: list[list[str]]) -> dict[tuple[str, str], str | None]:
    """A table of words: the events first, then a row for each state."""
    events, *rows = lines
    assert all(len(row) == len(events) + 1 for row in rows)
    return {
        (state, event): None if new in ("-", "") else new
        for state, *cells in rows
        for event, new in zip(events, cells, strict=True)
    }


EXPECTED = read([line.split() for line in TABLE.strip().splitlines()])


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ShardState, ShardEvent)))
def test_every_pair(state: ShardState, event: ShardEvent) -> None:
    assert after(state, event) == EXPECTED[state.value, event.value]


def test_nothing_else_is_in_the_tables() -> None:
    pairs = set(itertools.product(map(str, ShardState), map(str, ShardEvent)))
    assert EXPECTED.keys() == pairs
    assert {(str(s), str(e)) for s, e in TRANSITIONS} <= pairs


def test_the_architecture_shows_this_table() -> None:
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
    section = text.partition("## States of a shard")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    head, ruler, *body = cells
    assert all(re.fullmatch("-+", cell) for cell in ruler)
    assert read([head[1:], *body]) == EXPECTED


def test_every_state_is_reached_and_leads_back_to_ready() -> None:
    def reached(start: ShardState) -> set[ShardState]:
        seen = {start}
        for _ in ShardState:
            seen |= {new for (old, _), new in TRANSITIONS.items() if old in seen}
        return seen

    assert reached(S.QUEUED) == set(ShardState)
    assert all(S.READY in reached(state) for state in ShardState)


def test_a_living_process_reports_nothing_that_takes_its_end() -> None:
    assert REPORTABLE[S.QUEUED] == set(S) - {S.HUNG, S.DEAD, S.GONE}
    for ended in (S.DRAINING, S.HUNG, S.DEAD, S.GONE):
        assert REPORTABLE[ended] == {ended}
    processes = {ShardEvent.ENDED, ShardEvent.DIED, ShardEvent.HUNG}
    others = {ShardEvent.SPAWNED, ShardEvent.FAILED, ShardEvent.TAKEN}
    assert set(ShardEvent) - OF_NODE == processes | others
