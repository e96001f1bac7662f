"""The LMDB environment of the broker's own records: opened once in a process, after its start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from store.engine import MAP_MAX_BYTES, open_engine, write_error
from store.errors import StoreDamaged
from store.records import (
    SCHEMA,
    Change,
    Durable,
    Forget,
    Record,
    collect,
    key_of,
    read_record,
    value_of,
)

_SCHEMA_KEY: Final = b"schema"


class Environment:
    """The environment in one folder. One thread writes; any thread reads."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    @classmethod
    def open(cls, folder: Path, map_max_bytes: int = MAP_MAX_BYTES) -> Environment:
        """Opens or makes the environment in ``folder`` (0700, files 0600).

        Raises StoreOpenError or one of its children.
        """
        environment = cls(open_engine(folder, map_max_bytes))
        try:
            environment._check_schema(folder)
        except BaseException:
            environment.close()
            raise
        return environment

    def read(self) -> Durable:
        """All records. Raises StoreDamaged for one, or for a page, that cannot be read."""
        durable = Durable()
        try:
            for record in self._records():
                collect(durable, record)
        except lmdb.Error as error:
            raise StoreDamaged(str(error)) from error
        return durable

    def write(self, changes: Iterable[Change]) -> None:
        """All changes in one durable commit, or none of them.

        Raises StoreFull where there is no room, StoreFailed for any other reason; the
        environment stays usable after both.
        """
        try:
            with self._env.begin(write=True) as txn:
                for change in changes:
                    _apply(txn, change)
        except lmdb.Error as error:
            raise write_error(error) from error

    def close(self) -> None:
        """Closes the environment. Nothing may be running in it."""
        self._env.close()

    def _records(self) -> Iterator[Record]:
        with self._env.begin() as txn:
            for key, value in txn.cursor():
                try:
                    record = read_record(bytes(key), bytes(value))
                except (msgspec.MsgspecError, ValueError) as error:
                    msg = f"the record {key!r} cannot be read: {error}"
                    raise StoreDamaged(msg) from error
                if record is not None:
                    yield record

    def _check_schema(self, folder: Path) -> None:
        try:
            with self._env.begin() as txn:
                found = txn.get(_SCHEMA_KEY)
        except lmdb.Error as error:
            msg = f"{folder}: {error}"
            raise StoreDamaged(msg) from error
        if found is None:
            self._write_schema()
        elif bytes(found) != str(SCHEMA).encode():
            msg = f"{folder}: schema {bytes(found)!r}; this version reads {SCHEMA}"
            raise StoreDamaged(msg)

    def _write_schema(self) -> None:
        try:
            with self._env.begin(write=True) as txn:
                txn.put(_SCHEMA_KEY, str(SCHEMA).encode())
        except lmdb.Error as error:
            raise write_error(error) from error


def _apply(txn: lmdb.Transaction, change: Change) -> None:
    if isinstance(change, Forget):
        txn.delete(key_of(change))
    else:
        txn.put(key_of(change), value_of(change))
