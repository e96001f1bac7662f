"""redis-server that keeps nothing on disk: for what is read, and what a crash may forget."""

from __future__ import annotations

from typing import ClassVar

from tests.bench.contenders import redis_disk

Member = redis_disk.Member


class Server(redis_disk.Server):
    """The same records."""

    settings: ClassVar[tuple[str, ...]] = ("--appendonly", "no")
