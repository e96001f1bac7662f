"""Who may import whom, as ARCHITECTURE.md says it, read from the import statements."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.rules.source import ROOT, Module, inside, modules

STDLIB = sys.stdlib_module_names

# The most specific room wins. None: the standard library alone.
ALLOWED: dict[str, set[str]] = {
    "shard_node.wire": {"shard_node.wire", "msgspec"},
    "shard_node.state": {"shard_node.state", "shard_node.errors", "msgspec"},
    "shard_node.sandbox": {"shard_node.sandbox", "aiohttp"},
    "shard_node.testing": {"shard_node", "pytest", "aiohttp", "disnake"},
    "shard_node.examples": {"shard_node", "disnake", "msgspec"},
    "shard_node.bridge": {"shard_node", "disnake", "aiohttp", "msgspec", "dotenv"},
    "shard_node": {"shard_node", "zmq", "lmdb", "msgspec", "aiohttp", "psutil", "dotenv"},
    "store": {"store", "shard_node.wire", "shard_node.state", "lmdb", "msgspec"},
    "broker.core": {"broker.core", "shard_node.wire", "shard_node.state", "msgspec"},
    "broker.services": {
        "broker.core",
        "broker.services",
        "shard_node.wire",
        "shard_node.state",
        "msgspec",
        # The store's records are plain structs; the services say what to keep in their terms.
        "store.records",
    },
    "broker": {"broker", "shard_node.wire", "shard_node.state", "store", "msgspec"},
    # Look which journals of nodes can be resumed.
    "broker.config": {
        "broker",
        "shard_node.wire",
        "shard_node.state",
        "shard_node.journal.found",
        "store",
        "msgspec",
    },
    "shardctl.cli.plan": {
        "shardctl",
        "shard_node.wire",
        "shard_node.journal.found",
        "shard_node.shared.clock",
        "click",
    },
    "shardctl.supervisor": {"shardctl.supervisor", "shardctl.launch", "shardctl.paths"},
    "shardctl.cli.sandbox": {"shardctl", "shard_node.sandbox", "click", "rich"},
    # Asks as a program of a bot's author does.
    "shardctl.cli.invoke": {"shardctl", "shard_node", "click"},
    # Measures through the public API, as a program of a bot's author does.
    "shardctl.bench": {"shardctl", "shard_node", "msgspec"},
    # Works on the state's files, in a process of its own that the command line starts.
    "shardctl.offline": {"shardctl", "shard_node.state", "store", "lmdb"},
    "shardctl": {
        "shardctl",
        "shard_node.wire",
        "shard_node.state",
        "click",
        "rich",
        "zmq",
        "msgspec",
        "dotenv",
    },
}

PURE = ("broker.core", "broker.services", "shard_node.wire", "shard_node.state")
PURE_MODULES = (
    "shard_node.affinity",
    "shard_node.guest",
    "shard_node.handing",
    "shard_node.journal.frames",
    "shard_node.journal.index",
    "shard_node.journal.merge",
    "shard_node.journal.records",
    "shard_node.journal.story",
    "shard_node.journal.tables",
    "shard_node.peer.addresses",
    "shard_node.peer.answers",
    "shard_node.peer.asks",
    "shard_node.peer.failures",
    "shard_node.peer.inbox",
    "shard_node.peer.senders",
    "shard_node.peer.lines",
    "shard_node.peer.outbox",
    "shard_node.means",
    "shard_node.missing",
    "shard_node.outbound",
    "shard_node.pulse",
    "shard_node.rates",
    "shard_node.session",
    "shard_node.shared.changes",
    "shard_node.shared.feeds",
    "shard_node.shared.log",
    "shard_node.shared.select",
    "shard_node.sandbox.answers",
    "shard_node.sandbox.archive",
    "shard_node.sandbox.audit",
    "shard_node.sandbox.buckets",
    "shard_node.sandbox.changes",
    "shard_node.sandbox.components",
    "shard_node.sandbox.compression",
    "shard_node.sandbox.crowd",
    "shard_node.sandbox.gestures",
    "shard_node.sandbox.ledger",
    "shard_node.sandbox.memory",
    "shard_node.sandbox.modals",
    "shard_node.sandbox.registry",
    "shard_node.sandbox.witness",
    "shard_node.sandbox.gate",
    "shard_node.sandbox.interactions",
    "shard_node.sandbox.session",
    "shard_node.sandbox.world",
)
IMPURE = {
    "zmq", "lmdb", "asyncio", "socket", "time", "random", "threading", "os", "subprocess",
    "selectors", "signal",
}  # fmt: skip


def room_of(name: str) -> str:
    return max((room for room in ALLOWED if inside(name, room)), key=len)


def strangers(module: Module) -> set[str]:
    """Imports of a module that its room does not allow."""
    allowed = ALLOWED[room_of(module.name)]
    return {
        name
        for name in module.imports()
        if name.partition(".")[0] not in STDLIB
        and not any(inside(name, room) for room in allowed)
        and not any(inside(room, name) for room in allowed)
    }


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_a_module_imports_what_its_room_may(module: Module) -> None:
    assert strangers(module) == set()


@pytest.mark.parametrize(
    "module",
    [m for m in modules() if any(inside(m.name, room) for room in PURE + PURE_MODULES)],
    ids=lambda m: m.name,
)
def test_a_pure_module_takes_time_and_the_world_as_arguments(module: Module) -> None:
    assert {name.partition(".")[0] for name in module.imports()} & IMPURE == set()


@pytest.mark.parametrize("name", PURE_MODULES)
def test_the_pure_modules_are_where_the_rule_looks(name: str) -> None:
    assert any(inside(m.name, name) for m in modules()), f"{name} moved; mend PURE_MODULES"


def test_disnake_is_imported_by_the_bridge_alone() -> None:
    rooms = ("shard_node.bridge", "shard_node.examples", "shard_node.testing")
    offenders = [
        module.name
        for module in modules()
        if any(inside(name, "disnake") for name in module.imports())
        and not any(inside(module.name, room) for room in rooms)
    ]
    assert offenders == []


def test_the_rule_sees_a_stranger(tmp_path: Path) -> None:
    """A planted import is found, whatever its form, and type-checking ones are not."""
    source = (
        "import zmq.asyncio\nfrom store import writer\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lmdb\n"
        "def f():\n    import disnake\n"
    )
    planted = Module("broker.core.planted", tmp_path / "planted.py", ast.parse(source))
    assert strangers(planted) == {"zmq.asyncio", "store", "store.writer", "disnake"}


def test_the_top_level_holds_what_it_may() -> None:
    fixed = {
        "pyproject.toml", "shardctl", "broker", "shard_node", "store", "tests", "man",
        "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci",
        ".git", ".gitignore",
    }  # fmt: skip
    made = {".venv", "build", "dist", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    assert {path.name for path in ROOT.iterdir()} - made - fixed == {
        name for name in ("__pycache__",) if (ROOT / name).exists()
    }
