"""The log: what a record holds, and the chain that ties each to the one before.

The digest of a record is over its header, the hash of its salted payload and the digest
before it. So a payload can be erased, with a person's data in it, and the chain stays whole.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from shard_node.state.ops import AnyOp
from shard_node.state.tx import Actor
from shard_node.state.undo import Undo

DIGEST_BYTES: Final = 32
GENESIS: Final = bytes(DIGEST_BYTES)


class Payload(msgspec.Struct, array_like=True, frozen=True):
    """What can be erased of a record: who, what, how to undo it, and what came of it.

    ``results`` has one for each operation: a transaction that is sent again gets them again."""

    actor: Actor
    ops: tuple[AnyOp, ...]
    undo: tuple[Undo, ...]
    undoes: int = 0
    """The lsn that this transaction rolls back; 0: none."""
    results: tuple[Any, ...] = ()


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """A record of the log. ``at_ms`` is log time; ``body`` is the payload's bytes, None where
    it was erased, and then ``salt`` is empty; ``kinds`` are the names of its operations,
    ``minted`` the money that it created less what it destroyed."""

    lsn: int
    at_ms: int
    op_id: bytes
    kinds: tuple[str, ...]
    payload_hash: bytes
    digest: bytes
    salt: bytes
    body: bytes | None
    minted: int = 0

    def payload(self) -> Payload | None:
        """Its payload; None where it was erased. Raises msgspec.MsgspecError if damaged."""
        return None if self.body is None else _payloads.decode(self.body)


_encode = msgspec.msgpack.Encoder().encode
_payloads = msgspec.msgpack.Decoder(Payload)
_entries = msgspec.msgpack.Decoder(Entry)


def make_entry(
    lsn: int,
    at_ms: int,
    op_id: bytes,
    payload: Payload,
    salt: bytes,
    previous: bytes,
    minted: int = 0,
) -> Entry:
    """The record that follows the one whose digest is ``previous``."""
    body = _encode(payload)
    kinds = tuple([type(op).__name__ for op in payload.ops])
    payload_hash = hashlib.sha256(salt + body).digest()
    digest = digest_of(lsn, at_ms, op_id, kinds, payload_hash, previous, minted)
    return Entry(lsn, at_ms, op_id, kinds, payload_hash, digest, salt, body, minted)


def digest_of(
    lsn: int,
    at_ms: int,
    op_id: bytes,
    kinds: tuple[str, ...],
    payload_hash: bytes,
    previous: bytes,
    minted: int = 0,
) -> bytes:
    """The digest of a record. ``minted`` counts: it outlives the payload."""
    header = _encode((lsn, at_ms, op_id, kinds, payload_hash, previous, minted))
    return hashlib.sha256(header).digest()


def fault(entry: Entry, previous: bytes) -> str:
    """Why a record does not follow the one with this digest; "" where it does."""
    wanted = digest_of(
        entry.lsn,
        entry.at_ms,
        entry.op_id,
        entry.kinds,
        entry.payload_hash,
        previous,
        entry.minted,
    )
    if entry.digest != wanted:
        return "its digest does not follow from the record before"
    salted = None if entry.body is None else entry.salt + entry.body
    if salted is not None and hashlib.sha256(salted).digest() != entry.payload_hash:
        return "its payload is not the one that was logged"
    return ""


def erased(entry: Entry) -> Entry:
    """The record without its payload; its digest is the same."""
    return msgspec.structs.replace(entry, salt=b"", body=None)


def write_entry(entry: Entry) -> bytes:
    """A record's bytes."""
    return _encode(entry)


def read_entry(data: bytes) -> Entry:
    """A record. Raises msgspec.MsgspecError for what is none."""
    return _entries.decode(data)
