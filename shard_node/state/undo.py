"""How a transaction is undone: instructions that it leaves in its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import structs


class Restore(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Undo by the before-image of a row. ``left`` is the origin of what the transaction left
    there; ``gone``, where there was no row before, that of the absence."""

    key: bytes
    before: bytes | None
    left: int
    gone: int = 0


class Give(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Undo of money: add ``amount`` to an account, whatever happened to it since."""

    account: str
    amount: int


class Recount(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Undo of a source's or sink's total: add ``amount`` to it."""

    side: str
    name: str
    amount: int


class Mark(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Undo of a rollback's mark on the transaction ``tx``: from ``left`` back to ``by``."""

    tx: int
    by: int
    left: int


class Floor(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Undo of an account's limit: ``floor`` again, that ``origin`` set, where it is still as
    ``left`` set it. The balance stays as it is."""

    account: str
    floor: int
    origin: int
    left: int


Undo = Restore | Give | Recount | Mark | Floor


def merged(instructions: Sequence[Undo]) -> list[Undo]:
    """One instruction for each thing: amounts added up, of other changes the first's before.

    So their order does not matter, and an account needs no more than the transaction's net.
    """
    if len(instructions) == 2:
        one, other = instructions
        if type(one) is type(other) is Give and one.account != other.account:
            return [one, other]  # of a transfer: nearly all are one, and this way is short
    found: dict[tuple[object, ...], Undo] = {}
    for new in instructions:
        name = (type(new), *_NAMES[type(new)](new))
        known = found.get(name)
        found[name] = new if known is None else _joined(known, new)
    return [one for one in found.values() if not isinstance(one, Give | Recount) or one.amount]


def _joined(first: Undo, new: Undo) -> Undo:
    if isinstance(first, Give | Recount) and isinstance(new, Give | Recount):
        return structs.replace(first, amount=first.amount + new.amount)
    if isinstance(first, Mark | Floor) and isinstance(new, Mark | Floor):
        return structs.replace(first, left=new.left)
    return first


_NAMES: Final[dict[type[Undo], Callable[[Any], tuple[object, ...]]]] = {
    Restore: lambda undo: (undo.key,),
    Give: lambda undo: (undo.account,),
    Recount: lambda undo: (undo.side, undo.name),
    Mark: lambda undo: (undo.tx,),
    Floor: lambda undo: (undo.account,),
}
