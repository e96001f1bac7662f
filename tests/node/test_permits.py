"""Permits: used once, given back, never after their time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from shard_node.bridge import permits
from shard_node.errors import RequestFailed
from shard_node.wire import bodies, topics


class Fleet:
    """A node that keeps what is told and answers as the test says."""

    num_shards = 4

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.told: list[tuple[str, Any]] = []

    def send_event(self, topic: str, body: Any) -> None:
        self.told.append((topic, body))

    async def ask(self, topic: str, body: Any, *, timeout_s: float, renew: bool) -> Any:
        assert (topic, body) == (topics.PERMIT, bodies.PermitRequest(3, 4))
        assert renew
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def permit(fleet: Fleet, lasts_s: float = 30.0) -> permits.Permit:
    return permits.Permit(fleet, 3, 9, time.monotonic() + lasts_s)  # type: ignore[arg-type]


def test_a_sent_identify_is_told_once() -> None:
    fleet = Fleet()
    used = permit(fleet)
    used.leaving()
    used.sent()
    used.close()
    ((topic, body),) = fleet.told
    assert topic == topics.IDENTIFY_SENT
    assert (body.permit, body.shard) == (9, 3)
    assert 0 <= body.ago_ms < 100


def test_an_unused_permit_is_given_back_once() -> None:
    fleet = Fleet()
    unused = permit(fleet)
    unused.close()
    unused.close()
    assert fleet.told == [(topics.PERMIT_RETURN, bodies.PermitReturn(9, 3))]


def test_an_identify_that_may_have_left_counts_as_sent() -> None:
    fleet = Fleet()
    used = permit(fleet)
    used.leaving()  # the send failed half-way
    used.close()
    assert fleet.told[0][0] == topics.IDENTIFY_SENT


def test_a_lapsed_permit_is_not_used() -> None:
    fleet = Fleet()
    late = permit(fleet, lasts_s=-0.001)
    with pytest.raises(permits.PermitLapsed):
        late.leaving()
    late.close()
    assert fleet.told[0][0] == topics.PERMIT_RETURN


def test_it_asks_until_it_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "ASK_AGAIN_S", 0.0)
    fleet = Fleet(RequestFailed("busy"), RequestFailed("busy"), bodies.PermitGrant(7, 30.0))
    taken = asyncio.run(permits.take(fleet, 3))  # type: ignore[arg-type]
    taken.close()
    assert fleet.told == [(topics.PERMIT_RETURN, bodies.PermitReturn(7, 3))]
