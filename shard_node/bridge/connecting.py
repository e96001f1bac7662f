"""One connection of a shard after the other, until one is made."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import disnake
from disnake.errors import ConnectionClosed
from disnake.gateway import ReconnectWebSocket

from shard_node.bridge import permits
from shard_node.bridge.gateway import Attempt, NodeWebSocket, attempt_now
from shard_node.reconnect import FATAL, ReconnectPlan, Way

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

IDENTIFY_TIMEOUT_S: Final = 60.0
"""From opening the connection to the IDENTIFY sent, the author's hook included."""
RESUME_TIMEOUT_S: Final = 15.0
AHEAD_TIMEOUT_S: Final = 5.0
"""From opening a connection to its HELLO."""
PASSING: tuple[type[Exception], ...] = (
    OSError,
    disnake.HTTPException,
    disnake.GatewayNotFound,
    aiohttp.ClientError,
    asyncio.TimeoutError,
)
"""What another try may mend."""


class Last(Protocol):
    """What a shard's last connection left: of this process, or of the one before."""

    session_id: str | None
    sequence: int | None
    resume_gateway: str | None

    def forget_session(self) -> None:
        """The next connection IDENTIFYs."""
        ...


class Connecting:
    """Connects the shards of a bot. ``gateway`` is the URL for an IDENTIFY."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self.gateway: str | None = None
        self._plans: dict[int, ReconnectPlan] = {}

    def _plan(self, shard_id: int) -> ReconnectPlan:
        return self._plans.setdefault(shard_id, ReconnectPlan())

    def begin(self, shard_id: int) -> None:
        """The shard has come to this process."""
        self._plans.pop(shard_id, None)

    def ended(self, shard_id: int) -> None:
        """A connection was lost."""
        self._plan(shard_id).connection_ended(time.monotonic())

    def settled(self, shard_id: int) -> None:
        """READY or RESUMED came."""
        self._plan(shard_id).succeeded(time.monotonic())

    async def connected(self, shard_id: int, last: Last | None) -> NodeWebSocket | None:
        """A connection of the shard: tries as its plan says, until one is made.

        None once the node stops. Raises what no further try can mend.
        """
        hold, plan = self._hold, self._plan(shard_id)
        while not hold.stopping:
            has_session = last is not None and last.session_id is not None
            attempt = plan.next(has_session=has_session, spread=random.random())
            if attempt.delay_s:
                await asyncio.sleep(attempt.delay_s)
            if attempt.way is Way.IDENTIFY and last is not None:
                hold.forget(shard_id, last)
                hold.node.table.disconnected(shard_id, resumable=False)
            try:
                return await self._open(shard_id, attempt.way, last)
            except ReconnectWebSocket as error:
                if not error.resume and last is not None:
                    hold.forget(shard_id, last)
            except ConnectionClosed as error:
                if error.code in FATAL:
                    hold.fatal(shard_id, error.code)
                    raise
                _log.warning("shard %d: %s", shard_id, error)
            except PASSING as error:
                _log.warning("shard %d could not %s: %r", shard_id, attempt.way.value, error)
            plan.failed()
        return None

    async def ahead(self, shard_id: int, gateway: str) -> NodeWebSocket:
        """A connection that has had its HELLO and says nothing yet but heartbeats."""
        attempt = Attempt(None, held_back=True)
        token = attempt_now.set(attempt)
        opening = NodeWebSocket.from_client(
            self._hold.client, gateway=gateway, shard_id=shard_id, resume=True
        )
        try:
            return await asyncio.wait_for(opening, AHEAD_TIMEOUT_S)
        except BaseException:
            await attempt.abandon()
            raise
        finally:
            attempt_now.reset(token)

    async def _open(self, shard_id: int, way: Way, last: Last | None) -> NodeWebSocket:
        permit, node = None, self._hold.node
        if way is Way.IDENTIFY:
            permit = await permits.take(node, shard_id)
            node.table.permitted(shard_id)
            node.refresh()
        attempt = Attempt(permit)
        token = attempt_now.set(attempt)
        timeout_s = RESUME_TIMEOUT_S if permit is None else IDENTIFY_TIMEOUT_S
        try:
            return await asyncio.wait_for(self._from_client(shard_id, way, last), timeout_s)
        except BaseException:
            await attempt.abandon()
            raise
        finally:
            attempt_now.reset(token)
            if permit is not None:
                permit.close()

    async def _from_client(self, shard_id: int, way: Way, last: Last | None) -> NodeWebSocket:
        if way is Way.IDENTIFY or last is None:
            return await NodeWebSocket.from_client(
                self._hold.client, initial=last is None, gateway=self.gateway, shard_id=shard_id
            )
        return await NodeWebSocket.from_client(
            self._hold.client,
            gateway=last.resume_gateway if way is Way.RESUME else self.gateway,
            shard_id=shard_id,
            session=last.session_id,
            sequence=last.sequence,
            resume=True,
        )
