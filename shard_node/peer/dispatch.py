"""Handlers start in the order of their messages, each stepped until it first waits."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Final

from shard_node.peer.handlers import LANE_NAMES, Handler, Handlers, Message
from shard_node.peer.inbox import Arrival, Inbox
from shard_node.peer.stepping import Stepper
from shard_node.wire import batch
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.header import Kind

_log = logging.getLogger(__name__)

ERROR_MAX_CHARS: Final = 1024
_EVENT: Final = int(Kind.EVENT)
_MESSAGE: Final = int(Kind.MESSAGE)
_REQUEST: Final = int(Kind.REQUEST)

Answer = Callable[[Arrival, batch.Message, Any], None]
"""Told how a request ended: its reply, or an ErrorBody."""


class Job:
    """A message whose handlers run: ``left`` of them."""

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
            self.owner.conclude(self)


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
        """Start the handlers of these messages. Returns how many messages have ended."""
        ended = 0
        single = self.handlers.single
        sender, lane, sent_at = arrival.name, LANE_NAMES[arrival.lane], arrival.sent_at
        for message in messages:
            handler = single.get(message.topic) if message.kind == _EVENT else None
            if handler is None:
                ended += self._begin(arrival, message)
                continue
            call, decode = handler
            try:
                result = call(Message(decode, message.body, message.topic, sender, lane, sent_at))
            except Exception as error:
                self._log_failure(message.topic, error)
                result = None
            if result is None or result.__class__ is not CoroutineType:
                ended += 1
            else:
                job = Job(self, arrival, message, 1)
                self._stepper.start(result, job.ended)
                ended += self._settle(job)
        return ended

    def conclude(self, job: Job, *, late: bool = True) -> None:
        """All handlers of a message have ended."""
        message, error = job.message, job.error
        if message.kind == _EVENT:
            if error is not None:
                self._log_failure(message.topic, error)
        elif message.kind == _MESSAGE:
            outcome = None if error is None else ("E_REMOTE", describe(error))
            self._inbox.ended(job.arrival, message, outcome)
        else:
            answer = job.result if error is None else self._error_body(error)
            self._answer(job.arrival, message, answer)
        if error is not None and message.kind != _EVENT:
            self.failed += 1
            _log.debug("the handler of %s failed", message.topic, exc_info=error)
        if late:
            self._inbox.handled(job.arrival, 1)
            self._on_late()

    def _begin(self, arrival: Arrival, message: batch.Message) -> bool:
        """Start all handlers of a message. True where it has ended already."""
        kind = message.kind
        if kind == _EVENT:
            handlers = self.handlers.events.get(message.topic, ())
        elif not self._inbox.is_new(arrival, message):
            return True
        elif kind == _REQUEST:
            service = self.handlers.services.get(message.topic)
            handlers = () if service is None else (service,)
        else:
            handlers = self.handlers.events.get(message.topic, ())
        if not handlers:
            self._nobody(arrival, message)
            return True
        job = Job(self, arrival, message, len(handlers))
        for handler in handlers:
            self._call(handler, job)
        return self._settle(job)

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
        except Exception as error:
            job.ended(None, error)
            return
        if result.__class__ is CoroutineType:
            self._stepper.start(result, job.ended)
        else:
            job.ended(result, None)

    def _settle(self, job: Job) -> bool:
        if job.left:
            job.waits = True
            return False
        self.conclude(job, late=False)
        return True

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
            details["traceback"] = "".join(traceback.format_exception(error))
        return ErrorBody("E_REMOTE", describe(error), details=details)

    def _log_failure(self, topic: str, error: BaseException) -> None:
        self.failed += 1
        if not isinstance(error, asyncio.CancelledError):
            _log.error("the handler of %s failed", topic, exc_info=error)


def describe(error: BaseException) -> str:
    """Type and words of an error, as they go to whoever asked."""
    text = str(error)
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:ERROR_MAX_CHARS]
