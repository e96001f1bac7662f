"""Who may send how much: bodies of CREDIT frames, which BATCH headers carry along.

A peer that has a BATCH to send anyway puts its credit into the header, so that a request and
its reply cost no frames but their own.
"""

from __future__ import annotations

import msgspec


class Handled(msgspec.Struct, array_like=True, frozen=True):
    """A receiver to the broker: totals since its registration, and its windows.

    ``size_bytes`` counts the second parts of the BATCH frames that came.
    """

    messages: int
    size_bytes: int
    window_messages: int
    window_bytes: int


Entry = tuple[int, int, str]
"""A BATCH that has left the broker: lane, seq and the routing id that it went to ("" where
it went to several or to nobody)."""


class Forwarded(msgspec.Struct, array_like=True, frozen=True):
    """The broker to a sender: BATCH frames that have left it."""

    frames: list[Entry]
