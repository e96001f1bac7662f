"""`shardctl economy balance|transfer|deposit|withdraw|floor|history|audit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from shardctl.cli import state_log
from shardctl.cli.columns import columns
from shardctl.cli.common import chosen_fleet, echo_json, fleet_option, json_option
from shardctl.cli.report import counted
from shardctl.cli.transact import (
    AMOUNT_MAX,
    Change,
    amount,
    changes,
    command,
    commit,
    named_account,
    opened,
)
from shardctl.errors import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_OK, ShardctlError

FINDINGS_SHOWN_MAX: Final = 32
HISTORY: Final = 50


def key_of(value: Any) -> str:
    """A click type: a key that says something; that of an unset variable names nothing."""
    text = str(value)
    if text.strip():
        return text
    raise click.BadParameter("an empty key would make one transaction of all that have it.")


key_option = click.option(
    "--idempotency-key",
    "key",
    type=key_of,
    metavar="KEY",
    help="Given again with the same key it happens once; a key holds for at least the last 65,536"
    " transactions.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def economy() -> None:
    """Money: accounts, transfers, and the proof that nothing is missing.

    An account has a name, such as user:80351110224678912. Amounts are whole numbers of the
    smallest unit.
    """


@economy.command()
@click.argument("accounts", nargs=-1, required=True, metavar="ACCOUNT...")
@json_option
@fleet_option
def balance(accounts: tuple[str, ...], as_json: bool, fleet: str | None) -> None:
    """Show what accounts hold, and how far below zero they may go."""
    from shard_node.state.economy import Account
    from shard_node.state.rows import read

    keys = [named_account(name) for name in accounts]
    with opened(fleet) as state:
        rows = [read(Account, state.get(key)) for key in keys]
    found: list[dict[str, Any]] = []
    for name, row in zip(accounts, rows, strict=True):
        if row is None:
            raise _no_account(name)
        found.append({"account": name, "balance": row.balance, "floor": row.floor, "tx": row.lsn})
    if as_json:
        echo_json({"accounts": found})
        return
    cells = [[one["account"], str(one["balance"]), str(one["floor"])] for one in found]
    for line in columns(("account", "balance", "floor"), cells, "balance floor"):
        click.echo(line)


def _no_account(name: str) -> ShardctlError:
    return ShardctlError(
        f"there is no account {name}.",
        hint="a deposit opens it",
        code="E_NO_ACCOUNT",
        exit_code=EXIT_NOT_FOUND,
    )


@economy.command(short_help="Move money from SOURCE to TARGET.")
@click.argument("source")
@click.argument("target")
@click.argument("sum_", type=amount, metavar="AMOUNT")
@key_option
@changes()
def transfer(source: str, target: str, sum_: int, key: str | None, change: Change) -> None:
    """Move money from SOURCE to TARGET, which is opened where it is new."""
    from shard_node.state.economy import Transfer

    for name in (source, target):
        named_account(name)
    look = command("economy", "balance", source)

    def said(results: Any) -> str:
        left, got = results[0]["source"], results[0]["target"]
        return f"{sum_} from {source} (has {left}) to {target} (has {got})"

    with opened(change.fleet) as state:
        commit(state, change, (Transfer(source, target, sum_),), said, key=key, look=look)


@economy.command()
@click.argument("account")
@click.argument("sum_", type=amount, metavar="AMOUNT")
@click.option("--source", default="deposit", show_default=True, help="Where it comes from.")
@key_option
@changes()
def deposit(account: str, sum_: int, source: str, key: str | None, change: Change) -> None:
    """Create money in an account, which is opened where it is new."""
    from shard_node.state.economy import Deposit

    named_account(account)
    with opened(change.fleet) as state:
        op = Deposit(account, sum_, source)
        commit(state, change, (op,), _holds(account), key=key)


@economy.command()
@click.argument("account")
@click.argument("sum_", type=amount, metavar="AMOUNT")
@click.option("--sink", default="withdraw", show_default=True, help="Where it goes.")
@key_option
@changes()
def withdraw(account: str, sum_: int, sink: str, key: str | None, change: Change) -> None:
    """Take money out of the world."""
    from shard_node.state.economy import Withdraw

    named_account(account)
    look = command("economy", "balance", account)
    with opened(change.fleet) as state:
        op = Withdraw(account, sum_, sink)
        commit(state, change, (op,), _holds(account), key=key, look=look)


def _holds(account: str) -> Callable[[Any], str]:
    return lambda results: f"{account} has {results[0]['balance']}"


def floor_of(value: Any) -> int:
    """A click type: how far an account may go, 0 or less."""
    text = str(value)
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= 19:
        number = int(text)
        if -AMOUNT_MAX <= number <= 0:
            return number
    msg = f"{text[:40]!r} is not a floor: a whole number from -{AMOUNT_MAX} to 0."
    raise click.BadParameter(msg)


@economy.command(context_settings={"ignore_unknown_options": True})
@click.argument("account")
@click.argument("lowest", type=floor_of, metavar="FLOOR")
@changes()
def floor(account: str, lowest: int, change: Change) -> None:
    """Let an account go below zero, down to FLOOR (0: not at all)."""
    from shard_node.state.economy import SetFloor

    named_account(account)
    look = command("economy", "balance", account)
    with opened(change.fleet) as state:
        op = SetFloor(account, lowest)
        said = f"{account} may go down to {lowest}"
        commit(state, change, (op,), lambda _: said, look=look)


@economy.command(short_help="Show what moved an account's money.")
@click.argument("account")
@click.option("--after", type=click.IntRange(0), metavar="TX", help="The first ones after it.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, state_log.RECORDS_MAX), default=HISTORY,
    show_default=True, help="How many records.",
)  # fmt: skip
@json_option
@fleet_option
def history(account: str, after: int | None, limit: int, as_json: bool, fleet: str | None) -> None:
    """Show the newest records of the log that moved an account's money, oldest first.

    It goes back as far as the log does: what was trimmed is in the backups.
    """
    from shard_node.wire.state import StateLog

    key = named_account(account)
    wanted = StateLog(after=after or 0, limit=limit, newest=after is None, account=account)
    with opened(fleet) as state:
        if state.get(key) is None and not state_log.found(state, wanted)[0]:
            raise _no_account(account)
        first = state_log.show(state, wanted, as_json)
    if first > 1:
        text = f"it ends here: the log begins with transaction {first}; older ones are in backups"
        click.echo(f"{text} (shardctl backup list)", err=True)


@economy.command(short_help="Prove that no money is missing.")
@click.option(
    "--since",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="BACKUP",
    help="Begin with this backup, where the log was trimmed.",
)
@json_option
@fleet_option
@click.pass_context
def audit(ctx: click.Context, since: Path | None, as_json: bool, fleet: str | None) -> None:
    """Prove that what accounts hold is what sources gave less what sinks took.

    From the tables and from the log, of one moment, while the fleet runs or not. Exits with 1
    where they differ.
    """
    from shardctl.cli.offline import at_rest

    report = at_rest(chosen_fleet(fleet), "audit", since=str(since.absolute()) if since else "")
    if as_json:
        echo_json(report)
    else:
        _tell(report)
    ctx.exit(EXIT_FAILED if report["findings"] else EXIT_OK)


def _comparing(backup: str) -> str:
    """How accounts are compared although records were erased: from a backup of after them on."""
    if backup:
        return f"with the accounts: {command('economy', 'audit', '--since', backup)}"
    return "accounts are compared from a backup on: shardctl backup create, later audit --since it"


def _tell(report: dict[str, Any]) -> None:
    tables = report["tables"]
    for side in ("sources", "sinks"):
        for name, total in tables[side].items():
            click.echo(f"{side[:-1]} {name}: {total}")
    click.echo(
        f"{counted(tables['accounts'], 'account')} with money hold {tables['balance']}; "
        f"sources less sinks: {tables['created']}"
    )
    log = report["log"]
    click.echo(log["words"])
    if log.get("unknown"):
        click.echo(_comparing(log["compares"]), err=True)
    findings = report["findings"]
    for one in findings[:FINDINGS_SHOWN_MAX]:
        where = f" {one['where']}" if one["where"] else ""
        click.echo(f"  {one['code']}{where}: {one['text']}")
    if len(findings) > FINDINGS_SHOWN_MAX:
        click.echo(f"  and {len(findings) - FINDINGS_SHOWN_MAX} more (--json)")
    click.echo(f"{counted(len(findings), 'difference')}" if findings else "no difference")
