"""Who handles which topic, and the message object that a handler gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from shard_node.errors import ShardNodeError
from shard_node.wire.categories import Broadcast
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import TOPIC_MAX_CHARS, TOPICS_PER_NODE_MAX
from shard_node.wire.topics import BY_BODY, TOPICS

LANE_NAMES: Final = tuple(lane.name.lower() for lane in Lane)
_LANES: Final = {name: int(lane) for name, lane in zip(LANE_NAMES, Lane, strict=True)}
_UNREAD: Final = object()
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError)

Decode = Callable[[bytes], Any]
TopicName = str | type[msgspec.Struct]
"""A topic: its name, or a msgspec.Struct type, whose instances its bodies are. Such a type
stands for the built-in topic whose body it is, otherwise for the topic of its own name."""


class Message(msgspec.Struct, gc=False, eq=False):
    """What a handler gets: ``topic``, ``sender`` (the node's name), ``lane`` (``"control"``,
    ``"high"``, ``"normal"`` or ``"low"``), ``sent_at`` (the sender's wall clock, seconds since
    the epoch) and ``body``, which is decoded when it is read first."""

    _decode: Decode
    _raw: bytes
    topic: str
    sender: str
    lane: str
    sent_at: float
    _value: Any = _UNREAD

    @property
    def body(self) -> Any:
        """The body. Raises ShardNodeError (``E_BAD_BODY``) where it is not what it should be."""
        if self._value is _UNREAD:
            try:
                self._value = self._decode(self._raw)
            except _UNREADABLE as error:
                text = f"{self.topic} from {self.sender}: {error}"
                raise ShardNodeError(text, code="E_BAD_BODY") from None
        return self._value


class Handler(NamedTuple):
    """One handler of a topic."""

    call: Callable[[Message], Any]
    decode: Decode


_any = msgspec.msgpack.Decoder().decode
_array_or_map = msgspec.msgpack.Decoder(Broadcast | dict[str, Any]).decode


def _broadcast(data: bytes) -> Broadcast:
    """A map alone is the ``data`` of a Broadcast."""
    found = _array_or_map(data)
    return found if isinstance(found, Broadcast) else Broadcast(found)


_decoders: dict[Any, Decode] = {Broadcast: _broadcast}


def decoder(body_type: Any) -> Decode:
    """What decodes bodies of a type."""
    if body_type is Any or body_type is dict:
        return _any
    found = _decoders.get(body_type)
    if found is None:
        found = _decoders[body_type] = msgspec.msgpack.Decoder(body_type).decode
    return found


_topics: dict[type[msgspec.Struct], str] = dict(BY_BODY)


def register_body(kind: type[msgspec.Struct], topic: str, decode: Decode) -> None:
    """``kind`` names ``topic`` from now on, and ``decode`` makes one of its bodies."""
    _topics[kind], _decoders[kind] = topic, decode


def topic_name(topic: TopicName) -> str:
    """The name on the wire. Raises ValueError or TypeError for none that can be."""
    said: object = topic
    if not isinstance(said, str | type):
        msg = f"{said!r} is no topic: a str, or a msgspec.Struct type"
        raise TypeError(msg)
    name = topic if isinstance(topic, str) else _topics.get(topic) or topic.__name__
    if not 0 < len(name) <= TOPIC_MAX_CHARS:
        msg = f"a topic's name has 1 to {TOPIC_MAX_CHARS} characters, not {len(name)}"
        raise ValueError(msg)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        msg = f"{name!r} is no topic: {error}"
        raise ValueError(msg) from None
    return name


def lane_number(lane: str) -> int:
    """The lane of this name. Raises ValueError for any other word."""
    found = _LANES.get(lane)
    if found is None:
        msg = f"lane={lane!r}; the lanes are {', '.join(LANE_NAMES)}"
        raise ValueError(msg)
    return found


def _decode_of(topic: TopicName) -> Decode:
    if not isinstance(topic, str):
        return decoder(topic)
    spec = TOPICS.get(topic)
    return _any if spec is None else decoder(spec.body)


class Handlers:
    """All handlers of a node.

    ``events`` are those of a topic, in the order they came; ``single`` those of topics that
    have one only; ``services`` the one that answers a request. ``implied`` names topics that
    are subscribed to as well, by the topic that they are wanted for.
    """

    def __init__(self, implied: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.implied = dict(implied or {})
        self.always: tuple[str, ...] = ()
        """Subscribed to without a handler."""
        self.events: dict[str, tuple[Handler, ...]] = {}
        self.single: dict[str, Handler] = {}
        self.services: dict[str, Handler] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """What the node listens to."""
        more = (
            also for name, others in self.implied.items() if name in self.events for also in others
        )
        return tuple(dict.fromkeys((*self.always, *self.events, *more)))

    def listen(self, topic: TopicName, call: Callable[[Message], Any]) -> bool:
        """Add a handler. True where the topic is new to the node."""
        name = topic_name(topic)
        before = self.events.get(name, ())
        if not before and len(self.events) >= TOPICS_PER_NODE_MAX:
            msg = f"a node listens to at most {TOPICS_PER_NODE_MAX} topics"
            raise ValueError(msg)
        self._set(name, (*before, Handler(call, _decode_of(topic))))
        return not before

    def unlisten(self, topic: TopicName, call: Callable[[Message], Any]) -> bool:
        """Take a handler away. True where the topic has none any more."""
        name = topic_name(topic)
        before = self.events.get(name, ())
        after = tuple(handler for handler in before if handler.call != call)
        self._set(name, after)
        return bool(before) and not after

    def inner(self, name: str, call: Callable[[Message], Any]) -> None:
        """Handle what other processes of the fleet send to this one under a topic of their own:
        nobody publishes it, so it is not subscribed to."""
        self.single[name] = Handler(call, _decode_of(name))

    def serve(self, name: TopicName, call: Callable[[Message], Any]) -> None:
        """Answer the requests of a name. Raises ValueError where somebody does."""
        key = topic_name(name)
        if key in self.services:
            msg = f"{key!r} is served already"
            raise ValueError(msg)
        self.services[key] = Handler(call, _decode_of(name))

    def unserve(self, name: TopicName, call: Callable[[Message], Any]) -> None:
        """Serve a name no longer, where ``call`` is who did."""
        key = topic_name(name)
        handler = self.services.get(key)
        if handler is not None and handler.call == call:
            del self.services[key]

    def _set(self, name: str, handlers: Sequence[Handler]) -> None:
        self.single.pop(name, None)
        if not handlers:
            self.events.pop(name, None)
            return
        self.events[name] = tuple(handlers)
        if len(handlers) == 1:
            self.single[name] = handlers[0]
