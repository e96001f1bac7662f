"""Is this disnake the one that the bridge can hold? Asked by name, before anything runs.

``needs`` lists what the bridge relies on. A version that moved one of them is refused with its
name, not met later as an AttributeError.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Final

from shard_node.bridge.needs import NEEDS, Need, Sets, Takes
from shard_node.errors import BridgeError

SUPPORTED: Final = "disnake>=2.12.2,<2.13"


def check(needs: tuple[Need | Sets | Takes, ...] = NEEDS) -> str:
    """The installed disnake's version. Raises BridgeError naming what it lacks."""
    try:
        version = str(importlib.import_module("disnake").__version__)
    except ImportError as error:
        raise BridgeError(
            f"disnake cannot be imported: {error}", hint=f"python -m pip install '{SUPPORTED}'"
        ) from error
    missing = [f"{need.owner.replace(':', '.')}: {need.name}" for need in needs if not _met(need)]
    if missing:
        raise BridgeError(
            f"disnake {version} lacks what shardctl takes hold of: {'; '.join(missing)}",
            hint=f"supported is {SUPPORTED}: python -m pip install '{SUPPORTED}'",
        )
    return version


def _met(need: Need | Sets | Takes) -> bool:
    owner = _find(need.owner)
    if owner is None:
        return False
    if isinstance(need, Need):
        return hasattr(owner, need.name)
    function = inspect.unwrap(getattr(owner, "__func__", owner))
    if isinstance(need, Takes):
        return need.name in inspect.signature(function).parameters
    code = getattr(function, "__code__", None)
    return code is not None and need.name in code.co_names


def _find(path: str) -> Any:
    module_name, _, inner = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError:
        return None
    for part in inner.split(".") if inner else ():
        found = getattr(found, part, None)
    return found
