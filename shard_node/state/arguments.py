"""What a bot's author may give to the primitives, looked at before anything is sent. Pure.

Each function returns its argument as operations take it, or raises a StateError that says what
it should have been.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from shard_node.state.context import REASON_MAX_CHARS
from shard_node.state.errors import (
    BadName,
    BadValue,
    ReasonRequired,
    UnknownTransaction,
)
from shard_node.state.keys import ACCOUNT_MAX_BYTES, ID_MAX, NAME_MAX_BYTES

LSN_MAX: Final = (1 << 63) - 1
TIMEOUT_MAX_S: Final = 86_400.0
SHOWN_CHARS: Final = 40

_ID_HINT: Final = "ids are whole numbers, as Discord's objects have them: user.id, guild.id"
_NAME_HINT: Final = f"a name is text of 1 to {NAME_MAX_BYTES} bytes, printable"
_ACCOUNT_HINT: Final = (
    f"an account is named by text of 1 to {ACCOUNT_MAX_BYTES} bytes, printable: f'user:{{user.id}}'"
)


def shown(value: object) -> str:
    """A wrong argument, short enough for a message."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."


def id_of(value: Any, what: str) -> int:
    """An id of Discord's. Raises BadName."""
    if type(value) is int and 0 < value <= ID_MAX:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= ID_MAX:
        raise BadName(f"{what}={shown(value)} is no id", hint=_ID_HINT)
    return int(value)


def name_of(value: Any, what: str) -> str:
    """A name that a key can have. Raises BadName."""
    return _name(value, what, NAME_MAX_BYTES, _NAME_HINT)


def account(value: Any, what: str = "account") -> str:
    """The name of an account. Raises BadName."""
    return _name(value, what, ACCOUNT_MAX_BYTES, _ACCOUNT_HINT)


def _name(value: Any, what: str, bytes_max: int, hint: str) -> str:
    if not isinstance(value, str):
        raise BadName(f"{what}={shown(value)} is no name", hint=hint)
    size = len(value) if value.isascii() else len(value.encode(errors="replace"))
    if size > bytes_max:
        text = f"{what}={shown(value)} has {size} bytes; the limit is {bytes_max}"
        raise BadName(text, hint=hint)
    if not size or not value.isprintable():
        raise BadName(f"{what}={shown(value)} is no name", hint=hint)
    return value


def text(value: Any, what: str, chars_max: int) -> str:
    """Any text, which may be empty. Raises BadValue."""
    if not isinstance(value, str):
        raise BadValue(f"{what}={shown(value)} is no text", hint=f"{what}='...'")
    if len(value) > chars_max:
        raise BadValue(
            f"{what} has {len(value)} characters; the limit is {chars_max}", hint="shorten it"
        )
    _encodable(value, what)
    return value


def actor(value: Any) -> int:
    """The user on whose behalf it is, 0 for nobody. Raises BadName."""
    return 0 if type(value) is int and value == 0 else id_of(value, "user")


def reason(value: Any) -> str:
    """A reason, which may be empty. Raises ReasonRequired."""
    if not isinstance(value, str):
        raise ReasonRequired(f"reason={shown(value)} is no text")
    if len(value) > REASON_MAX_CHARS:
        raise ReasonRequired(f"a reason has at most {REASON_MAX_CHARS} characters")
    _encodable(value, "reason")
    return value


def needed_reason(value: Any, what: str) -> str:
    """A reason that says something. Raises ReasonRequired."""
    if isinstance(value, str) and not value.strip():
        raise ReasonRequired(f"{what} needs a reason")
    return reason(value)


def if_version(value: Any) -> int | None:
    """The version that a row must have: 0 for none there, None for any. Raises BadValue."""
    if value is None or (type(value) is int and 0 <= value <= LSN_MAX):
        return value
    hint = "a whole number, as .version has it; 0: it is not there; None: any"
    raise BadValue(f"if_version={shown(value)} is no version", hint=hint)


def transaction_id(value: Any) -> int:
    """The number of a transaction. Raises UnknownTransaction."""
    if type(value) is not int or not 0 < value <= LSN_MAX:
        hint = "give the id of a Tx or of a record of node.state.log(), a whole number from 1"
        raise UnknownTransaction(f"there is no transaction {shown(value)}", hint=hint)
    return value


def flag(value: Any, what: str) -> bool:
    """True or False, and nothing that only looks so. Raises BadValue."""
    if not isinstance(value, bool):
        raise BadValue(f"{what}={shown(value)} is neither True nor False", hint=f"{what}=True")
    return value


def idempotency_key(value: Any) -> str | None:
    """The key as text; a number, such as an interaction's id, is its digits. Raises BadValue."""
    if value is None:
        return None
    good = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    if not good:
        hint = "text that is not empty, or a whole number such as inter.id"
        raise BadValue(f"idempotency_key={shown(value)} is no key", hint=hint)
    if isinstance(value, int) and abs(value) > ID_MAX:
        raise BadValue("idempotency_key is no id: it is beyond 64 bits", hint="inter.id, or text")
    key = str(value)
    _encodable(key, "idempotency_key")
    return key


def timeout(value: Any) -> float:
    """A time to wait, in seconds. Raises BadValue."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _in_time(value):
        hint = f"seconds, more than 0 and at most {TIMEOUT_MAX_S:.0f}"
        raise BadValue(f"timeout_s={shown(value)} is no time to wait", hint=hint)
    return value


def limit(value: Any, most: int) -> int:
    """How many at most. Raises BadValue."""
    if type(value) is not int or not 1 <= value <= most:
        raise BadValue(f"limit={shown(value)}", hint=f"a whole number from 1 to {most}")
    return value


def place(value: Any, what: str) -> int:
    """A place in the log, 0 before its first record. Raises BadValue."""
    if type(value) is not int or not 0 <= value <= LSN_MAX:
        hint = "a whole number from 0, such as a Tx's id or a page's read_to"
        raise BadValue(f"{what}={shown(value)} is no place in the log", hint=hint)
    return value


def names(value: Any, what: str) -> tuple[str, ...]:
    """Names of fields, one at least: no single text, whose letters would be taken for them.

    Raises BadValue.
    """
    hint = f"{what}=('nick',)"
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise BadValue(f"{what}={shown(value)} are no names of fields", hint=hint)
    found = tuple(value)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise BadValue(f"{what}={shown(found)} are no names of fields", hint=hint)
    return found


def handler(value: Any) -> Any:
    """What is called with changes. Raises BadValue."""
    if not callable(value):
        hint = "watch(handler), where handler is a function of one argument"
        raise BadValue(f"{shown(value)} cannot be called", hint=hint)
    return value


def _in_time(value: float) -> bool:
    return math.isfinite(value) and 0 < value <= TIMEOUT_MAX_S


def _encodable(value: str, what: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        hint = "value.encode(errors='replace').decode() is text"
        raise BadValue(f"{what} has half a character in it", hint=hint) from None
