"""`shardctl dead-letters list|retry|drop`: messages that reached nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
)
from shardctl.cli.peers import peer_name, target_name
from shardctl.cli.report import counted, ranges, size, span
from shardctl.errors import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_OK, EXIT_USAGE, ShardctlError

if TYPE_CHECKING:
    from shardctl.client import Client

NUMBER_MAX: Final = 2**63 - 1
REASON_MIN_CHARS: Final = 32
NUMBERS_SHOWN_MAX: Final = 32
RETRY_S: Final = 30
"""How long a retry may wait for its receiver (broker/core/dataplane.py, RETRY_TTL_MS)."""
_GAP: Final = "  "
Letter = Mapping[str, Any]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def dead_letters() -> None:
    """Messages that reached nobody: look at them, send them again, forget them.

    The broker keeps the last 1000, until it ends.
    """


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    number = click.IntRange(1, NUMBER_MAX)
    command = fleet_option(command)
    command = json_option(command)
    command = click.option("--all", "every", is_flag=True, help="All dead letters.")(command)
    return click.argument("numbers", nargs=-1, type=number, metavar="[NUMBER...]")(command)


@dead_letters.command("list")
@json_option
@fleet_option
def list_letters(as_json: bool, fleet: str | None) -> None:
    """Show the dead letters, oldest first.

    A letter is a frame of one sender: one message or several. Where `retry` says no, its
    bytes were too many to keep.
    """
    from shardctl.client import Client

    with Client(chosen_fleet(fleet)) as client:
        found = client.dead_letters()
    letters = found["letters"]
    if as_json:
        rows = [letter | {"target": target_name(letter["target"])} for letter in letters]
        echo_json(found | {"letters": rows})
        return
    if letters:
        from shardctl.cli.show import console_for

        for line in table(letters, console_for().width):
            click.echo(line)
    click.echo(_summary(found), err=True)


def _summary(found: Mapping[str, Any]) -> str:
    letters = found["letters"]
    lost = f"; {found['lost']} older ones made room for newer ones" if found["lost"] else ""
    if not letters:
        return f"no dead letters{lost}"
    first = letters[0]["number"]
    next_ = (
        f"next: shardctl dead-letters retry {first} (or --all), shardctl dead-letters drop --all"
    )
    return f"{counted(len(letters), 'dead letter')}{lost}\n{next_}"


@dead_letters.command()
@_chosen
@dry_run_option("Say which would be sent again; change nothing.")
@click.pass_context
def retry(
    ctx: click.Context,
    numbers: tuple[int, ...],
    every: bool,
    dry_run: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Send dead letters again, by their numbers or all.

    Whoever gets one now gets it once more if it had it before: the sender is another one.
    """
    from shardctl.client import Client

    numbers = _named(ctx, numbers, every)
    with Client(chosen_fleet(fleet)) as client:
        before = client.dead_letters()["letters"]
        if dry_run:
            _would(_pick(before, numbers), "send again", as_json)
            return
        result = _retry(client, before, numbers)
    if as_json:
        echo_json(result._asdict() | {"back": [letter["number"] for letter in result.back]})
    else:
        _tell(result)
    ctx.exit(EXIT_FAILED if result.skipped or result.back else EXIT_OK)


class Retried(NamedTuple):
    """``back`` are the letters that came straight back, under new numbers."""

    done: int
    skipped: int
    back: list[Letter]


def _retry(client: Client, before: Sequence[Letter], numbers: tuple[int, ...]) -> Retried:
    if not before and not numbers:
        return Retried(0, 0, [])
    last = before[-1]["number"] if before else 0
    done = client.retry_letters(numbers)
    tried = {f"dl-{number}#1" for number in numbers or [letter["number"] for letter in before]}
    newer = client.dead_letters(last)["letters"]
    return Retried(done.done, done.skipped, [each for each in newer if each["sender"] in tried])


def _tell(result: Retried) -> None:
    if not (result.done or result.skipped):
        click.echo("no dead letters: nothing to send")
        return
    click.echo(
        f"{counted(result.done, 'dead letter')} sent again; what reaches nobody within "
        f"{RETRY_S} s is listed anew"
    )
    for letter in result.back[:NUMBERS_SHOWN_MAX]:
        was = peer_name(letter["sender"]).removeprefix("a retry of ")
        click.echo(f"  {was} came straight back as {letter['number']}: {letter['reason']}")
    if len(result.back) > NUMBERS_SHOWN_MAX:
        click.echo(f"  and {len(result.back) - NUMBERS_SHOWN_MAX} more came straight back")
    if result.skipped:
        stay = "stays: its bytes were" if result.skipped == 1 else "stay: their bytes were"
        click.echo(f"  {result.skipped} {stay} too many to keep")
    click.echo("next: shardctl dead-letters list", err=True)


