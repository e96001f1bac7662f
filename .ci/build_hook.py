"""Puts `broker` and `store` under `shardctl/_daemon/` in a wheel, and nowhere in an
editable install: there they are found in the checkout, and a folder `shardctl` among the
installed packages would hide the checkout's package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("broker", "store")


class DaemonInWheel(BuildHookInterface):
    """Named in pyproject.toml, [tool.hatch.build.targets.wheel.hooks.custom]."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for name in PACKAGES:
            folder = str(Path(self.root) / name)
            build_data["force_include"][folder] = f"shardctl/_daemon/{name}"
