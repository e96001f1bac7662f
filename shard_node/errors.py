"""Errors that reach a bot's author, all under one root.

ShardNodeError                 code, hint, retryable
+-- BrokerUnavailable          no broker answers; retryable
+-- RequestFailed              the broker or a peer answered with an error
|   +-- RequestTimeout         no answer before the deadline; retryable
+-- BridgeError                this disnake cannot be held: the version moved a name
+-- BotLoadError               the bot's file or object cannot be run as a node
"""

from __future__ import annotations


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
    """The broker or a peer answered a request with an error."""

    code = "E_REQUEST"


class RequestTimeout(RequestFailed):
    """A request had no answer before its deadline."""

    code = "E_TIMEOUT"
    retryable = True


class BridgeError(ShardNodeError):
    """The installed disnake lacks a name that the bridge takes hold of."""

    code = "E_DISNAKE"


class BotLoadError(ShardNodeError):
    """The bot's file cannot be imported, or holds no bot that can be sharded."""

    code = "E_BOT"
