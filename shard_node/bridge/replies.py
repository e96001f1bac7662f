"""What a command answers when no user of Discord asked it: taken here, never sent.

A run has an interaction token, or a message, that Discord does not know. Requests that name
them, and what a prefix command says in its channel, are answered from memory in Discord's
shapes, so that the author's code edits, deletes and follows up as ever. Everything else the
command does goes to Discord.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final

import disnake
from disnake.http import Route
from disnake.utils import DISCORD_EPOCH, utcnow

from shard_node.errors import ShardNodeError
from shard_node.wire.categories import CommandReply

TOKEN_PREFIX: Final = "shardctl-"
RUNS_KEPT_MAX: Final = 256
"""Runs that have ended may still be edited by what they started; the oldest are forgotten,
as Discord forgets an interaction after 15 minutes."""
MESSAGES_MAX: Final = 128
"""Of one run."""
_EPHEMERAL: Final = 64
_LOADING: Final = 128
_SAYS, _DEFERS, _MODAL, _PREMIUM = 4, 5, 9, 10
"""Interaction callback types: Discord's documentation, Receiving and Responding."""
_REPLY_TYPE: Final = 20
_EDITABLE: Final = ("content", "embeds", "components", "flags")
_ENTRIES: Final = ("on_application_command", "on_message")
_counter = itertools.count()


def new_id() -> int:
    """A snowflake of this moment."""
    return ((int(time.time() * 1000) - DISCORD_EPOCH) << 22) | (next(_counter) & 0x3FFFFF)


class CannotAnswer(ShardNodeError):
    """The command asks something of the user that nobody can do here."""

    code = "E_NEEDS_A_USER"
    hint = "run it in Discord"


