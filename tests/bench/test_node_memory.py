"""The benchmark's first promise, once: memory does not need many runs to be seen."""

from __future__ import annotations

import argparse
import sys

import pytest

from tests.bench import node_cost


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_node_takes_little_more_than_plain_disnake() -> None:
    options = argparse.Namespace(events_per_s=300.0, seconds=2.0)
    costs = {kind: node_cost.measure(kind, options) for kind in ("plain", "node")}
    assert costs["plain"].events == costs["node"].events > 500
    assert costs["plain"].heard == costs["node"].heard > 0
    more = costs["node"].anon_bytes - costs["plain"].anon_bytes
    assert more <= node_cost.MEMORY_LIMIT_BYTES
