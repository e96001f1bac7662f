"""What an operation may be refused with; nothing is written then. One class for each reason.

They travel by ``code``; ``details`` hold what a program needs to know.
"""

from __future__ import annotations

from typing import Any, Final

from shard_node.errors import ShardNodeError


class StateError(ShardNodeError):
    """Root of the refusals of the state. ``details`` are plain values."""

    code = "E_STATE"
    hint = "nothing was written; the message says what was refused"

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message, hint=hint)
        self.details = details


class BadName(StateError):
    """A name or an id that no row can have."""

    code = "E_BAD_NAME"
    hint = "names are printable text of 1 to 200 bytes, ids whole numbers as Discord gives them"


class BadValue(StateError):
    """A field of a wrong type, an unknown field, or a value that is too large."""

    code = "E_BAD_VALUE"
    hint = "correct what the message names and try again; nothing was written"


class BadAmount(StateError):
    """An amount that is no whole number from 1 to 2^63 - 1."""

    code = "E_BAD_AMOUNT"
    hint = "amounts are whole numbers of the smallest unit, from 1 to 9223372036854775807"


class SelfTransfer(StateError):
    """A transfer from an account to itself."""

    code = "E_SELF_TRANSFER"
    hint = "name two accounts that differ"


class UnknownAccount(StateError):
    """An account that was never opened."""

    code = "E_NO_ACCOUNT"
    hint = "a deposit opens it"


class InsufficientFunds(StateError):
    """An account has less than is taken from it; ``details`` have balance and amount."""

    code = "E_FUNDS"
    hint = "take no more than the balance, deposit first, or allow an overdraft"


class VersionConflict(StateError):
    """The row has another version than ``if_version``; ``details`` have both."""

    code = "E_VERSION"
    hint = "read it again, decide again, and update with its version"


class NotThere(StateError):
    """What is to be changed or removed does not exist."""

    code = "E_NOT_THERE"
    hint = "look whether it is named right; if it is, it is gone already and nothing is to be done"


class OpIdReused(StateError):
    """Another transaction was applied under the same op id or idempotency key."""

    code = "E_OP_ID"
    hint = "a key names one transaction: send the same one again, or use a new key"


class ReasonRequired(StateError):
    """An operation that needs a reason has none."""

    code = "E_REASON"
    hint = "say why, in 1 to 512 characters"


class UnknownTransaction(StateError):
    """No record of the log has this number."""

    code = "E_NO_TX"
    hint = "`shardctl state log` and node.state.log() show the numbers of transactions"


class AlreadyUndone(StateError):
    """A transaction that was rolled back already; ``details`` say by which one."""

    code = "E_UNDONE"
    hint = "roll that one back to do it again"


class NotUndoable(StateError):
    """A transaction that cannot be rolled back: its payload was erased, or it has no inverse."""

    code = "E_NOT_UNDOABLE"
    hint = "change what it changed by operations of their own"


class UndoConflict(StateError):
    """Undoing it would overwrite something newer; ``details`` name the transactions, all of them
    where ``details["all"]`` is true."""

    code = "E_CONFLICT"
    hint = "roll those back first, the newest one first, or force it"


class TooLarge(StateError):
    """A row or a transaction beyond its limit."""

    code = "E_TOO_LARGE"
    hint = "keep less in one row, or do it in several transactions"


class Throttled(StateError):
    """Not yet: ``details["retry_after_s"]`` says when."""

    code = "E_COOLDOWN"
    hint = "try again after retry_after_s"
    retryable = True


class StoreFull(StateError):
    """No room on the disk of the broker's data folder; reads go on."""

    code = "E_STORE_FULL"
    hint = "make room on that disk; writes work again then"
    retryable = True


class StoreFailed(StateError):
    """The commit failed; nothing of it was kept."""

    code = "E_STORE"
    hint = "read the broker's log"
    retryable = True


class StoreDamaged(StateError):
    """What was read of the state's file is not what was written; it is not served."""

    code = "E_STORE_DAMAGED"
    hint = "`shardctl state check` says what is damaged; `shardctl backup restore` mends it"


def _all(kind: type[StateError]) -> list[type[StateError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _all(child))]


BY_CODE: Final = {kind.code: kind for kind in _all(StateError)}


def from_code(code: str, message: str, hint: str, details: dict[str, Any]) -> StateError:
    """The error that came over the wire."""
    return BY_CODE.get(code, StateError)(message, hint=hint or None, **details)
