"""`shardctl cooldown show|clear`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from shardctl.cli.columns import columns
from shardctl.cli.common import echo_json, fleet_option, json_option
from shardctl.cli.report import counted
from shardctl.cli.transact import Change, changes, command, commit, opened

if TYPE_CHECKING:
    from shard_node.wire.state import CooldownShown
    from shardctl.state import Clock, State

ROWS_SHOWN: Final = 1000
LOG: Final = "log"
MEMORY: Final = "memory"


def key_of(value: Any) -> str:
    """A click type: the key of a cooldown, or how it begins."""
    text = str(value)
    if text.isprintable():
        return text
    msg = f"{text!r} is no key: it is not printable."
    raise click.BadParameter(msg)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cooldown() -> None:
    """Cooldowns that hold across shards.

    Those over 60 s are in the log; shorter ones are in the broker's memory with a checkpoint,
    and a crash may forget some.
    """


@cooldown.command()
@click.argument("prefix", type=key_of, default="")
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=ROWS_SHOWN, show_default=True,
    help="How many cooldowns.",
)  # fmt: skip
@json_option
@fleet_option
def show(prefix: str, limit: int, as_json: bool, fleet: str | None) -> None:
    """Show the cooldowns that run, of the keys that begin with PREFIX."""
    with opened(fleet) as state:
        clock, short = state.clock(), state.short_cooldowns(prefix)
        found = [*_short(short, clock), *_long(state, prefix, clock)]
    rows = sorted(found, key=lambda row: str(row["key"]))[:limit]
    more = short.more or len(found) > limit
    if as_json:
        echo_json({"cooldowns": rows, "more": more})
        return
    if rows:
        cells = [
            [row["key"], str(row["used"]), f"{row['ends_in_s']:.1f}", row["kept_in"]]
            for row in rows
        ]
        for line in columns(("key", "used", "ends_in_s", "in"), cells, "used ends_in_s"):
            click.echo(line)
    said = counted(len(rows), "cooldown") + (", and more (--limit)" if more else "")
    click.echo(said, err=True)


def _short(short: CooldownShown, clock: Clock) -> Iterator[dict[str, Any]]:
    for key, start_ms, end_ms, used in short.windows:
        yield _row(key, start_ms, end_ms, used, MEMORY, clock)


def _long(state: State, prefix: str, clock: Clock) -> Iterator[dict[str, Any]]:
    from shard_node.state.cooldowns import Cooldown
    from shard_node.state.keys import Table, parse_key
    from shard_node.state.rows import read

    for name, data in state.table(Table.COOLDOWN):
        key, row = str(parse_key(name)[1][0]), read(Cooldown, data)
        if row is not None and key.startswith(prefix) and row.end_ms > clock.log_ms:
            yield _row(key, row.start_ms, row.end_ms, row.used, LOG, clock)


def _row(
    key: str, start_ms: int, end_ms: int, used: int, kept_in: str, clock: Clock
) -> dict[str, Any]:
    from shardctl.state import iso

    return {
        "key": key,
        "used": used,
        "since": iso(start_ms),
        "ends_in_s": max(0, end_ms - clock.log_ms) / 1000,
        "kept_in": kept_in,
    }


@cooldown.command()
@click.argument("key", type=key_of)
@changes()
def clear(key: str, change: Change) -> None:
    """Forget a key's uses: the next use is allowed."""
    from shard_node.state.cooldowns import ClearCooldown
    from shardctl.errors import Refused

    with opened(change.fleet) as state:
        if change.dry_run:
            short = any(found[0] == key for found in state.short_cooldowns(key).windows)
        else:
            short = state.clear_short_cooldowns((key,)) > 0
        try:
            said = _cleared(key)
            look = command("cooldown", "show")
            commit(state, change, (ClearCooldown(key),), lambda _: said, undo=False, look=look)
        except Refused as error:
            if error.code != "E_NOT_THERE" or not short:
                raise
            _tell(key, change)


def _tell(key: str, change: Change) -> None:
    """Where only the broker's memory had it: no transaction."""
    if change.as_json:
        echo_json({"dry_run": True} if change.dry_run else {"tx": None, "results": [{}]})
    else:
        click.echo(f"would be done: {_cleared(key)}" if change.dry_run else _cleared(key))


def _cleared(key: str) -> str:
    return f"{key} cools down no more"
