"""What an import loads: a bot's process and the command line pay for what they use."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``statement``."""
    code = f"{statement}\nimport sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import shard_node", {"disnake", "lmdb", "zmq", "msgspec", "aiohttp", "asyncio"}),
        ("import shard_node.wire.topics", {"disnake", "lmdb", "zmq", "aiohttp", "asyncio"}),
        ("import shardctl.__main__", {"disnake", "lmdb", "zmq", "rich", "aiohttp", "asyncio"}),
        ("import shard_node.client", {"disnake", "click", "rich", "lmdb"}),
    ],
)
def test_an_import_does_not_load_what_it_may_not_need(statement: str, heavy: set[str]) -> None:
    assert loaded(statement) & heavy == set()


@pytest.mark.slow
def test_the_synchronous_client_is_there_when_it_is_named() -> None:
    assert "msgspec" in loaded("import shard_node; shard_node.sync.connect")


@pytest.mark.slow
def test_the_supervisor_loads_the_standard_library_alone() -> None:
    found = loaded("import shardctl.supervisor.__main__, shardctl.supervisor.loop")
    ours = {"shardctl", "__main__"}
    started_with = loaded("pass")
    assert found - started_with - ours - sys.stdlib_module_names == set()


@pytest.mark.slow
def test_the_look_sees_what_is_loaded() -> None:
    assert "msgspec" in loaded("import shard_node.wire.codec")
