"""A guild's payload as JSON, opened for changes as far as they need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

Payload = dict[str, Any]
Table = dict[str, Payload]

_KEYS: Final[dict[str, Callable[[Payload], object]]] = {
    "members": lambda one: one["user"]["id"],
    "presences": lambda one: one["user"]["id"],
    "voice_states": lambda one: one["user_id"],
}

decode: Final = msgspec.json.Decoder().decode
encode: Final = msgspec.json.Encoder().encode
_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Tables:
    """The fields of a payload. A list of things that have ids is decoded, and becomes a table
    by id in its order, when it is first asked for."""

    def __init__(self, raw: bytes) -> None:
        self._plain: dict[str, Any] = dict(_decode_top(raw))
        self._tables = dict[str, Table]()

    def value(self, key: str) -> Any:
        """A field. None: it is not there."""
        if key in self._tables:
            return list(self._tables[key].values())
        value = self._plain.get(key)
        if isinstance(value, msgspec.Raw):
            value = self._plain[key] = decode(value)
        return value

    def put(self, **fields: Any) -> None:
        """In place of what these fields were."""
        for key in fields:
            self._tables.pop(key, None)
        self._plain.update(fields)

    def table(self, name: str) -> Table:
        """A list by the ids of what is in it."""
        found = self._tables.get(name)
        if found is None:
            key = _KEYS.get(name, _own_id)
            found = {str(key(one)): one for one in self.value(name) or ()}
            self._tables[name] = found
            self._plain.pop(name, None)
        return found

    def replace(self, fields: Payload, tables: tuple[str, ...]) -> None:
        """Everything by these fields, but for the tables named."""
        kept = {name: self.table(name) for name in tables}
        self._plain = {key: value for key, value in fields.items() if key not in kept}
        self._tables = kept

    def whole(self) -> bytes:
        """The payload as JSON."""
        tables = {name: list(table.values()) for name, table in self._tables.items()}
        return encode({**self._plain, **tables})


def _own_id(one: Payload) -> object:
    return one["id"]
