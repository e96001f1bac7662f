"""The bridge knows by name what it relies on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.bridge import check
from shard_node.errors import BridgeError


def test_the_installed_disnake_is_held() -> None:
    assert check.check().startswith("2.12.")


@pytest.mark.parametrize(
    ("need", "name"),
    [
        (check.Need("disnake.shard:Shard", "_moved"), "disnake.shard.Shard: _moved"),
        (check.Need("disnake.shard:Gone", "x"), "disnake.shard.Gone: x"),
        (check.Need("disnake.gone", "x"), "disnake.gone: x"),
        (check.Sets("disnake.shard:Shard.__init__", "_moved"), "__init__: _moved"),
        (
            check.Takes("disnake.gateway:DiscordWebSocket.from_client", "moved"),
            "from_client: moved",
        ),
    ],
)
def test_a_name_that_moved_is_told(need: Any, name: str) -> None:
    with pytest.raises(BridgeError) as caught:
        check.check((*check.NEEDS, need))
    assert name in str(caught.value)
    assert "2.12.2" in str(caught.value)
    assert check.SUPPORTED in caught.value.hint


def test_every_private_name_of_disnake_in_the_bridge_is_checked() -> None:
    """A private attribute that the bridge uses and `NEEDS` lacks would be found too late."""
    known = {need.name for need in check.NEEDS}
    bridge = Path(check.__file__).parent
    for path in bridge.glob("*.py"):
        tree = ast.parse(path.read_text())
        own = {name for node in ast.walk(tree) for name in _defined(node)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            if node.attr.startswith("__") or (
                isinstance(node.value, ast.Name) and (node.value.id == "self" and node.attr in own)
            ):
                continue
            assert node.attr in known | own, f"{path.name}:{node.lineno}: {node.attr}"


def _defined(node: Any) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id