class Run:
    """One command that runs for somebody else, and what it says.

    ``says_in`` is the channel whose messages are taken; 0 for a slash command, whose
    answers go to the interaction. ``me`` is the bot's user as Discord has it.
    """

    def __init__(self, me: dict[str, Any], channel: int, *, says_in: int = 0) -> None:
        self.id = new_id()
        self.token = f"{TOKEN_PREFIX}{self.id}"
        self.says_in = says_in
        self.tasks: set[asyncio.Task[Any]] = set()
        self.error: BaseException | None = None
        self.writes = 0
        self.impossible: asyncio.Future[CannotAnswer] = asyncio.get_running_loop().create_future()
        self.over = False
        """The answer is given: what it has started goes on as if a user had asked."""
        self.trigger: dict[str, Any] | None = None
        """The message of a prefix command."""
        self._me, self._channel = me, channel
        self._writes_before_error = 0
        self._original: int | None = None
        self._messages: dict[int, dict[str, Any]] = {}
        _remember(self)

    @property
    def handled(self) -> bool:
        """Whether the bot said something after its command had failed."""
        return self.error is not None and self.writes > self._writes_before_error

    @property
    def deferred(self) -> bool:
        """Whether the answer was promised and not given."""
        return any(message["flags"] & _LOADING for message in self._messages.values())

    def end(self) -> tuple[CommandReply, ...]:
        """The answer as it stands; nobody waits for more."""
        self.over = True
        self.tasks.clear()
        return self.said()

    def failed(self, error: BaseException) -> None:
        """The command raised; the first error counts."""
        if self.error is None:
            self.error = error
            self._writes_before_error = self.writes

    def watch(self, handler: Callable[..., Any], event: str) -> Callable[..., Any]:
        """``handler`` of an event; that of the command itself tells when it raises."""
        if event not in _ENTRIES:
            return handler

        async def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return await handler(*args, **kwargs)
            except Exception as error:
                self.failed(error)
                raise

        return watched

    def said(self) -> tuple[CommandReply, ...]:
        """The answer as it stands."""
        return tuple(
            CommandReply(
                message["content"],
                tuple(message["embeds"]),
                bool(message["flags"] & _EPHEMERAL),
                tuple(message["components"]),
                tuple(file["filename"] for file in message["attachments"]),
            )
            for message in self._messages.values()
            if not message["flags"] & _LOADING
        )

    # --- the interaction's endpoints

    def callback(self, payload: dict[str, Any], files: Sequence[Any]) -> None:
        """POST /interactions/ID/TOKEN/callback."""
        kind, data = payload["type"], payload.get("data") or {}
        if self._original is not None:
            raise _http_error(400, 40060, "Interaction has already been acknowledged.")
        if kind in (_MODAL, _PREMIUM):
            self._give_up(kind, data)
        if kind not in (_SAYS, _DEFERS):
            raise _http_error(400, 50035, "Invalid Form Body")
        flags = data.get("flags", 0) | (_LOADING if kind == _DEFERS else 0)
        self._original = self._say({**data, "flags": flags}, files)["id"]

    def follow_up(self, payload: dict[str, Any], files: Sequence[Any]) -> dict[str, Any]:
        """POST /webhooks/APPLICATION/TOKEN; the first one fulfils what was deferred."""
        if self._original is None:
            raise _http_error(404, 10015, "Unknown Webhook")
        original = self._messages.get(self._original)
        if original is not None and original["flags"] & _LOADING:
            return self._edit(original, payload, files)
        return self._say(payload, files)

    def at(
        self, method: str, which: str, payload: dict[str, Any], files: Sequence[Any]
    ) -> dict[str, Any] | None:
        """GET, PATCH or DELETE of a message; ``which`` is its id or ``@original``."""
        if which == "@original" and self._original is None:
            raise _http_error(404, 10015, "Unknown Webhook")
        number = int(self._original or 0) if which == "@original" else int(which)
        message = self.trigger if number == self.id else self._messages.get(number)
        if message is None:
            raise _http_error(404, 10008, "Unknown Message")
        if method == "DELETE":
            self._messages.pop(number, None)
            _BY_ID.pop(number, None)
            return None
        if method == "PATCH":
            return self._edit(message, payload, files)
        return message

    def post(self, payload: dict[str, Any], files: Sequence[Any]) -> dict[str, Any]:
        """POST /channels/ID/messages by a prefix command."""
        return self._say(payload, files)

    # --- messages

    def _say(self, payload: dict[str, Any], files: Sequence[Any]) -> dict[str, Any]:
        if len(self._messages) >= MESSAGES_MAX:
            raise CannotAnswer("the command says more than anybody waits for")
        message = message_payload(new_id(), self._channel, self._me)
        message["type"] = 0 if self.says_in else _REPLY_TYPE
        _BY_ID[message["id"]] = self
        self._messages[message["id"]] = message
        if not payload.get("flags", 0) & _LOADING:
            self.writes += 1
        return _change(message, payload, files)

    def _edit(
        self, message: dict[str, Any], payload: dict[str, Any], files: Sequence[Any]
    ) -> dict[str, Any]:
        self.writes += 1
        ephemeral = message["flags"] & _EPHEMERAL
        _change(message, {"flags": 0, **payload}, files)
        message["flags"] = (message["flags"] & ~_LOADING) | ephemeral
        message["edited_timestamp"] = utcnow().isoformat()
        return message

    def _give_up(self, kind: int, data: dict[str, Any]) -> None:
        title = data.get("title", "")
        what = f"a modal ({title!r})" if kind == _MODAL else "an offer to buy"
        error = CannotAnswer(f"the command answers with {what}, which needs a user in Discord")
        if not self.impossible.done():
            self.impossible.set_result(error)
        raise error

    def forget(self) -> None:
        """Its messages are known no longer."""
        for number in (self.id, *self._messages):
            _BY_ID.pop(number, None)


run_now: ContextVar[Run | None] = ContextVar("shardctl_run", default=None)
"""The run that the running code belongs to; what it starts inherits it."""
_RUNS: OrderedDict[str, Run] = OrderedDict()
_BY_ID: dict[int, Run] = {}


def _remember(run: Run) -> None:
    _RUNS[run.token] = run
    _BY_ID[run.id] = run
    while len(_RUNS) > RUNS_KEPT_MAX:
        _RUNS.popitem(last=False)[1].forget()


