"""Deaf shards of a real bot on the sandbox: found, told, RESUMEd, IDENTIFYd."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import topics
from shard_node.wire.health import OthersReply
from tests.node.fake_broker import FakeBroker
from tests.node.held import held
from tests.node.processes import BOTS, node
from tests.support.sandbox import call
from tests.support.waiting import wait_for

WHOLE = os.environ.get("SHARDCTL_HEARING") == "full"
"""`make soak`: what takes real time, and of which the others are nearly the whole."""
RATE = 10.0
LEARN_S = 12.0
WITHIN_S = 30.0
SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip
READY = {0: "ready", 1: "ready"}


@contextmanager
def running(
    info: dict[str, Any], broker: FakeBroker, folder: Path, bot: str = "", **env: str
) -> Iterator[None]:
    """A node with journals, both shards ready, events flowing for LEARN_S."""
    broker.answers[topics.SHARD_OTHERS] = lambda _seen: OthersReply(0, 0)
    (folder / "main.py").write_text(bot + (BOTS / "run_at_end.py").read_text())
    with node(broker, folder, "main.py", info=info, SHARDCTL_JOURNAL_DIR=str(folder), **env):
        wait_for("both shards ready", lambda: broker.shard_states("a") == READY, 30)
        load = {"interactions_per_s": 0, "events_per_s": 2 * RATE, "seconds": 120}
        call(info, "/load", load)
        time.sleep(LEARN_S)  # what is learned is a rate, over real time
        yield


def told(broker: FakeBroker) -> list[str]:
    return [one.body.what for one in broker.of(topics.SHARD_HEALTH)]


def last(broker: FakeBroker) -> dict[int, str]:
    return {one.body.shard: one.body.what for one in broker.of(topics.SHARD_HEALTH)}


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [False, True] if WHOLE else [True])
def test_a_deaf_shard_recovers_within_30_s(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path, *, sticky: bool
) -> None:
    with running(info, broker, tmp_path):
        since = time.monotonic()
        call(info, "/trouble", {"kind": "deaf", "shard": 1, "sticky": sticky})
        identifies = 3 if sticky else 2

        def well() -> bool:
            audit = call(info, "/audit")
            cured = audit["resumes"] == 1 and audit["identifies"] == identifies
            return cured and broker.shard_states("a") == READY

        wait_for("its cure", well, WITHIN_S)
        assert time.monotonic() - since < WITHIN_S
        assert told(broker) == ["deaf"] * (2 if sticky else 1)
        assert {one.body.shard for one in broker.of(topics.SHARD_HEALTH)} == {1}
        time.sleep(10)  # nothing else follows
        assert call(info, "/audit")["identifies"] == identifies
        assert len(told(broker)) == (2 if sticky else 1)


@pytest.mark.slow
@pytest.mark.skipif(not WHOLE, reason="runs in make soak")
def test_a_shard_that_is_not_judged_stays_deaf(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path
) -> None:
    with running(info, broker, tmp_path, SHARDCTL_DEAF="0"):
        call(info, "/trouble", {"kind": "deaf", "shard": 1, "sticky": False})
        time.sleep(20)
        assert told(broker) == []
        assert call(info, "/audit")["resumes"] == 0


QUICK = """
from shard_node import missing
missing.KNOWN_S, missing.SEEN_MIN, missing.MISSED, missing.SILENCE_MIN_S = 8.0, 20, 10.0, 4.0
missing.ASK_EVERY_S = 2.0
"""
"""The same on a scale of seconds instead of hours."""


@pytest.mark.skipif(not WHOLE, reason="runs in make soak")
@pytest.mark.slow
def test_a_partly_deaf_shard_resumes_where_others_get_the_type(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path
) -> None:
    with running(info, broker, tmp_path, QUICK):
        call(info, "/trouble", {"kind": "deaf", "shard": 1, "events": ["MESSAGE_CREATE"]})
        wait_for("the alarm", lambda: "partly-deaf" in told(broker), 20)
        wait_for("the RESUME", lambda: call(info, "/audit")["resumes"] >= 1, 20)
        wait_for("it to be well", lambda: broker.shard_states("a") == READY, 10)
        first = broker.of(topics.SHARD_HEALTH)[0].body
        assert (first.shard, first.what) == (1, "partly-deaf")
        assert "MESSAGE_CREATE" in first.detail
        assert call(info, "/audit")["identifies"] == 2


@pytest.mark.skipif(not WHOLE, reason="runs in make soak")
@pytest.mark.slow
def test_a_type_that_ends_for_everybody_is_only_said(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path
) -> None:
    with running(info, broker, tmp_path, QUICK):
        for shard in (0, 1):
            call(info, "/trouble", {"kind": "deaf", "shard": shard, "events": ["MESSAGE_CREATE"]})
        wait_for("both alarms", lambda: told(broker) == ["partly-deaf"] * 2, 20)
        time.sleep(8)
        assert call(info, "/audit")["resumes"] == 0
        assert broker.shard_states("a") == {0: "partly-deaf", 1: "partly-deaf"}
        call(info, "/trouble", {"kind": "deaf", "off": True})
        wait_for("both to be heard", lambda: last(broker) == {0: "heard", 1: "heard"}, 40)


def test_rates_go_through_the_journal(tmp_path: Path) -> None:
    async def live() -> None:
        async with held(tmp_path) as process:
            await process.begin()
            process.keeping.journals[0].pulse(b"rates")
            process.keeping.journals[0].flush()
        async with held(tmp_path, epoch=2) as process:
            assert await process.begin() is None  # there is no session, but the rates are
            assert process.keeping.journals[0].story.pulse == b"rates"

    asyncio.run(live())
