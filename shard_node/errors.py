"""Errors that reach a bot's author, all under one root.

ShardNodeError                 code, hint, retryable
+-- BrokerUnavailable          no broker answers; retryable
+-- RequestFailed              the broker or a peer answered with an error
|   +-- RequestTimeout         no answer before the deadline; retryable
|   +-- NoHandler              the receiver has nothing that handles this
|   +-- RemoteError            a handler raised; ``type_name`` says what
+-- Undeliverable              it never got there, or nobody knows; ``reason`` is the code
+-- StateError                 the state refused an operation (``shard_node.state.errors``)
+-- QueueFull                  too much waits already; retryable after ``retry_after_s``
+-- BridgeError                this disnake cannot be held: the version moved a name
+-- BotLoadError               the bot's file or object cannot be run as a node
"""

from __future__ import annotations

from typing import Any


class ShardNodeError(Exception):
    """Root of all errors that shardctl raises inside a bot's process.

    ``code`` is a stable name such as ``E_NO_BROKER``, ``hint`` says what to do next,
    ``retryable`` says whether the same call may succeed later.
    """

    code = "E_NODE"
    hint = ""
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if hint is not None:
            self.hint = hint
        if retryable is not None:
            self.retryable = retryable


class BrokerUnavailable(ShardNodeError):
    """No broker answers on the fleet's socket."""

    code = "E_NO_BROKER"
    hint = "the supervisor starts the broker again; retry in a second"
    retryable = True


class RequestFailed(ShardNodeError):
    """The broker or a peer answered a request with an error; ``details`` are plain values."""

    code = "E_REQUEST"
    hint = "the message says who refused what; `shardctl status` shows the fleet"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None, **also: Any) -> None:
        super().__init__(message, **also)
        self.details = details or {}


class RequestTimeout(RequestFailed):
    """A request had no answer before its deadline."""

    code = "E_TIMEOUT"
    hint = "it may have run all the same; if its handler is only slow, give it more timeout_s"
    retryable = True


class NoHandler(RequestFailed):
    """Nothing on the receiver handles the topic or serves the name."""

    code = "E_NO_HANDLER"
    hint = "is the topic spelled alike on both sides, and the handler registered?"


class RemoteError(RequestFailed):
    """A handler of the receiver raised, or refused: then ``code`` and ``hint`` are its own.

    ``type_name`` is the exception's type there; ``traceback`` is empty unless the receiver
    is in debug mode.
    """

    code = "E_REMOTE"
    hint = "the receiver's log has the traceback"

    def __init__(
        self, message: str, *, type_name: str = "", traceback: str = "", **also: Any
    ) -> None:
        super().__init__(message, **also)
        self.type_name = type_name
        self.traceback = traceback


class Undeliverable(ShardNodeError):
    """A message or request that did not reach a living owner of its target. ``maybe_handled``:
    it was on its way there, and nobody knows whether it arrived."""

    code = "E_UNREACHABLE"
    hint = "is the target's node up? `shardctl status` shows it, `shardctl dead-letters` the rest"
    retryable = True

    def __init__(self, message: str, *, maybe_handled: bool = False, **also: Any) -> None:
        super().__init__(message, **also)
        self.maybe_handled = maybe_handled

    @property
    def reason(self) -> str:
        """Why, as a stable code: E_UNREACHABLE, E_EXPIRED, E_OLD_EPOCH, E_REFUSED, ..."""
        return self.code


class QueueFull(ShardNodeError):
    """Too much waits for this target already; try again after ``retry_after_s`` seconds."""

    code = "E_QUEUE_FULL"
    hint = "slow down, or wait retry_after_s and try again"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BridgeError(ShardNodeError):
    """The installed disnake lacks a name that the bridge takes hold of."""

    code = "E_DISNAKE"


class BotLoadError(ShardNodeError):
    """The bot's file cannot be imported, or holds no bot that can be sharded."""

    code = "E_BOT"
