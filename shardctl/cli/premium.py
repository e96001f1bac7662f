"""`shardctl premium grant|revoke|list`."""

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

ROWS_SHOWN: Final = 1000
KINDS: Final = ("user", "guild")


def subject_of(value: Any) -> str:
    """A click type: ``user:ID`` or ``guild:ID``."""
    kind, _, number = str(value).partition(":")
    if kind not in KINDS:
        msg = f"{str(value)[:40]!r} is no subject: user:ID or guild:ID is."
        raise click.BadParameter(msg)
    return f"{kind}:{user_id(number)}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def premium() -> None:
    """Premium: which users and guilds have which tiers until when."""


@premium.command(short_help="Give SUBJECT (user:ID, guild:ID) a tier.")
@click.argument("subject", type=subject_of)
@click.argument("tier")
@end_options
@changes()
def grant(
    subject: str, tier: str, until_ms: int | None, for_ms: int | None, change: Change
) -> None:
    """Give SUBJECT (user:ID, guild:ID) a tier; for ever, unless an end is given.

    Of a tier that it has, --for adds to what is left, and --until moves the end only ahead.
    """
    from shard_node.state.premium import GrantPremium

    with opened(change.fleet) as state:
        clock = state.clock()
        end_ms = end_of(clock, until_ms, for_ms)
        op = GrantPremium(subject, tier, 0 if for_ms else end_ms, for_ms or 0, source="shardctl")

        def said(results: Any) -> str:
            return f"{subject} has {tier} {until_text(clock, results[0]['until_ms'])}"

        commit(state, change, (op,), said)


@premium.command()
@click.argument("subject", type=subject_of)
@click.argument("tier", required=False, default="")
@changes()
def revoke(subject: str, tier: str, change: Change) -> None:
    """Take a tier away, or without TIER all of them."""
    from shard_node.state.premium import RevokePremium

    with opened(change.fleet) as state:
        op = RevokePremium(subject, tier)

        def said(results: Any) -> str:
            return f"{subject} has no more {', '.join(results[0]['tiers'])}"

        commit(state, change, (op,), said, look=command("premium", "list", subject))


@premium.command("list")
@click.argument("subject", type=subject_of, required=False)
@click.option(
    "--limit", "-n", type=click.IntRange(1), default=ROWS_SHOWN, show_default=True,
    help="How many tiers.",
)  # fmt: skip
@json_option
@fleet_option
def list_tiers(subject: str | None, limit: int, as_json: bool, fleet: str | None) -> None:
    """Show the tiers that are active, of one subject or of all."""
    rows: list[dict[str, Any]] = []
    more = False
    with opened(fleet) as state:
        for row in _active(state, subject, state.clock()):
            if len(rows) == limit:
                more = True
                break
            rows.append(row)
    if as_json:
        echo_json({"premium": rows, "more": more})
        return
    if rows:
        cells = [
            [row["subject"], row["tier"], end_text(row["until"]), row["source"] or "-"]
            for row in rows
        ]
        for line in columns(("subject", "tier", "until", "source"), cells):
            click.echo(line)
    click.echo(counted(len(rows), "tier") + (", and more (--limit)" if more else ""), err=True)


def _active(state: State, subject: str | None, clock: Clock) -> Iterator[dict[str, Any]]:
    from shard_node.state.keys import Table, key_of, parse_key
    from shard_node.state.premium import Premium, active
    from shard_node.state.rows import read
    from shardctl.state import iso

    if subject is None:
        found: Iterator[tuple[str, bytes]] = (
            (str(parse_key(key)[1][0]), data) for key, data in state.table(Table.PREMIUM)
        )
    else:
        data = state.get(key_of(Table.PREMIUM, subject))
        found = iter(() if data is None else ((subject, data),))
    for name, row in found:
        for tier, each in active(read(Premium, row), clock.log_ms).items():
            yield {
                "subject": name,
                "tier": tier,
                "since": iso(each.since_ms),
                "until": clock.iso(each.until_ms) if each.until_ms else None,
                "until_ms": each.until_ms,
                "source": each.source,
            }