def message_payload(number: int, channel: int, author: dict[str, Any]) -> dict[str, Any]:
    """An empty message as Discord has it: its documentation, Message Object."""
    return {
        "id": number,
        "channel_id": channel,
        "author": author,
        "content": "",
        "timestamp": utcnow().isoformat(),
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "components": [],
        "pinned": False,
        "type": 0,
        "flags": 0,
    }


def _change(
    message: dict[str, Any], payload: dict[str, Any], files: Sequence[Any]
) -> dict[str, Any]:
    for key in _EDITABLE:
        if key in payload:
            empty: Any = "" if key == "content" else 0 if key == "flags" else []
            message[key] = payload[key] or empty
    if not files and "attachments" not in payload:
        return message
    message["attachments"] = [
        {"id": new_id(), "filename": name, "size": 0, "url": f"attachment://{name}",
         "proxy_url": f"attachment://{name}"}
        for name in (file.filename for file in files)
    ]  # fmt: skip
    return message


def _http_error(status: int, code: int, text: str) -> disnake.HTTPException:
    kind = disnake.NotFound if status == 404 else disnake.HTTPException
    response: Any = SimpleNamespace(status=status, reason="")
    return kind(response, {"code": code, "message": text})


# --- standing in the way


def current() -> Run | None:
    """The run that the running code belongs to, while somebody waits for its answer."""
    run = run_now.get()
    return None if run is None or run.over else run


def failed(error: BaseException) -> None:
    """An error handler of disnake's is asked."""
    run = current()
    if run is not None:
        run.failed(error)


def of_interaction(
    route: Route,
    payload: dict[str, Any] | None,
    multipart: Iterable[dict[str, Any]] | None,
    files: Sequence[Any] | None,
) -> Callable[[], Any] | None:
    """What answers a request to a webhook or interaction endpoint; None where Discord does."""
    parts = _parts(route)
    token = next((part for part in parts if part.startswith(TOKEN_PREFIX)), None)
    if token is None or parts[0] not in ("interactions", "webhooks"):
        return None
    run, sent = _RUNS.get(token), files or ()

    def answer() -> Any:
        if run is None:
            raise _http_error(404, 10062, "Unknown interaction")
        body = _body(payload, multipart)
        if parts[-1] == "callback":
            return run.callback(body, sent)
        if parts[-1] == token:
            return run.follow_up(body, sent)
        return run.at(route.method, parts[-1], body, sent)

    return answer


def of_channel(
    route: Route,
    payload: dict[str, Any] | None,
    multipart: Iterable[dict[str, Any]] | None,
    files: Sequence[Any] | None,
) -> Callable[[], Any] | None:
    """What answers a request to a channel's endpoint; None where Discord does."""
    run = current()
    if run is None and not _BY_ID:
        return None
    parts, sent = _parts(route), files or ()
    if len(parts) < 3 or parts[0] != "channels":
        return None
    number = next((int(part) for part in parts[3:] if part.isdecimal()), None)
    owner = _BY_ID.get(number) if number is not None else None
    if owner is not None:
        if len(parts) == 4 and parts[2] == "messages":
            return lambda: owner.at(route.method, parts[3], _body(payload, multipart), sent)
        return _no_thread if parts[-1] == "threads" else _seen_by_nobody
    if run is None or route.method != "POST" or parts[1] != str(run.says_in):
        return None
    if parts[2:] == ["messages"]:
        return lambda: run.post(_body(payload, multipart), sent)
    return _seen_by_nobody if parts[2:] == ["typing"] else None


def _seen_by_nobody() -> None:
    """A reaction, a pin, typing."""


def _no_thread() -> None:
    raise CannotAnswer("the command opens a thread at its own answer, which nobody sees")


def _parts(route: Route) -> list[str]:
    return route.url.removeprefix(route.BASE).strip("/").split("/")


def _body(
    payload: dict[str, Any] | None, multipart: Iterable[dict[str, Any]] | None
) -> dict[str, Any]:
    for part in multipart or ():
        if part["name"] == "payload_json":
            found: dict[str, Any] = json.loads(part["value"])
            return found
    as_sent: dict[str, Any] = json.loads(json.dumps(payload or {}))
    return as_sent
