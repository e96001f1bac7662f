"""Configurations of guilds, typed by the bot's author: ``node.guild_config``.

class MyConfig(msgspec.Struct):
    prefix: str = "!"
    levels: bool = True

cfg = node.guild_config(guild_id, MyConfig)
cfg.get().prefix
await cfg.update(prefix="?")
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from shard_node.shared.backend import Tx
from shard_node.shared.changes import GuildConfigChanged
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state import arguments
from shard_node.state.errors import BadValue
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.keys import Table, key_of
from shard_node.state.plain import check_fields
from shard_node.state.rows import Row, head

C = TypeVar("C")


class GuildConfig(Generic[C]):
    """One guild's configuration. Reading is local and synchronous; changes raise StateError's
    children, and BrokerUnavailable, RequestTimeout or QueueFull (retryable)."""

    def __init__(self, sink: Sink, watching: Watching, guild_id: int, kind: type[C]) -> None:
        self.guild_id = guild_id
        self._sink, self._watching = sink, watching
        self._key = key_of(Table.CONFIG, arguments.id_of(guild_id, "guild_id"))
        self._shape: Shape[C] = _shapes.get(_class(kind)) or shape_of(kind)

    @property
    def version(self) -> int:
        """How often it was changed, for ``if_version``; 0 where it never was."""
        data = self._sink.backend.get(self._key)
        return 0 if data is None else head(data)[0]

    def get(self) -> C:
        """The configuration, as this process knows it; what was never set has its default.

        Raises BadValue where what is kept does not fit the class (any more).
        """
        return self._shape.read(self._sink.backend.get(self._key))

    async def fetch(self) -> C:
        """The configuration, as the broker has it now. Raises BadValue."""
        (data,) = await self._sink.backend.fetch((self._key,))
        return self._shape.read(data)

    def update(self, *, if_version: int | None = None, **fields: Any) -> Awaitable[Tx]:
        """Set these fields and leave the others.

        ``if_version``: only where it has that version (0: was never set), or else
        VersionConflict, which has both. Raises BadValue for a field that the class has not and
        for a value that is not of the field's type.
        """
        plain, version = self._shape.plain(fields), arguments.if_version(if_version)
        return self._sink.do(UpdateConfig(self.guild_id, fields=plain, if_version=version))

    def reset(self, *fields: str, if_version: int | None = None) -> Awaitable[Tx]:
        """Give these fields their defaults again. Raises BadValue, VersionConflict."""
        self._shape.check(arguments.names(fields, "fields"))
        version = arguments.if_version(if_version)
        return self._sink.do(UpdateConfig(self.guild_id, remove=fields, if_version=version))

    def delete(self, *, if_version: int | None = None) -> Awaitable[Tx]:
        """Delete all of it. Raises NotThere, VersionConflict."""
        version = arguments.if_version(if_version)
        return self._sink.do(DeleteConfig(self.guild_id, if_version=version))

    def watch(self, handler: Watcher) -> Unwatch:
        """Call ``handler`` with each GuildConfigChanged of this guild. Returns what ends it."""
        return self._watching(GuildConfigChanged, handler, {"guild": self.guild_id})


class Shape(Generic[C]):
    """What a configuration's class says of its fields."""

    def __init__(self, kind: type[C]) -> None:
        self.kind = kind
        self._fields = {} if kind is dict else _fields_of(kind)
        stored: Any = dict[str, Any] if kind is dict else kind
        row: Any = msgspec.defstruct(
            "ConfigRow",
            [*((name, int) for name in Row.__struct_fields__), ("fields", stored)],
            array_like=True,
        )
        # What is kept was checked when it was set; keys of maps are text there.
        self._decode: Any = msgspec.msgpack.Decoder(row, strict=False).decode
        try:
            self.default()
        except TypeError as error:
            hint = "give every field a default"
            raise BadValue(f"{kind.__name__} has no defaults: {error}", hint=hint) from None

    def default(self) -> C:
        """A configuration that was never set."""
        return self.kind()

    def read(self, data: bytes | None) -> C:
        """A row's configuration. Raises BadValue."""
        if data is None:
            return self.kind()
        try:
            found: C = self._decode(data).fields
        except msgspec.MsgspecError as error:
            hint = "reset() or update() the field; give a changed field another name"
            text = f"what is kept is no {self.kind.__name__}: {error}"
            raise BadValue(text, hint=hint) from None
        return found

    def check(self, names: Any) -> None:
        """Raises BadValue for a field that the class has not."""
        for name in names:
            if self.kind is not dict and name not in self._fields:
                hint = f"its fields are {', '.join(self._fields)}"
                raise BadValue(f"{self.kind.__name__} has no field {name!r}", hint=hint)

    def plain(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields as they are kept. Raises BadValue."""
        self.check(fields)
        if not fields:
            raise BadValue("no field is named", hint="update(prefix='?')")
        found = {}
        for name, value in fields.items():
            try:
                plain = msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True)
                if name in self._fields:
                    msgspec.convert(value, self._fields[name], from_attributes=True)
            except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
                raise BadValue(f"{name}={value!r}: {error}", field=name) from None
            found[name] = plain
        check_fields(found, "the configuration")
        return found


_CLASS_HINT = "a msgspec.Struct or a dataclass whose fields have defaults"
_shapes: dict[type[Any], Shape[Any]] = {}


def shape_of(kind: type[C]) -> Shape[C]:
    """The shape of a class. Raises BadValue for one that no configuration can be."""
    found = _shapes[kind] = Shape(kind)
    return found


def _class(kind: Any) -> type[Any]:
    if not isinstance(kind, type):
        raise BadValue(f"{arguments.shown(kind)} is no class", hint=_CLASS_HINT)
    return kind


def _fields_of(kind: type[Any]) -> dict[str, Any]:
    try:
        info = msgspec.inspect.type_info(kind)
    except TypeError as error:
        raise BadValue(f"{kind!r} cannot be kept: {error}", hint=_CLASS_HINT) from None
    good = isinstance(
        info, msgspec.inspect.StructType | msgspec.inspect.DataclassType
    ) and not getattr(info, "array_like", False)
    if not good:
        raise BadValue(f"{kind!r} is no class for a configuration", hint=_CLASS_HINT)
    hints = get_type_hints(kind, include_extras=True)
    fields: Any = info
    return {field.encode_name: hints[field.name] for field in fields.fields}
