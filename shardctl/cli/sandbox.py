"""`shardctl sandbox`: a Discord of one's own, its players, its audit, its troubles."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import click

from shardctl.cli.common import echo_json
from shardctl.cli.sandbox_audit import audit_lines
from shardctl.cli.sandbox_link import SandboxLink
from shardctl.cli.sandbox_options import (
    echo_raw_json,
    on_sandbox,
    without_none,
)
from shardctl.cli.sandbox_trouble import TROUBLES
from shardctl.errors import EXIT_FAILED, EXIT_UNAVAILABLE, ShardctlError

POLL_S: Final = 0.2
STUCK_S: Final = 30.0
"""A load that sends nothing for so long past its time is given up."""
KINDS: Final = (
    *("slash", "autocomplete", "button", "select", "modal"),
    *("message", "dm", "member", "role", "presence"),
)
_PENDING: Final = ("interactions_pending", "messages_pending", "events_pending")
_RUN_OPTIONS: Final = (
    ("--port", click.IntRange(0, 65_535), "Port on 127.0.0.1; 0 takes a free one."),
    ("--guilds", click.IntRange(0, 1_000_000), "Guilds that the bot is in."),
    ("--shards", click.IntRange(1, 16_384), "Shards that it recommends."),
    ("--max-concurrency", click.IntRange(1, 16_384), "Rate-limit keys of IDENTIFY."),
    ("--seed", click.IntRange(0, 2**63 - 1), "Same seed, same world."),
    ("--identify-window-s", click.FloatRange(0, 3600), "Seconds between two IDENTIFYs of a key."),
    ("--info-file", click.Path(dir_okay=False), "Write URLs and token to this file."),
)


@click.group()
def sandbox() -> None:
    """A Discord of your own, for tests: gateway and REST on 127.0.0.1.

    The commands find the sandbox of the fleet in this folder; --fleet or --url name another.
    """


def _run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, kind, text in reversed(_RUN_OPTIONS):
        function = click.option(name, type=kind, help=text)(function)
    return function


@sandbox.command()
@_run_options
def run(**options: Any) -> None:
    """Run a sandbox alone, for a bot in any library. Ctrl-C ends it.

    It prints the URLs and the token. Point the library's REST base at the first.
    """
    argv = [sys.executable, "-P", "-m", "shard_node.sandbox"]
    argv += ["--program", "shardctl sandbox run"]
    for name, value in without_none(**options).items():
        argv += ["--" + name.replace("_", "-"), str(value)]
    sys.stdout.flush()
    os.execv(sys.executable, argv)


@sandbox.command()
@on_sandbox
def info(link: SandboxLink, as_json: bool) -> None:
    """Show the sandbox's URLs and token."""
    answer = link.get("/info")
    if as_json:
        echo_json(answer)
        return
    for name in ("rest_url", "gateway_url", "token", "control_url", "pid"):
        click.echo(f"{name:<12} {answer[name]}")


@sandbox.command()
@on_sandbox
def guilds(link: SandboxLink, as_json: bool) -> None:
    """List the guilds with their shard and members."""
    found = link.get("/guilds")
    if as_json:
        echo_raw_json(found)
        return
    click.echo(f"{'GUILD':<20} {'SHARD':>5} {'MEMBERS':>7}  NAME")
    for guild in found:
        click.echo(f"{guild['id']:<20} {guild['shard']:>5} {guild['members']:>7}  {guild['name']}")


@sandbox.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--guild", metavar="ID", help="In this guild; by default in any.")
@click.option("--count", type=click.IntRange(1, 100_000), default=1, help="How many times.")
@click.option("--name", help='slash, autocomplete: the command; "a b" names a subcommand.')
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="slash, autocomplete: a value; modal: by custom id.",
)
@click.option("--value", "values", multiple=True, help="select: this one; may be repeated.")
@click.option("--custom-id", help="button, select, modal: begins with this.")
@click.option("--content", help="message, dm: the text; {id} is the message's id.")
@click.option("--no-ask", is_flag=True, help="message, dm: expects no answer.")
@click.option("--action", help="member: update, add, remove; role: update, create, delete.")
@click.option("--status", help="presence: online, idle, dnd, offline.")
@on_sandbox
def play(
    link: SandboxLink,
    as_json: bool,
    options: tuple[str, ...],
    values: tuple[str, ...],
    no_ask: bool,
    **args: Any,
) -> None:
    """Let a user do something once or --count times.

    A message that asks counts as answered when the bot replies to it, or repeats its id.
    """
    if options:
        args["options"] = dict(_pair(text) for text in options)
    if values:
        args["values"] = list(values)
    answer = link.post("/play", without_none(**args, asks=not no_ask))
    if as_json:
        echo_json(answer)
        return
    click.echo(f"{answer['kind']}: {answer['sent']} sent")
    if answer["unwanted"]:
        click.echo(f"{answer['unwanted']} left out: no session has the intent", err=True)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise click.UsageError(f"--option {text!r} is not NAME=VALUE.")
    return name, value


# -- Load


