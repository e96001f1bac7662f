"""`shardctl ban add|rm|list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from shardctl.cli.columns import columns
from shardctl.cli.common import echo_json, fleet_option, json_option
from shardctl.cli.moments import end_of, end_options, end_text, until_text
from shardctl.cli.report import counted
from shardctl.cli.transact import Change, changes, command, commit, opened, user_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardctl.state import Clock, State

BANS_SHOWN: Final = 1000
EVERYWHERE: Final = "global"


def scope_of(value: Any) -> int | str:
    """A click type: ``global`` or a guild's id."""
    return EVERYWHERE if value == EVERYWHERE else user_id(value)


scope_option = click.option(
    "--scope",
    type=scope_of,
    default=EVERYWHERE,
    show_default=True,
    metavar="global|GUILD",
    help="Everywhere, or in one guild.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def ban() -> None:
    """Bans that every shard sees, in one order."""


@ban.command()
@click.argument("user", type=user_id)
@scope_option
@end_options
@changes(needs_reason=True)
def add(
    user: int, scope: int | str, until_ms: int | None, for_ms: int | None, change: Change
) -> None:
    """Ban a user; for ever, unless an end is given. A ban that stands is replaced."""
    from shard_node.state.moderation import BanUser

    with opened(change.fleet) as state:
        clock = state.clock()
        end_ms = end_of(clock, until_ms, for_ms)
        op = BanUser(user, scope, change.reason, end_ms)
        said = f"user {user} is banned {_where(scope)} {until_text(clock, end_ms)}"
        commit(state, change, (op,), lambda _: said)


def _where(scope: int | str) -> str:
    return "everywhere" if scope == EVERYWHERE else f"in guild {scope}"


@ban.command()
@click.argument("user", type=user_id)
@scope_option
@changes()
def rm(user: int, scope: int | str, change: Change) -> None:
    """Lift a ban."""
    from shard_node.state.moderation import UnbanUser

    with opened(change.fleet) as state:
        op = UnbanUser(user, scope, change.reason)
        said = f"the ban of user {user} {_where(scope)} is lifted"
        commit(state, change, (op,), lambda _: said, look=command("ban", "list", user))


@ban.command("list")
@click.argument("user", type=user_id, required=False)
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=BANS_SHOWN, show_default=True,
    help="How many.",
)  # fmt: skip
@json_option
@fleet_option
def list_bans(user: int | None, limit: int, as_json: bool, fleet: str | None) -> None:
    """Show the bans that stand, of one user or of all.

    Those that were: shardctl state log --user USER --kind BanUser --kind UnbanUser
    """
    rows: list[dict[str, Any]] = []
    more = False
    with opened(fleet) as state:
        for row in _standing(state, user, state.clock()):
            if len(rows) == limit:
                more = True
                break
            rows.append(row)
    if as_json:
        echo_json({"bans": rows, "more": more})
    else:
        _show(rows, more)


def _standing(state: State, user: int | None, clock: Clock) -> Iterator[dict[str, Any]]:
    from shard_node.state.keys import Table, parse_key, prefix_of
    from shard_node.state.moderation import Ban, stands
    from shard_node.state.rows import read
    from shardctl.state import iso

    found = state.table(Table.BAN) if user is None else state.scan(prefix_of(Table.BAN, user))
    for key, data in found:
        one = read(Ban, data)
        if one is None or not stands(one, clock.log_ms):
            continue
        who, scope = parse_key(key)[1]
        yield {
            "user": str(who),
            "scope": str(scope),
            "reason": one.reason,
            "by": str(one.by or "") or None,
            "since": iso(one.since_ms),
            "until": clock.iso(one.until_ms) if one.until_ms else None,
            "until_ms": one.until_ms,
            "tx": one.lsn,
        }


def _show(rows: list[dict[str, Any]], more: bool) -> None:
    if rows:
        cells = [
            [row["user"], row["scope"], end_text(row["until"]), row["by"] or "-", row["reason"]]
            for row in rows
        ]
        for line in columns(("user", "scope", "until", "by", "reason"), cells):
            click.echo(line)
    click.echo(counted(len(rows), "ban") + (", and more (--limit)" if more else ""), err=True)
