"""Codes on the wire to errors of the author's, and back to words. Pure."""

from __future__ import annotations

from shard_node.errors import (
    NoHandler,
    QueueFull,
    RemoteError,
    RequestFailed,
    RequestTimeout,
    ShardNodeError,
    Undeliverable,
)
from shard_node.peer.asks import ASKS_MAX, Ask
from shard_node.wire.batch import Flag
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import WireError, decode_body
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import Pool

NO_HANDLER = "E_NO_HANDLER"
QUEUE_FULL = "E_QUEUE_FULL"
EXPIRED = "E_EXPIRED"
REMOTE = "E_REMOTE"
NO_WORKER_HINT = "no worker has joined this pool; a Node, Guild or Shard has one owner"
RETRY_AFTER_S = 0.1
_RESENT = int(Flag.RESENT)
ANSWER_RETRY_S = 1.0
"""Where answers are slow, not the sending."""
BROKER_RETRY_S = 1.0
"""Where no broker answers: the supervisor needs so long for another one."""


def undelivered(ask: Ask, error: ErrorBody) -> ShardNodeError:
    """What the waiter of a message gets whose frame came back."""
    text, hint = f"{ask.message.topic}: {error.message}", error.hint or None
    if error.code == QUEUE_FULL:
        after = error.details.get("retry_after_s", RETRY_AFTER_S)
        return QueueFull(text, retry_after_s=float(after) if _is_number(after) else RETRY_AFTER_S)
    if error.code == NO_HANDLER:
        in_pool = ask.frame is not None and isinstance(ask.frame.line.target, Pool)
        return NoHandler(text, hint=hint or (NO_WORKER_HINT if in_pool else None))
    if error.code == EXPIRED and ask.is_request:
        return RequestTimeout(text, hint=hint)
    maybe = ask.frame is not None and bool(ask.frame.flags & _RESENT)
    return Undeliverable(
        text, code=error.code, hint=hint, retryable=error.retryable, maybe_handled=maybe
    )


def answered_with(topic: str, body: bytes) -> ShardNodeError:
    """What a requester gets for an ERROR message."""
    try:
        error = decode_body(body, ErrorBody)
    except WireError as unread:
        return RemoteError(f"{topic}: an error that cannot be read: {unread}")
    if error.code == NO_HANDLER:
        return NoHandler(f"{topic}: {error.message}", hint=error.hint or None)
    raised = error.code == REMOTE
    return RemoteError(
        f"{topic}: {error.message}",
        type_name=str(error.details.get("type", "")),
        traceback=str(error.details.get("traceback", "")),
        code=error.code,
        hint=None if raised and not error.hint else error.hint,
        retryable=error.retryable,
    )


def refused_by_broker(topic: str, error: ErrorBody) -> RequestFailed:
    """What a requester gets for an error of the broker's own."""
    kind = RequestTimeout if error.code == RequestTimeout.code else RequestFailed
    return kind(
        f"{topic}: {error.message}",
        code=error.code,
        hint=error.hint or None,
        retryable=error.retryable,
        details=error.details,
    )


def receipt_failed(topic: str, code: str, text: str) -> ShardNodeError:
    """What a sender gets whose message was delivered and not handled."""
    if code == NO_HANDLER:
        return NoHandler(f"{topic}: {text}")
    return RemoteError(f"{topic}: {text}", type_name=text.partition(":")[0])


def too_late(ask: Ask) -> ShardNodeError:
    """What a waiter gets at its own deadline."""
    topic = ask.message.topic
    if ask.is_request:
        return RequestTimeout(f"{topic}: no answer before the deadline")
    text = f"{topic}: no receipt before the deadline"
    return Undeliverable(text, code=EXPIRED, retryable=True, maybe_handled=_has_left(ask))


def refused(topic: str, lane: int, asked: int, waiting: int, *, up: bool) -> QueueFull:
    """What a caller gets where this node holds too much already."""
    name = Lane(lane).name.lower()
    if asked >= ASKS_MAX:
        return QueueFull(
            f"{topic}: {asked} messages and requests of this node have no answer yet",
            retry_after_s=ANSWER_RETRY_S,
        )
    return QueueFull(
        f"{topic}: {waiting} messages of this node wait to be sent, its lane {name!r} is full"
        f"{'' if up else '; no broker answers'}",
        retry_after_s=RETRY_AFTER_S if up else BROKER_RETRY_S,
    )


def unencodable(ask: Ask, error: Exception) -> Undeliverable:
    """What a waiter gets whose frame cannot be put into bytes."""
    text = f"{ask.message.topic}: it cannot be put into bytes: {error}"
    return Undeliverable(text, code="E_REFUSED", hint="a fault of this node", retryable=False)


def _has_left(ask: Ask) -> bool:
    """Whether it was sent, if only to the broker."""
    frame = ask.frame
    return frame is not None and (frame.seq > 0 or bool(frame.flags & _RESENT))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
