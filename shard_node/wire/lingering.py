"""What processes tell each other of what waits in one that has given its shards up.

Such a process lingers: views, modals and waiters of its bot still expect interactions and
events that now come to the shard's new holder, who passes them on.
"""

from __future__ import annotations

from typing import Final

from shard_node.wire.bodies import Body

LINGER_MAX_S: Final = 900.0
"""So long does Discord take answers to an interaction (Interactions: Receiving and
Responding), and so long does a process linger."""

WHOLE: Final = "whole"
"""Nobody else handles the event."""
WAITERS: Final = "waiters"
"""The holder handles it as ever; it is a copy for those who wait for it."""


class Waits(Body, frozen=True):
    """What waits in the process ``owner``, which had ``shards``.

    ``components`` are (message id, custom_id), 0 where the message is not known; ``modals``
    (user, custom_id), 0: any user; ``sent`` messages that it sent and interactions that it
    answered; ``channels`` where it said something or still handles an event; ``kinds`` events
    that somebody waits for, as disnake names them. ``whole``: in place of what was told
    before, else in addition. ``over``: the process ends.
    """

    owner: str
    num_shards: int
    shards: tuple[int, ...]
    components: tuple[tuple[int, str], ...] = ()
    modals: tuple[tuple[int, str], ...] = ()
    sent: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    whole: bool = True
    over: bool = False


class Living(Body, frozen=True):
    """All that waits for events of a shard, as its journal has it."""

    waits: tuple[Waits, ...] = ()


class LingerEvent(Body, frozen=True):
    """An event for a process that lingers; ``raw`` is the gateway's text, ``mode`` WHOLE or
    WAITERS."""

    shard: int
    num_shards: int
    event: str
    raw: bytes
    mode: str = WHOLE


class GatewayOp(Body, frozen=True):
    """A process without a connection asks the shard's holder to send ``payload``, JSON, to the
    gateway. What comes back under its nonce is for ``owner``; ``cache``: who keeps it."""

    owner: str
    shard: int
    num_shards: int
    payload: bytes
    cache: bool = False
