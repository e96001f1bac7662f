"""Handlers start in the order of their messages, each stepped until it first waits."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from types import CoroutineType, NoneType
from typing import Any, Final

from shard_node.peer.handlers import LANE_NAMES, Handler, Handlers, Message
from shard_node.peer.inbox import Arrival, Inbox
from shard_node.peer.stepping import Stepper
from shard_node.redact import redact
from shard_node.wire import batch
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.header import Kind

_log = logging.getLogger(__name__)

ERROR_MAX_CHARS: Final = 1024
_PLAIN: Final = frozenset({NoneType, bool, int, float, str, bytes, list, tuple, dict})
"""What a handler mostly returns: asked of none of these whether it can be awaited."""
_EVENT: Final = int(Kind.EVENT)
_MESSAGE: Final = int(Kind.MESSAGE)
_REQUEST: Final = int(Kind.REQUEST)

Answer = Callable[[Arrival, batch.Message, Any], None]
"""Told how a request ended: its reply, or an ErrorBody."""


class _Run:
    """Messages of one arrival whose handlers one coroutine starts, up to the first that
    waits: ``at`` is the next, ``over`` whether it came to the end, ``unusual`` a message that
    not exactly one handler wants. ``late``: the handler of the last one had to wait."""

    __slots__ = ("arrival", "at", "late", "messages", "over", "unusual")

    def __init__(self, arrival: Arrival, messages: list[batch.Message], at: int) -> None:
        self.arrival, self.messages, self.at = arrival, messages, at
        self.over = self.late = False
        self.unusual: batch.Message | None = None


class Job:
    """A message on its own, or that several handlers get: ``left`` of them run."""

    __slots__ = ("arrival", "error", "left", "message", "owner", "result", "waits")

    def __init__(self, owner: Dispatcher, arrival: Arrival, message: batch.Message, left: int):
        self.owner, self.arrival, self.message, self.left = owner, arrival, message, left
        self.error: BaseException | None = None
        self.result: Any = None
        self.waits = False

    def ended(self, result: Any, error: BaseException | None) -> None:
        """One of its handlers has ended."""
        self.left -= 1
        self.result = result
        if error is not None:
            self.error = error
        if self.left == 0 and self.waits:
            self.owner.conclude(self.arrival, self.message, self.result, self.error)
            self.owner.late(self.arrival)


class Dispatcher:
    """Starts handlers. ``answer`` gets the end of requests, ``on_late`` is called when a
    handler ends that had waited. ``debug`` sends tracebacks along."""

    def __init__(
        self,
        handlers: Handlers,
        inbox: Inbox,
        stepper: Stepper,
        *,
        answer: Answer,
        on_late: Callable[[], None],
        debug: bool = False,
    ) -> None:
        self.handlers = handlers
        self.unheard = 0
        self.failed = 0
        self._inbox = inbox
        self._stepper = stepper
        self._answer, self._on_late, self._debug = answer, on_late, debug

    def start(self, arrival: Arrival, messages: list[batch.Message]) -> int:
        """Start the handlers of these messages. Returns how many messages have ended.

        A coroutine for many messages costs less than one for each: a handler that does not
        wait ends within it, and one that waits takes it along, so that the next one goes on.
        One message needs none.
        """
        if len(messages) == 1:
            return self._one(arrival, messages[0])
        at = ended = 0
        while at < len(messages):
            run = _Run(arrival, messages, at)
            self._stepper.start(self._through(run), _nothing)
            ended += run.at - at
            at = run.at
            if run.unusual is not None:
                ended -= not self._several(arrival, run.unusual)
            elif not run.over:
                run.late = True
                ended -= 1
                self._inbox.suspended(arrival, 1)
        return ended

    def _one(self, arrival: Arrival, message: batch.Message) -> bool:
        """True where it has ended already."""
        kind = message.kind
        if kind != _EVENT and not self._inbox.is_new(arrival, message):
            return True
        named = self.handlers.services if kind == _REQUEST else self.handlers.single
        handler = named.get(message.topic)
        if handler is None:
            return self._several(arrival, message)
        return self._all(arrival, message, (handler,))

    async def _through(self, run: _Run) -> None:
        arrival, messages, inbox = run.arrival, run.messages, self._inbox
        single, services = self.handlers.single, self.handlers.services
        sender, lane, sent_at = arrival.name, LANE_NAMES[arrival.lane], arrival.sent_at
        at = run.at
        while at < len(messages):
            message = messages[at]
            run.at = at = at + 1
            kind = message.kind
            if kind != _EVENT and not inbox.is_new(arrival, message):
                continue
            handler = (services if kind == _REQUEST else single).get(message.topic)
            if handler is None:
                run.unusual = message
                return
            result: Any = None
            error: BaseException | None = None
            call, decode = handler
            try:
                result = call(Message(decode, message.body, message.topic, sender, lane, sent_at))
                made = result.__class__
                if made is CoroutineType or (made not in _PLAIN and hasattr(made, "__await__")):
                    result = await result
            except (Exception, asyncio.CancelledError) as raised:
                error = raised
            if kind != _EVENT or error is not None:
                self.conclude(arrival, message, result, error)
            if run.late:
                self.late(arrival)
                return
        run.over = True

    def conclude(
        self, arrival: Arrival, message: batch.Message, result: Any, error: BaseException | None
    ) -> None:
        """All handlers of a message have ended."""
        kind = message.kind
        if error is not None:
            self.failed += 1
        if kind == _EVENT:
            if error is not None and not isinstance(error, asyncio.CancelledError):
                _log.error("the handler of %s failed", message.topic, exc_info=error)
            return
        if error is not None:
            _log.debug("the handler of %s failed", message.topic, exc_info=error)
        if kind == _MESSAGE:
            outcome = None if error is None else ("E_REMOTE", describe(error))
            self._inbox.ended(arrival, message, outcome)
        else:
            answer = result if error is None else self._error_body(error)
            self._answer(arrival, message, answer)

    def late(self, arrival: Arrival) -> None:
        """A message has ended that did not when it was started."""
        self._inbox.late(arrival)
        self._on_late()

    def _several(self, arrival: Arrival, message: batch.Message) -> bool:
        """A message that not exactly one handler wants. True where it has ended already."""
        handlers = () if message.kind == _REQUEST else self.handlers.events.get(message.topic, ())
        if not handlers:
            self._nobody(arrival, message)
            return True
        return self._all(arrival, message, handlers)

    def _all(self, arrival: Arrival, message: batch.Message, handlers: tuple[Handler, ...]) -> bool:
        job = Job(self, arrival, message, len(handlers))
        for handler in handlers:
            self._call(handler, job)
        if job.left:
            job.waits = True
            self._inbox.suspended(arrival, 1)
            return False
        self.conclude(arrival, message, job.result, job.error)
        return True

    def _call(self, handler: Handler, job: Job) -> None:
        arrival, message = job.arrival, job.message
        incoming = Message(
            handler.decode,
            message.body,
            message.topic,
            arrival.name,
            LANE_NAMES[arrival.lane],
            arrival.sent_at,
        )
        try:
            result = handler.call(incoming)
        except (Exception, asyncio.CancelledError) as error:
            job.ended(None, error)
            return
        made = result.__class__
        if made is CoroutineType:
            self._stepper.start(result, job.ended)
        elif made not in _PLAIN and hasattr(made, "__await__"):
            self._stepper.start(_awaited(result), job.ended)
        else:
            job.ended(result, None)

    def _nobody(self, arrival: Arrival, message: batch.Message) -> None:
        self.unheard += 1
        text = f"nothing on this node handles {message.topic!r}"
        if message.kind == _MESSAGE:
            self._inbox.ended(arrival, message, ("E_NO_HANDLER", text))
        elif message.kind == _REQUEST:
            self._answer(arrival, message, ErrorBody("E_NO_HANDLER", text))

    def _error_body(self, error: BaseException) -> ErrorBody:
        details: dict[str, Any] = {"type": type(error).__name__}
        if self._debug:
            details["traceback"] = redact("".join(traceback.format_exception(error)))
        return ErrorBody("E_REMOTE", describe(error), details=details)


async def _awaited(result: Any) -> Any:
    return await result


def _nothing(_result: Any, _error: BaseException | None) -> None:
    """A run has no end of its own to tell of."""


def describe(error: BaseException) -> str:
    """Type and words of an error, as they go to whoever asked: without the token."""
    text = str(error)
    name = type(error).__name__
    return redact(f"{name}: {text}" if text else name)[:ERROR_MAX_CHARS]
