"""How a transaction is undone: instructions that it leaves in its record."""

from __future__ import annotations

import msgspec


class Restore(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Undo by the before-image of a row. ``left``: the transaction left a row there."""

    key: bytes
    before: bytes | None
    left: bool


class Give(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Undo of money: add ``amount`` to an account, whatever happened to it since."""

    account: str
    amount: int


class Recount(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Undo of a source's or sink's total: add ``amount`` to it."""

    side: str
    name: str
    amount: int


Undo = Restore | Give | Recount
