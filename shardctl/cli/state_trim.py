"""`shardctl state trim`: the log shortened now, behind a backup that is made for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
)
from shardctl.cli.report import counted
from shardctl.cli.transact import confirmed
from shardctl.errors import EXIT_FAILED, NoBroker, Refused, ShardctlError
from shardctl.keeping import LENGTH_MAX_MS, length_ms

if TYPE_CHECKING:
    from shard_node.wire.state import StateTrimming
    from shardctl.client import Client

LOOK_S: Final = 0.25
SAID_S: Final = 10.0
"""How often it says that it still goes on."""


class Keep(NamedTuple):
    """What shall stay: so many records, or those of so many ms; and how it was typed."""

    records: int = 0
    log_ms: int = 0
    typed: str = ""


def keep_of(value: Any) -> Keep:
    """A click type: a number of records, or a length."""
    text = str(value)
    if text.isascii() and text.isdecimal() and 0 < int(text) <= 1 << 62:
        return Keep(records=int(text), typed=text)
    if length_ms(text):
        return Keep(log_ms=length_ms(text), typed=text)
    years = LENGTH_MAX_MS // 366 // 86_400_000
    msg = f"{text[:40]!r} is neither a number of records nor a length such as 90d ({years} years)."
    raise click.BadParameter(msg)


@click.command(short_help="Shorten the log, behind a new backup.")
@click.option(
    "--keep",
    type=keep_of,
    metavar="N|LENGTH",
    help="So many records, or those of so long (90d); else as the settings say.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@dry_run_option("Say what would go; change nothing.")
@json_option
@fleet_option
def trim(keep: Keep | None, yes: bool, dry_run: bool, as_json: bool, fleet: str | None) -> None:
    """Have the broker back the state up, verify the backup, and trim the log behind it.

    The last 65,537 records always stay. What is trimmed cannot be rolled back any more. A
    Ctrl-C ends the waiting, not the trimming.
    """
    from shard_node.wire import topics
    from shard_node.wire.state import StateTrim
    from shardctl.client import Client

    records, log_ms, typed = keep or Keep()
    with Client(chosen_fleet(fleet)) as client:
        would = client.ask(topics.STATE_TRIM, StateTrim(records, log_ms, True))
        count = max(0, would.up_to - would.first + 1)
        if dry_run or not count:
            _tell(would, count, as_json)
            return
        if not yes:
            asked = f"Trim {counted(count, 'record')}, up to transaction {would.up_to}?"
            why = "what is trimmed cannot be rolled back any more"
            how = f" --keep {typed}" if typed else ""
            confirmed(asked, why, f"shardctl state trim{how} --yes")
        pid = client.status()["broker"]["pid"]
        begun = client.ask(topics.STATE_TRIM, StateTrim(records, log_ms))
        report = _wait(client, begun, pid)
    _tell_end(report, begun, as_json)


def _tell(would: StateTrimming, count: int, as_json: bool) -> None:
    if as_json:
        echo_json({"dry_run": True, "first": would.first, "up_to": would.up_to, "records": count})
    elif count:
        click.echo(f"would trim {counted(count, 'record')}, {would.first} to {would.up_to}")
    else:
        click.echo("nothing to trim")


def _wait(client: Client, begun: StateTrimming, pid: int) -> dict[str, Any]:
    """The state's part of `status`, once the backup and the trimming have ended."""
    said_at = time.monotonic()
    while True:
        try:
            report = client.status()
        except NoBroker:
            report = {"broker": {"pid": 0}}
        if report["broker"]["pid"] != pid:
            raise ShardctlError(
                "the broker ended in the middle.",
                consequence="Nothing is lost: what was trimmed is in a verified backup.",
                hint="shardctl state trim",
                code="E_BROKER",
                exit_code=EXIT_FAILED,
            )
        state: dict[str, Any] = report["state"]
        if state["backup"]["runs"] > begun.runs:
            return state
        if time.monotonic() >= said_at + SAID_S:
            said_at = time.monotonic()
            click.echo(f"{state['backup']['doing']} goes on", err=True)
        time.sleep(LOOK_S)


def _tell_end(state: dict[str, Any], begun: StateTrimming, as_json: bool) -> None:
    backup = state["backup"]
    if backup["error"]:
        raise Refused(
            f"{backup['error']}.",
            consequence="Nothing was trimmed that is in no verified backup.",
            hint=backup["hint"],
            code="E_BACKUP",
            exit_code=EXIT_FAILED,
        )
    gone = state["first_lsn"] - begun.first
    if as_json:
        echo_json({"trimmed": gone, "first": state["first_lsn"], "backup": backup["last"]})
        return
    click.echo(f"trimmed {counted(gone, 'record')}; the log begins with {state['first_lsn']}")
    click.echo(f"they are in {backup['last']['folder']}", err=True)
