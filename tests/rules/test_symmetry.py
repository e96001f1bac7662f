"""One primitive has one file name in every package that it touches."""

from __future__ import annotations

import pytest

from tests.rules.source import ROOT

# primitive -> where it must have a module of its name
PRIMITIVES: dict[str, tuple[str, ...]] = {
    "leases": ("shard_node", "broker/services"),
    "commands": ("shard_node/bridge", "broker/services"),
    "economy": ("shard_node/state", "shard_node/shared"),
    "guild_config": ("shard_node/state", "shard_node/shared"),
    "members": ("shard_node/state", "shard_node/shared"),
    "permissions": ("shard_node/state", "shard_node/shared"),
    "users": ("shard_node/state", "shard_node/shared"),
    "premium": ("shard_node/state", "shard_node/shared"),
    "cooldowns": ("shard_node/state", "shard_node/shared", "shard_node/bridge"),
    "moderation": ("shard_node/state", "shard_node/shared"),
}


@pytest.mark.parametrize(
    ("name", "room"), [(name, room) for name, rooms in PRIMITIVES.items() for room in rooms]
)
def test_a_primitive_has_its_name_everywhere(name: str, room: str) -> None:
    assert (ROOT / room / f"{name}.py").is_file()


def test_a_service_of_a_primitive_is_declared_here() -> None:
    """A service whose name a node's module shares is a primitive: it must be in the table."""
    services = {path.stem for path in (ROOT / "broker" / "services").glob("*.py")}
    mine = {
        path.stem for room in ("", "bridge") for path in (ROOT / "shard_node" / room).glob("*.py")
    }
    assert (services & mine) - {"__init__"} <= PRIMITIVES.keys()
