"""The environment of a node: types, defaults, and what is wrong by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import shard_node
from shard_node import lone
from shard_node.memory import rss_bytes
from shard_node.settings import NotANode, read_settings

GOOD = {
    "SHARDCTL_ENDPOINT": "ipc:///x",
    "SHARDCTL_NODE": "a",
    "SHARDCTL_EPOCH": "7",
    "SHARDCTL_SHARDS": "0,1,1",
    "SHARDCTL_NUM_SHARDS": "4",
    "SHARDCTL_BOT_FOLDER": "/bot",
    "SHARDCTL_BOT_TARGET": "main.py",
}


def test_settings_have_their_types_and_defaults() -> None:
    settings = read_settings({**GOOD, "SHARDCTL_LIFELINE_FD": "5"})
    assert (settings.shards, settings.num_shards, settings.epoch) == ((0, 1), 4, 7)
    assert (settings.folder, settings.lifeline_fd, settings.sandbox) == (Path("/bot"), 5, False)
    assert read_settings(GOOD).lifeline_fd is None
    assert read_settings(GOOD).role == "first"
    assert read_settings({**GOOD, "SHARDCTL_ROLE": "successor"}).role == "successor"
    assert read_settings({**GOOD, "SHARDCTL_SHARDS": ""}).shards == ()
    assert not read_settings(GOOD).debug
    assert read_settings({**GOOD, "SHARDCTL_DEBUG": "1"}).debug


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SHARDCTL_NODE": ""}, "SHARDCTL_NODE not set"),
        ({"SHARDCTL_NODE": "A B"}, "no node name"),
        ({"SHARDCTL_EPOCH": "x"}, "SHARDCTL_EPOCH='x'"),
        ({"SHARDCTL_SHARDS": "4"}, "below 4"),
        ({"SHARDCTL_SHARDS": "0,,1"}, "SHARDCTL_SHARDS"),
        ({"SHARDCTL_NUM_SHARDS": "0"}, "from 1"),
        ({"SHARDCTL_ROLE": "third"}, "SHARDCTL_ROLE='third'"),
        ({"SHARDCTL_DRAIN_S": "soon"}, "seconds"),
        ({"SHARDCTL_DRAIN_S": "nan"}, "seconds"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, str], words: str) -> None:
    with pytest.raises(NotANode, match=words):
        read_settings({**GOOD, **change})


def test_a_process_outside_a_fleet_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lone, "_current", None)
    assert shard_node.node is None
    with pytest.raises(AttributeError):
        _ = shard_node.nothing


def test_memory_is_what_the_system_says() -> None:
    assert 1 << 20 < rss_bytes() < 1 << 34
