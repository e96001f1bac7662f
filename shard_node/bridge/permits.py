"""The broker's permission to IDENTIFY, taken before the connection is opened."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from shard_node.errors import ShardNodeError
from shard_node.runtime import Node
from shard_node.wire.bodies import IdentifySent, PermitGrant, PermitRequest, PermitReturn
from shard_node.wire.topics import IDENTIFY_SENT, PERMIT, PERMIT_RETURN

_log = logging.getLogger(__name__)

ASK_TIMEOUT_S: Final = 600.0
"""A place in the broker's queue; asked again when it is over."""
ASK_AGAIN_S: Final = 1.0


class PermitLapsed(TimeoutError):
    """The permit was not used in time; the broker has given its turn to others."""


class Permit:
    """One IDENTIFY of one shard. Used once before ``use_by``, or given back."""

    def __init__(self, node: Node, shard: int, number: int, use_by: float) -> None:
        self._node, self._shard, self._number = node, shard, number
        self._use_by = use_by
        self._left_at: float | None = None
        self._over = False

    def leaving(self) -> None:
        """The IDENTIFY is being sent: from now on it counts as sent, whatever happens.

        Raises PermitLapsed where that comes too late.
        """
        now = time.monotonic()
        if now > self._use_by:
            raise PermitLapsed(f"the permit of shard {self._shard} has lapsed")
        self._left_at = now

    def sent(self) -> None:
        """The IDENTIFY has left; its key's window runs from here."""
        self._left_at = time.monotonic()
        self.close()

    def close(self) -> None:
        """Report the sending, or give back what was not used. Twice does nothing."""
        if self._over:
            return
        self._over = True
        if self._left_at is None:
            self._node.send_event(PERMIT_RETURN, PermitReturn(self._number, self._shard))
            return
        ago_ms = (time.monotonic() - self._left_at) * 1000
        self._node.send_event(IDENTIFY_SENT, IdentifySent(self._number, self._shard, ago_ms))


async def take(node: Node, shard: int) -> Permit:
    """Wait until the broker lets ``shard`` IDENTIFY. A broker that is away is waited for."""
    question = PermitRequest(shard, node.num_shards)
    while True:
        try:
            grant: PermitGrant = await node.ask(
                PERMIT, question, timeout_s=ASK_TIMEOUT_S, renew=True
            )
        except ShardNodeError as error:
            _log.warning("shard %d waits for its IDENTIFY: %s", shard, error)
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return Permit(node, shard, grant.permit, time.monotonic() + grant.use_within_s)
