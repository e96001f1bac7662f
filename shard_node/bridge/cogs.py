"""Handlers that are methods of cogs: bound when the cog is loaded, gone when it is unloaded."""

from __future__ import annotations

import functools
from typing import Any

from disnake.ext.commands import Cog

from shard_node.peer.api import Peer
from shard_node.peer.marks import marked


def install(node: Peer) -> None:
    """Watch all cogs of the process for ``node``."""
    inject, eject = Cog._inject, Cog._eject

    @functools.wraps(inject)
    def held_inject(self: Cog, bot: Any) -> Cog:
        bind(node, self)
        try:
            return inject(self, bot)
        except BaseException:
            unbind(node, self)
            raise

    @functools.wraps(eject)
    def held_eject(self: Cog, bot: Any) -> None:
        unbind(node, self)
        eject(self, bot)

    Cog._inject = held_inject  # type: ignore[assignment,method-assign]
    Cog._eject = held_eject  # type: ignore[method-assign]


def bind(node: Peer, cog: object) -> None:
    """Register the marked methods of a cog; none of them where one cannot be."""
    unbind(node, cog)
    try:
        for mark, call in marked(cog):
            if mark.serves:
                node.serve(mark.topic, call)
            else:
                node.on(mark.topic, call)
    except Exception:
        unbind(node, cog)
        raise


def unbind(node: Peer, cog: object) -> None:
    """Take the marked methods of a cog away."""
    for mark, call in marked(cog):
        if mark.serves:
            node.unserve(mark.topic, call)
        else:
            node.off(mark.topic, call)
