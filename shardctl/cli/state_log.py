"""`shardctl state log`: who changed what, when, why."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from shardctl.cli.columns import json_text, safe
from shardctl.cli.common import JSON_SCHEMA, chosen_fleet, echo_json, fleet_option, json_option
from shardctl.cli.transact import plain, user_id
from shardctl.errors import NoBroker

if TYPE_CHECKING:
    from shard_node.state.log import Entry
    from shard_node.wire.state import StateLog
    from shardctl.paths import FleetPaths
    from shardctl.state import State

RECORDS: Final = 20
RECORDS_MAX: Final = 1000
"""The broker's limit for one answer."""
LOOKED_BACK: Final = 2000
"""So far back the broker looks for the newest that are wanted."""
VALUE_SHOWN_MAX_CHARS: Final = 80
_IDS: Final = frozenset({"user", "guild", "target", "scope"})
"""Fields of operations that hold ids: text in JSON, as other languages' numbers end at 2^53."""


@click.command()
@click.option("--after", type=click.IntRange(0), metavar="TX", help="The first ones after it.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, RECORDS_MAX), default=RECORDS, show_default=True,
    help="How many records.",
)  # fmt: skip
@click.option(
    "--kind", multiple=True, metavar="OP", help="With this operation, such as Transfer. Repeatable."
)
@click.option("--user", type=user_id, metavar="ID", help="By this user, or about them.")
@click.option("--follow", "-f", is_flag=True, help="Go on as records come, until Ctrl-C.")
@json_option
@fleet_option
def log(
    after: int | None,
    limit: int,
    kind: tuple[str, ...],
    user: int | None,
    follow: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Print the newest records of the log, oldest first.

    With --follow and --json each record is a line of JSON.
    """
    from shard_node.wire.state import StateLog
    from shardctl.client import Client
    from shardctl.state import State

    paths = chosen_fleet(fleet)
    wanted = StateLog(
        after=after or 0,
        limit=limit,
        newest=after is None,
        kinds=_kinds(kind),
        user=user or 0,
    )
    with Client(paths) as client:
        state = State(client)
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                _follow(state, wanted, paths, as_json)
        else:
            show(state, wanted, as_json)


def _kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    """What the log calls these operations. Raises BadParameter for an unknown one."""
    from shard_node.state.ops import KINDS, kind_of

    found: list[str] = []
    for name in names:
        kind = kind_of(name)
        if kind is None:
            raise click.BadParameter(f"--kind {name[:40]!r} is none of {', '.join(KINDS)}.")
        found.append(kind)
    return tuple(found)


def found(state: State, wanted: StateLog) -> tuple[list[Entry], int, int]:
    """The records, the lsn up to which it was looked, and the log's first one."""
    from msgspec.structs import replace

    entries, page = state.log(wanted)
    while page.more and not wanted.newest and len(entries) < wanted.limit:
        rest = replace(wanted, after=page.read_to, limit=wanted.limit - len(entries))
        more, page = state.log(rest)
        entries += more
    return entries, page.read_to, page.first


def show(state: State, wanted: StateLog, as_json: bool) -> int:
    """Print the records that are wanted. Returns the log's first one, where it was looked back
    to it, 0 otherwise."""
    entries, read_to, first = found(state, wanted)
    if as_json:
        records = [record(entry) for entry in entries]
        echo_json({"records": records, "first": first, "read_to": read_to})
        return 0
    for entry in entries:
        click.echo(line(record(entry)))
    if not entries:
        click.echo("no such records" if read_to else "the log is empty", err=True)
    filtered = wanted.kinds or wanted.user
    if filtered and wanted.newest and len(entries) < wanted.limit and read_to - first > LOOKED_BACK:
        text = f"of the newest {LOOKED_BACK} records; `--after {first - 1}` begins at the oldest"
        click.echo(text, err=True)
    to_its_end = len(entries) < wanted.limit if wanted.newest else wanted.after + 1 < first
    return first if to_its_end else 0


def _follow(state: State, wanted: StateLog, paths: FleetPaths, as_json: bool) -> None:
    from msgspec.structs import replace

    entries, read_to, _ = found(state, wanted)
    _print_each(entries, as_json)
    while True:
        at = _reached(state, paths, read_to + 1)
        if at is not None and at < read_to:
            click.echo(f"the log was put back to {at}: a backup was restored", err=True)
            read_to = at
        if at is None or at == read_to:
            continue
        rest = replace(wanted, after=read_to, limit=RECORDS_MAX, newest=False)
        entries, page = state.log(rest)
        _print_each(entries, as_json)
        read_to = page.read_to


def _reached(state: State, paths: FleetPaths, lsn: int) -> int | None:
    """Where the log stands, once it has reached ``lsn`` or some seconds have passed; None
    while no broker answers. Raises NoBroker where the fleet is down."""
    from shardctl.errors import Refused
    from shardctl.running import supervisor_pid

    for wait_lsn in (lsn, 0):
        try:
            return state.mark(wait_lsn).lsn
        except Refused as error:
            if error.code != "E_TIMEOUT":
                raise
        except NoBroker:
            if supervisor_pid(paths) is None:
                raise
    return None


def _print_each(entries: list[Entry], as_json: bool) -> None:
    for entry in entries:
        each = record(entry)
        click.echo(json.dumps({"schema": JSON_SCHEMA, **each}) if as_json else line(each))


def record(entry: Entry) -> dict[str, Any]:
    """A record of the log for JSON. ``ops`` None: its payload was erased."""
    from shardctl.state import iso

    payload = entry.payload()
    head = {
        "tx": entry.lsn,
        "at_ms": entry.at_ms,
        "at": iso(entry.at_ms),
        "kinds": list(entry.kinds),
        "digest": entry.digest.hex(),
        "minted": entry.minted,
    }
    if payload is None:
        return {**head, "actor": None, "ops": None, "undoes": None}
    actor = payload.actor
    who = {"node": actor.node, "user": str(actor.user or "") or None, "reason": actor.reason}
    ops = [_op(op) for op in payload.ops]
    return {**head, "actor": who, "ops": ops, "undoes": payload.undoes or None}


def _op(op: Any) -> dict[str, Any]:
    fields = {name: plain(getattr(op, name)) for name in op.__struct_fields__}
    ids: dict[str, Any] = {name: str(value) for name, value in fields.items() if name in _IDS}
    if "rows" in fields:  # of names, in which ids may stand
        ids["rows"] = [[str(part) for part in name] for name in fields["rows"]]
    return {"kind": type(op).__name__, **fields, **ids}


def line(shown: dict[str, Any]) -> str:
    """A record of the log for people: one line."""
    moment = shown["at"][:19].replace("T", " ")
    actor, ops = shown["actor"], shown["ops"]
    if ops is None:
        return f"{shown['tx']}  {moment}  {', '.join(shown['kinds'])}: erased"
    user = f" for {actor['user']}" if actor["user"] else ""
    why = f"  ({actor['reason']})" if actor["reason"] else ""
    words = "; ".join(map(_words, ops))
    return safe(f"{shown['tx']}  {moment}  {actor['node']}{user}  {words}{why}")


def _words(op: dict[str, Any]) -> str:
    return " ".join([op["kind"], *_fields(op)])


def _fields(op: dict[str, Any]) -> Iterator[str]:
    from shardctl.cli.moments import length_text
    from shardctl.state import local, to_second

    for name, value in op.items():
        if name == "kind" or (name != "value" and not value):
            continue
        if name == "until_ms":
            yield f"until={local(to_second(value)):%Y-%m-%dT%H:%M:%S}"
            continue
        if name == "for_ms":
            yield f"for={length_text(value)}"
            continue
        text = value if isinstance(value, str) else json_text(value)
        cut = len(text) > VALUE_SHOWN_MAX_CHARS
        yield f"{name}={text[: VALUE_SHOWN_MAX_CHARS - 3] + '...' if cut else text}"
