"""How many processes hold a fleet's shards."""

from __future__ import annotations

import doctest

import pytest

from shard_node.wire import sizing


@pytest.mark.parametrize(
    ("shards", "asked", "nodes_max", "sandbox", "nodes"),
    [
        (1, None, 8, False, 1),
        (16, None, 8, False, 2),
        (17, None, 8, False, 3),
        (400, None, 3, False, 3),
        (400, None, 1, False, 1),
        (4, None, 2, True, 2),
        (1, None, 2, True, 1),
        (4, 3, 1, False, 3),
        (2, 5, 8, False, 2),
    ],
)
def test_how_many_nodes(
    shards: int, asked: int | None, nodes_max: int, sandbox: bool, nodes: int
) -> None:
    assert sizing.node_count(shards, asked=asked, nodes_max=nodes_max, sandbox=sandbox) == nodes


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(sizing).failed == 0
