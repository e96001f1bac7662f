"""`shardctl state get|set|delete|rollback|forget`; the other verbs are in modules of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from shardctl.cli.columns import columns, json_text
from shardctl.cli.common import echo_json, fleet_option, json_option
from shardctl.cli.report import counted
from shardctl.cli.state_files import FILE_VERBS
from shardctl.cli.state_log import log
from shardctl.cli.transact import (
    Change,
    changes,
    command,
    commit,
    confirmed,
    opened,
    person_id,
    plain,
    user_id,
)
from shardctl.errors import EXIT_NOT_FOUND, ShardctlError

if TYPE_CHECKING:
    from shard_node.state.ops import AnyOp
    from shardctl.state import State

ROWS_SHOWN: Final = 100
ROWS_SHOWN_MAX: Final = 100_000
VALUE_SHOWN_MAX_CHARS: Final = 60
NAMED: Final = {
    "value": ("NAME",),
    "config": ("GUILD",),
    "member": ("GUILD", "USER"),
    "permission": ("GUILD", "TARGET"),
    "user": ("USER",),
}
"""Tables that can be looked at here, and what names a row in each."""
_EPILOG: Final = """\
Rows: NAME of a value, GUILD of a config, GUILD/USER of a member, GUILD/TARGET of a permission
(a role or a user), USER of a user.
"""


class Named(NamedTuple):
    """A row: its table (of ``NAMED``), and the parts of its name."""

    table: str
    parts: tuple[int | str, ...]

    @property
    def name(self) -> str:
        """As people type it."""
        return "/".join(map(str, self.parts))

    def key(self) -> bytes:
        """Its key. Raises BadParameter for a name that no row can have."""
        from shard_node.state.errors import StateError
        from shard_node.state.keys import Table, key_of

        try:
            return key_of(Table[self.table.upper()], *self.parts)
        except StateError as error:
            raise click.BadParameter(f"{error}.") from error


def named(table: str, text: str) -> Named:
    """The row that is meant. Raises BadParameter."""
    if table == "value":
        return Named(table, (text,))
    words, wanted = text.split("/"), NAMED[table]
    if len(words) != len(wanted):
        raise click.BadParameter(f"a {table} is named {'/'.join(wanted)}, not {text[:40]!r}.")
    return Named(table, tuple(map(user_id, words)))


table_option = click.option(
    "--table", "-t", type=click.Choice(list(NAMED)), default="value", show_default=True,
    help="Of which table.",
)  # fmt: skip
version_option = click.option(
    "--if-version",
    type=click.IntRange(0),
    metavar="N",
    help="Only where it has this version (0: is not there).",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def state() -> None:
    """The shared state: rows, the log of all that changed them, the way back."""


@state.command(epilog=_EPILOG)
@click.argument("name", required=False)
@table_option
@click.option(
    "--limit", "-n", type=click.IntRange(1, ROWS_SHOWN_MAX), default=ROWS_SHOWN, show_default=True,
    help="How many rows, where no name is given.",
)  # fmt: skip
@json_option
@fleet_option
def get(name: str | None, table: str, limit: int, as_json: bool, fleet: str | None) -> None:
    """Print a row, or without a name the rows of a table.

    The value goes to standard output as JSON, its version and the transaction that last
    changed it to standard error.
    """
    if name is None:
        with opened(fleet) as found:
            _list(found, table, limit, as_json)
        return
    meant = named(table, name)
    key = meant.key()
    with opened(fleet) as found:
        data = found.get(key)
    if data is None:
        raise _missing(meant)
    row = shown(meant, data)
    if as_json:
        echo_json(row)
        return
    click.echo(json_text(row["value"], indent=2))
    click.echo(f"version {row['version']}, transaction {row['tx']}", err=True)


def shown(meant: Named, data: bytes) -> dict[str, Any]:
    """A row for JSON; ``value`` is the map of fields where it is one."""
    from shard_node.state.records import Record
    from shard_node.state.rows import read
    from shard_node.state.values import Value

    row = read(Value, data) if meant.table == "value" else read(Record, data)
    assert row is not None
    value = row.value if isinstance(row, Value) else row.fields
    head = {"table": meant.table, "name": meant.name}
    return {**head, "version": row.version, "tx": row.lsn, "value": plain(value)}


def _list(found: State, table: str, limit: int, as_json: bool) -> None:
    from shard_node.state.keys import Table, parse_key

    rows: list[dict[str, Any]] = []
    more = False
    for key, data in found.table(Table[table.upper()]):
        if len(rows) == limit:
            more = True
            break
        rows.append(shown(Named(table, parse_key(key)[1]), data))
    if as_json:
        echo_json({"rows": rows, "more": more})
        return
    cells = [[row["name"], str(row["version"]), _short(row["value"])] for row in rows]
    for line in columns(("/".join(NAMED[table]).lower(), "version", "value"), cells, "version"):
        click.echo(line)
    click.echo(counted(len(rows), "row") + (", and more (--limit)" if more else ""), err=True)


def _short(value: Any) -> str:
    text = json_text(value)
    cut = len(text) > VALUE_SHOWN_MAX_CHARS
    return text[: VALUE_SHOWN_MAX_CHARS - 3] + "..." if cut else text


def _missing(meant: Named) -> ShardctlError:
    return ShardctlError(
        f"there is no {meant.table} {meant.name}.",
        hint=f"{command('state', 'get', '--table', meant.table)}   lists what there is",
        code="E_NOT_THERE",
        exit_code=EXIT_NOT_FOUND,
    )


@state.command("set", epilog=_EPILOG, short_help="Set a value, or fields of a row.")
@click.argument("name")
@click.argument("value", required=False)
@table_option
@click.option("--text", is_flag=True, help="VALUE is text as it stands, not JSON.")
@click.option("--remove", multiple=True, metavar="FIELD", help="Take a field away. Repeatable.")
@version_option
@changes()
def set_row(
    name: str,
    value: str | None,
    table: str,
    text: bool,
    remove: tuple[str, ...],
    if_version: int | None,
    change: Change,
) -> None:
    """Set a value, given as JSON; of the other tables the fields of a JSON object.

    Fields that are not named stay as they are.
    """
    meant = named(table, name)
    meant.key()
    op = _setting(meant, _given(value, text), remove, if_version)
    look = command("state", "get", name, "--table", table)
    with opened(change.fleet) as found:
        said = f"{table} {name} has version"
        commit(found, change, (op,), lambda r: f"{said} {r[0]['version']}", look=look)


_NOTHING: Final = object()


def _given(value: str | None, text: bool) -> Any:
    if value is None or text:
        return _NOTHING if value is None else value
    try:
        return json.loads(value, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        hint = f"VALUE is no JSON ({error}). Text needs quotes, '\"so\"', or --text."
        raise click.UsageError(hint) from None


def _no_number(name: str) -> Any:
    msg = f"{name} is no number"
    raise ValueError(msg)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a field is named twice"
        raise ValueError(msg)
    return found


def _setting(meant: Named, value: Any, remove: Sequence[str], if_version: int | None) -> AnyOp:
    from shard_node.state import guild_config, members, permissions, users, values

    if meant.table == "value":
        if remove:
            raise click.UsageError("--remove takes fields of a row away; a value has none.")
        if value is _NOTHING:
            raise click.UsageError("VALUE is missing: what shall it be set to?")
        return values.SetValue(str(meant.parts[0]), value, if_version)
    if value is _NOTHING:
        value = {}
    if not isinstance(value, dict) or not (value or remove):
        text = 'VALUE must be a JSON object with fields, such as \'{"prefix": "?"}\'.'
        raise click.UsageError(text)
    fields: dict[str, Any] = {"fields": value, "remove": tuple(remove), "if_version": if_version}
    parts = [int(part) for part in meant.parts]
    match meant.table:
        case "config":
            return guild_config.UpdateConfig(guild=parts[0], **fields)
        case "member":
            return members.UpdateMember(guild=parts[0], user=parts[1], **fields)
        case "permission":
            return permissions.UpdatePermission(guild=parts[0], target=parts[1], **fields)
    return users.UpdateUser(user=parts[0], **fields)


@state.command(epilog=_EPILOG)
@click.argument("name")
@table_option
@version_option
@changes()
def delete(name: str, table: str, if_version: int | None, change: Change) -> None:
    """Delete a row."""
    meant = named(table, name)
    meant.key()
    look = command("state", "get", "--table", table)
    with opened(change.fleet) as found:
        op = _deleting(meant, if_version)
        commit(found, change, (op,), lambda _: f"{table} {name} is deleted", look=look)


def _deleting(meant: Named, if_version: int | None) -> AnyOp:
    from shard_node.state import guild_config, members, permissions, users, values

    if meant.table == "value":
        return values.DeleteValue(str(meant.parts[0]), if_version)
    parts = [int(part) for part in meant.parts]
    match meant.table:
        case "config":
            return guild_config.DeleteConfig(guild=parts[0], if_version=if_version)
        case "member":
            return members.DeleteMember(guild=parts[0], user=parts[1], if_version=if_version)
        case "permission":
            return permissions.DeletePermission(
                guild=parts[0], target=parts[1], if_version=if_version
            )
    return users.DeleteUser(user=parts[0], if_version=if_version)


@state.command()
@click.argument("tx", type=click.IntRange(1), metavar="TRANSACTION")
@click.option("--force", is_flag=True, help="Overwrite what is newer.")
@changes(needs_reason=True)
def rollback(tx: int, force: bool, change: Change) -> None:
    """Undo a transaction; of a rollback: do it again.

    Refused where something newer would be overwritten, unless forced: the refusal names the
    newer transactions, a forced one the last in each row.
    """
    from shard_node.state.rollback import Rollback

    def said(results: Sequence[Any]) -> str:
        lost = results[0]["overwrote"]
        over = f"; it overwrote at least {', '.join(map(str, lost))}" if lost else ""
        return f"transaction {tx} is rolled back{over}"

    with opened(change.fleet) as found:
        commit(found, change, (Rollback(tx, force),), said, look=command("state", "log"))


@state.command(short_help="Erase a person. Cannot be undone.")
@click.argument("user", type=person_id)
@click.option("--keep-bans", is_flag=True, help="Leave the bans, without their reasons.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@changes()
def forget(user: int, keep_bans: bool, yes: bool, change: Change) -> None:
    """Erase a person: rows, and what records of the log tell of them. Cannot be undone.

    The rows go at once, the records right after, however long the log is; one stays that says
    that it was done. What the accounts held goes to the sink `forgotten`. Backups that were
    made before still have it all.
    """
    from shard_node.state.erasing import ForgetUser

    if not (yes or change.dry_run):
        consequence = f"forgetting user {user} cannot be undone"
        again = f"shardctl state forget {user} --yes"
        confirmed(f"Forget user {user}? It cannot be undone.", consequence, again)
    with opened(change.fleet) as found:
        op = ForgetUser(user, keep_bans)
        commit(found, change, (op,), lambda r: _forgotten(user, r[0]["rows"]), undo=False)


def _forgotten(user: int, rows: int) -> str:
    return f"user {user} is forgotten: {counted(rows, 'row')} erased"


for _command in (log, *FILE_VERBS):
    state.add_command(_command)
