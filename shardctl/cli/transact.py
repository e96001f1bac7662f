"""What the commands that change the state share: options, the transaction, what is said of it."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
)
from shardctl.errors import EXIT_USAGE, Refused, ShardctlError

if TYPE_CHECKING:
    from shard_node.state.ops import AnyOp
    from shardctl.state import State

ID_MAX: Final = (1 << 64) - 1
PERSON_ID_MIN: Final = 1 << 22
"""https://discord.com/developers/docs/reference#snowflakes: milliseconds stand above 22 bits."""
REASON_MAX_CHARS: Final = 400
"""Less than the log's own limit: the login name comes before it."""
AMOUNT_MAX: Final = (1 << 63) - 1
_LOOK: Final = frozenset(
    {"E_VERSION", "E_NOT_THERE", "E_FUNDS", "E_NO_TX", "E_CONFLICT", "E_OP_ID"}
)
"""Refusals after which one looks at what there is."""
_HINTS: Final = {
    "E_VERSION": "read it again, decide again, and give its version with --if-version",
    "E_CONFLICT": "roll those back first, or overwrite them with --force",
}
"""Where the words of the command line are others than those of the API."""


class Change(NamedTuple):
    """How something is to be changed: for which user, why, and whether at all."""

    user: int
    reason: str
    dry_run: bool
    as_json: bool
    fleet: str | None


def user_id(value: Any) -> int:
    """A click type: the id of a user, a guild or the like."""
    text = str(value)
    if text.isascii() and text.isdecimal() and 0 < int(text[:21]) <= ID_MAX:
        return int(text)
    msg = f"{text[:40]!r} is not an id; ids are whole numbers such as 80351110224678912."
    raise click.BadParameter(msg)


def person_id(value: Any) -> int:
    """A click type: the id of a user, as Discord makes them.

    The lowest 22 bits are a counter, so every real id is higher. A small number may stand in
    any text, and would be taken for the person there."""
    found = user_id(value)
    if found >= PERSON_ID_MIN:
        return found
    msg = (
        f"{found} is no user's id: Discord's begin at {PERSON_ID_MIN}. So small a number stands"
        " in many texts that tell of nobody, and they would be erased."
    )
    raise click.BadParameter(msg)


def amount(value: Any) -> int:
    """A click type: an amount, strictly: digits alone, from 1 to 2^63 - 1."""
    text = str(value)
    if text.isascii() and text.isdecimal() and len(text) <= 19 and 1 <= int(text) <= AMOUNT_MAX:
        return int(text)
    msg = f"{text[:40]!r} is not an amount: a whole number of the smallest unit, 1 to {AMOUNT_MAX}."
    raise click.BadParameter(msg)


def command(*words: object) -> str:
    """What to type: ``shardctl`` and these words, quoted for a shell."""
    return shlex.join(["shardctl", *map(str, words)])


def named_account(name: str) -> bytes:
    """The key of an account. Raises BadParameter for a name that none can have."""
    from shard_node.state.errors import StateError
    from shard_node.state.keys import Table, key_of

    try:
        return key_of(Table.ACCOUNT, name)
    except StateError as error:
        raise click.BadParameter(f"{error}.") from error


def reason(value: Any) -> str:
    """A click type: a reason that says something."""
    text = str(value).strip()
    if 0 < len(text) <= REASON_MAX_CHARS and text.isprintable():
        return text
    msg = f"say why, in 1 to {REASON_MAX_CHARS} printable characters."
    raise click.BadParameter(msg)


def changes(*, needs_reason: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options of a command that changes the state; it gets them as ``change``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(
            *args: Any,
            on_behalf_of: int,
            why: str,
            dry_run: bool,
            as_json: bool,
            fleet: str | None,
            **options: Any,
        ) -> Any:
            change = Change(on_behalf_of, why, dry_run, as_json, fleet)
            return command(*args, change=change, **options)

        decorated: Callable[..., Any] = fleet_option(json_option(run))
        decorated = dry_run_option("Say what it would do; change nothing.")(decorated)
        decorated = click.option(
            "--user",
            "on_behalf_of",
            type=user_id,
            callback=lambda _ctx, _param, user: user or 0,
            metavar="ID",
            help="The user on whose behalf, for the log.",
        )(decorated)
        return click.option(
            "--reason",
            "why",
            type=reason,
            required=needs_reason,
            callback=lambda _ctx, _param, text: text or "",
            metavar="TEXT",
            help="Why; it is in the log.",
        )(decorated)

    return decorate


@contextmanager
def opened(fleet: str | None) -> Iterator[State]:
    """The state of the chosen fleet, through its broker."""
    from shardctl.client import Client
    from shardctl.state import State

    with Client(chosen_fleet(fleet)) as client:
        yield State(client)


def commit(
    state: State,
    change: Change,
    ops: Sequence[AnyOp],
    said: Callable[[Sequence[Any]], str],
    *,
    key: str | None = None,
    undo: bool = True,
    look: str = "",
) -> None:
    """Do it, or (dry run) say what would be done. ``said`` tells the results for people;
    ``look``: what to type to see how things stand, where it is refused."""
    from shardctl.state import who

    act = state.would if change.dry_run else state.do
    try:
        before = state.mark().lsn if key is not None else None
        outcome = act(ops, who(change.user, change.reason), key)
    except Refused as error:
        raise _explained(error, look) from error
    repeated = before is not None and not change.dry_run and outcome.lsn <= before
    if change.as_json:
        results = [plain(result) for result in outcome.results]
        head = {"dry_run": True} if change.dry_run else {"tx": outcome.lsn}
        echo_json({**head, "results": results} | ({"repeated": True} if repeated else {}))
        return
    text = said(outcome.results)
    if change.dry_run:
        click.echo(f"would be done: {text}")
        return
    when = "; done before, nothing was changed now" if repeated else ""
    click.echo(f"{text} (transaction {outcome.lsn}{when})")
    if undo:
        click.echo(f"undo: shardctl state rollback {outcome.lsn} --reason TEXT", err=True)


def _explained(error: Refused, look: str) -> Refused:
    """A refusal of the state as the command line says it: what follows, what to type next."""
    from shard_node.state.errors import BY_CODE

    if error.code not in BY_CODE:
        return error
    if not error.message.endswith("."):
        error.message += "."
    error.consequence = error.consequence or "Nothing was changed."
    hints = [_HINTS.get(error.code, error.hint), look if error.code in _LOOK else ""]
    error.hint = "\n".join(filter(None, hints))
    return error


def confirmed(question: str, consequence: str, again: str) -> None:
    """Ask before what cannot be undone. Raises ShardctlError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise ShardctlError(
            f"{consequence} and nobody is here to be asked.",
            consequence="Nothing was changed.",
            hint=again,
            code="E_CONFIRM",
            exit_code=EXIT_USAGE,
        )
    click.confirm(question, abort=True, err=True)


def plain(value: Any) -> Any:
    """A value of the state as JSON has it: bytes in hexadecimal, structs as objects."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value