@dead_letters.command()
@_chosen
@click.option("--yes", "-y", is_flag=True, help="Do not ask (for --all).")
@dry_run_option("Say which would be dropped; change nothing.")
@click.pass_context
def drop(
    ctx: click.Context,
    numbers: tuple[int, ...],
    every: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Forget dead letters, by their numbers or all. They cannot be brought back."""
    from shardctl.client import Client

    numbers = _named(ctx, numbers, every)
    with Client(chosen_fleet(fleet)) as client:
        if dry_run:
            _would(_pick(client.dead_letters()["letters"], numbers), "drop", as_json)
            return
        if every and not yes:
            count = client.dead_letters()["total"]
            if count:
                _confirm(count)
        done = client.drop_letters(numbers).done
    if as_json:
        echo_json({"dropped": done})
    else:
        click.echo(f"{counted(done, 'dead letter')} dropped" if done else "no dead letters")


def _named(ctx: click.Context, numbers: tuple[int, ...], every: bool) -> tuple[int, ...]:
    """The letters that are meant; none stands for all, so that it must have been said."""
    if every == bool(numbers):
        text = "--all and numbers exclude each other." if every else "which? NUMBER... or --all."
        raise click.UsageError(text, ctx)
    return tuple(dict.fromkeys(numbers))


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise ShardctlError(
            "dropping all dead letters cannot be undone and nobody is here to be asked.",
            consequence=f"There are {count}. Nothing was dropped.",
            hint="shardctl dead-letters drop --all --yes",
            code="E_CONFIRM",
            exit_code=EXIT_USAGE,
        )
    click.confirm(
        f"Drop {counted(count, 'dead letter')}? They cannot be brought back.", abort=True, err=True
    )


def _pick(letters: Sequence[Letter], numbers: tuple[int, ...]) -> list[Letter]:
    """The letters of these numbers. Raises ShardctlError as the broker would."""
    known = {letter["number"]: letter for letter in letters}
    missing = [number for number in numbers if number not in known]
    if missing:
        raise ShardctlError(
            f"no dead letter {ranges(missing[:NUMBERS_SHOWN_MAX])}",
            consequence=f"There are: {ranges(list(known))}." if known else "There are none.",
            code="E_NOT_FOUND",
            exit_code=EXIT_NOT_FOUND,
        )
    return [known[number] for number in numbers] if numbers else list(letters)


def _would(letters: Sequence[Letter], does: str, as_json: bool) -> None:
    numbers = [letter["number"] for letter in letters]
    if as_json:
        echo_json({"dry_run": True, "numbers": numbers})
        return
    what = f"{counted(len(numbers), 'dead letter')}: {ranges(numbers)}" if numbers else "nothing"
    click.echo(f"would {does} {what}")


# --- the table


class Column(NamedTuple):
    """Columns of the lowest ``keep`` go first where the terminal is narrow."""

    title: str
    keep: int
    cell: Callable[[Letter], str]
    right: bool = False


COLUMNS: Final = (
    Column("number", 9, lambda r: str(r["number"]), right=True),
    Column("age", 5, lambda r: span(r["age_s"]), right=True),
    Column("sender", 6, lambda r: peer_name(r["sender"])),
    Column("target", 7, lambda r: target_name(r["target"])),
    Column("lane", 1, lambda r: str(r["lane"])),
    Column("messages", 3, lambda r: str(r["messages"]), right=True),
    Column("size", 2, lambda r: size(r["size_bytes"]), right=True),
    Column("retry", 4, lambda r: "yes" if r["can_retry"] else "no"),
)


def table(letters: Sequence[Letter], width: int) -> list[str]:
    """The lines of the table; the reason has what is left of the width."""
    columns = list(COLUMNS)
    while len(columns) > 1 and _used(columns, letters) + REASON_MIN_CHARS > width:
        columns.remove(min(columns, key=lambda column: column.keep))
    left = max(1, width - _used(columns, letters))
    titles = [column.title for column in columns]
    rows = [[column.cell(letter) for column in columns] for letter in letters]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    reasons = ["reason", *(_clipped(f"{r['reason']} ({r['code']})", left) for r in letters)]
    return [
        _GAP.join([*_padded(columns, widths, row), reason])[:width].rstrip()
        for row, reason in zip([titles, *rows], reasons, strict=True)
    ]


def _padded(columns: list[Column], widths: list[int], row: list[str]) -> list[str]:
    return [
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, width, cell in zip(columns, widths, row, strict=True)
    ]


def _used(columns: list[Column], letters: Sequence[Letter]) -> int:
    widths = [max(len(c.title), *(len(c.cell(letter)) for letter in letters)) for c in columns]
    return sum(width + len(_GAP) for width in widths)


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."