@sandbox.command()
@click.option("--interactions-per-s", type=click.FloatRange(min=0), default=0.0)
@click.option("--events-per-s", type=click.FloatRange(min=0), default=0.0)
@click.option("--seconds", type=click.FloatRange(min=0), required=True)
@click.option("--guild", metavar="ID", help="In this guild; by default in all.")
@on_sandbox
def load(link: SandboxLink, as_json: bool, seconds: float, **args: Any) -> None:
    """Let users play at a steady rate, and wait for the end. Ctrl-C cancels it."""
    if not args["interactions_per_s"] and not args["events_per_s"]:
        raise click.UsageError("give --interactions-per-s or --events-per-s, or both.")
    load_id = link.post("/load", without_none(seconds=seconds, **args))["id"]
    try:
        last = _watch(link, load_id)
    except KeyboardInterrupt:
        _cancel(link, load_id)
        raise
    if last["error"]:
        raise ShardctlError(f"the load broke off: {last['error']}.", exit_code=EXIT_FAILED)
    if as_json:
        echo_json(last)
        return
    click.echo(_so_far(last))


def _so_far(state: dict[str, Any]) -> str:
    return (
        f"{state['interactions_sent']} interactions and {state['events_sent']} events "
        f"in {state['elapsed_s']:.1f} s"
    )


def _cancel(link: SandboxLink, load_id: str) -> None:
    """End the load in the sandbox: nobody waits for it any more."""
    try:
        state = link.delete(f"/load/{load_id}")
    except ShardctlError as error:
        click.echo(f"the load was not cancelled: {error.message}", err=True)
    else:
        click.echo(f"the load is cancelled after {_so_far(state)}", err=True)


def _gone(error: ShardctlError, state: dict[str, Any] | None) -> ShardctlError:
    """The sandbox ended under a load: what it had sent by the last look."""
    sent = f"By then it had sent {_so_far(state)}." if state else "It had sent little or nothing."
    return ShardctlError(
        "the sandbox ended during the load.",
        consequence=f"{sent}\n{error.message}",
        hint="shardctl logs --sandbox",
        code=error.code,
        exit_code=error.exit_code,
    )


def _watch(link: SandboxLink, load_id: str) -> dict[str, Any]:
    moved, sent = time.monotonic(), -1
    state: dict[str, Any] | None = None
    with _bar() as show:
        while True:
            try:
                state = link.get(f"/load/{load_id}")
            except ShardctlError as error:
                raise _gone(error, state) from None
            assert state is not None
            show(state)
            if state["done"]:
                return state
            now = time.monotonic()
            is_over = state["elapsed_s"] > state["seconds"]
            if _sent(state) != sent or not is_over:
                moved, sent = now, _sent(state)
            if now - moved > STUCK_S:
                raise _stuck()
            time.sleep(POLL_S)


def _sent(state: dict[str, Any]) -> int:
    return int(state["interactions_sent"]) + int(state["events_sent"])


def _stuck() -> ShardctlError:
    return ShardctlError(
        f"the load has sent nothing for {STUCK_S:g} s.",
        consequence="The sandbox cannot keep this pace.",
        hint="a lower --events-per-s",
        code="E_SLOW",
        exit_code=EXIT_UNAVAILABLE,
    )


def _bar() -> AbstractContextManager[Callable[[dict[str, Any]], None]]:
    """A bar on a terminal; off it a line at the start and one at the end."""
    if sys.stderr.isatty():
        return _RichBar()
    lines: list[str] = []

    def say(state: dict[str, Any]) -> None:
        total = state["interactions_total"] + state["events_total"]
        if not lines:
            lines.append(f"load {state['id']}: {total} to send in {state['seconds']:g} s")
            click.echo(lines[0], err=True)
        if state["done"]:
            took_s = state["elapsed_s"]
            click.echo(f"load {state['id']}: {_sent(state)} of {total} in {took_s:.1f} s", err=True)

    return nullcontext(say)


class _RichBar(AbstractContextManager[Callable[[dict[str, Any]], None]]):
    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        from shardctl.cli.show import console_for

        console = console_for(sys.stderr)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress("load", *columns, console=console, transient=True)
        self._task = self._progress.add_task("load", total=None)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._progress.start()
        return self._show

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def _show(self, state: dict[str, Any]) -> None:
        total = state["interactions_total"] + state["events_total"]
        self._progress.update(self._task, completed=_sent(state), total=total or None)


# -- Audit


@sandbox.command()
@click.option("--reset", is_flag=True, help="Begin to count anew after this answer.")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long at most until nothing is pending.",
)
@on_sandbox
def audit(link: SandboxLink, as_json: bool, reset: bool, settle_s: float) -> None:
    """Show what the bot answered once, late, never, twice.

    The first line is the verdict. An event is unwanted when no session of the bot has the
    intent for it: Discord would not send it, and neither does the sandbox.
    """
    _settle(link, settle_s)
    report = link.get(f"/audit?reset={int(reset)}")
    if as_json:
        echo_json(report)
        return
    for line in audit_lines(report):
        click.echo(line)


def _settle(link: SandboxLink, settle_s: float) -> None:
    deadline = time.monotonic() + settle_s
    while time.monotonic() < deadline:
        report = link.get("/audit")
        if not any(report[name] for name in _PENDING):
            return
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


for _command in TROUBLES:
    sandbox.add_command(_command)
