"""What peers send up of the state's records: STATE_UPDATE, one record's fields, and GUILD_SYNC,
those of many records of a guild. Each becomes one transaction. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from broker.core.inflight import Ref
from shard_node.state.errors import BadName, BadValue, TooLarge
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.keys import Table, key_of
from shard_node.state.machine import Place, encode_tx
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.ops import AnyOp
from shard_node.state.permissions import DeletePermission, UpdatePermission
from shard_node.state.plain import same
from shard_node.state.records import Record
from shard_node.state.rows import read
from shard_node.state.tx import OP_ID_BYTES, OPS_MAX, SALT_BYTES, Tx, new_op_id
from shard_node.state.users import DeleteUser, UpdateUser
from shard_node.state.values import DeleteValue, SetValue
from shard_node.state.views import Reads
from shard_node.wire.categories import GuildSync, StateUpdate
from shard_node.wire.codec import encode_body

_UPDATES: Final[dict[Table, Callable[..., AnyOp]]] = {
    Table.CONFIG: UpdateConfig,
    Table.MEMBER: UpdateMember,
    Table.PERMISSION: UpdatePermission,
    Table.USER: UpdateUser,
}
_DELETES: Final[dict[Table, Callable[..., AnyOp]]] = {
    Table.CONFIG: DeleteConfig,
    Table.MEMBER: DeleteMember,
    Table.PERMISSION: DeletePermission,
    Table.USER: DeleteUser,
}
_IDS: Final = {Table.CONFIG: 1, Table.MEMBER: 2, Table.PERMISSION: 2, Table.USER: 1}
"""How many ids name a record."""
_OF_GUILD: Final = frozenset({Table.CONFIG, Table.MEMBER, Table.PERMISSION})
_HINT: Final = "records are written so: config, member, permission, user, value; others by state.do"


def ops_of(body: StateUpdate | GuildSync, view: Reads) -> list[AnyOp]:
    """What is to be done for it on top of ``view``; nothing where nothing differs.

    Raises BadName, BadValue, TooLarge.
    """
    if isinstance(body, StateUpdate):
        return [_of_update(body)]
    ops: list[AnyOp] = []
    for record in body.records:
        table = _table(record.table)
        ids = _ids(table, record.key)
        if table not in _OF_GUILD or ids[0] != body.guild:
            raise BadValue(f"{record.table} {record.key} is no record of guild {body.guild}")
        row = read(Record, view.get(key_of(table, *ids)))
        old: dict[str, Any] = {} if row is None else row.fields
        if not record.fields:
            if row is not None:
                ops.append(_DELETES[table](*ids))
            continue
        new = {n: v for n, v in record.fields.items() if n not in old or not same(v, old[n])}
        if new:
            ops.append(_UPDATES[table](*ids, fields=new))
    if len(ops) > OPS_MAX:
        text = f"{len(ops)} records differ; a transaction has at most {OPS_MAX} operations"
        raise TooLarge(text, hint="send it in parts", count=len(ops), limit=OPS_MAX)
    return ops


def tx_of(
    ops: list[AnyOp], body: StateUpdate | GuildSync, ref: Ref, place: Place, at_ms: int, key: bytes
) -> bytes:
    """The transaction's bytes. Its id is the sender's (``op``), or one that follows from where
    the log stands; ``key`` is secret, so that nobody can tell the salt. Raises BadValue."""
    said = f"{ref.routing_id.decode()} {ref.correlation} {place.lsn} {at_ms}".encode()
    drawn = blake2b(said + place.digest + encode_body(body), key=key).digest()
    op = body.op if isinstance(body, StateUpdate) else ""
    op_id = _op_id(op) if op else new_op_id(at_ms, drawn)
    return encode_tx(Tx(op_id, drawn[-SALT_BYTES:], tuple(ops)))


def _of_update(body: StateUpdate) -> AnyOp:
    table = _table(body.table)
    if_version = body.old_version if body.old_version >= 0 else None
    if table is Table.VALUE:
        if not body.new_version:
            return DeleteValue(body.key, if_version)
        if set(body.changed) != {"value"} or body.removed:
            raise BadValue(f"value {body.key} has one field, value", hint="changed: {value: ...}")
        return SetValue(body.key, body.changed["value"], if_version)
    ids = _ids(table, body.key)
    if not body.new_version:
        return _DELETES[table](*ids, if_version=if_version)
    return _UPDATES[table](*ids, fields=body.changed, remove=body.removed, if_version=if_version)


def _table(name: str) -> Table:
    found = Table.__members__.get(name.upper())
    if found is None or (found not in _UPDATES and found is not Table.VALUE):
        raise BadValue(f"nobody writes records of {name[:40]!r} like this", hint=_HINT)
    return found


def _ids(table: Table, key: str) -> tuple[int, ...]:
    parts = key.split("/")
    if len(parts) != _IDS.get(table) or not all(p.isascii() and p.isdecimal() for p in parts):
        raise BadName(f"{key[:80]!r} names no record of {table.name.lower()}")
    ids = tuple(map(int, parts))
    key_of(table, *ids)
    return ids


def _op_id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != OP_ID_BYTES:
        raise BadValue(f"op {text[:64]!r} is no id: {OP_ID_BYTES} bytes in hexadecimal digits")
    return found
