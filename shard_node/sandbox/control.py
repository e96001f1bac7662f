"""The handlers of /sandbox/*, but for trouble: what a person or a test asks of the sandbox.

Also served under the REST base, for clients that know only that. No token, no limits.
Errors are ``{"message", "hint"?, "exists"?}`` with 400 (cannot be read), 404 (no such guild
or load) or 409 (nothing to play with).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from shard_node.sandbox import witness
from shard_node.sandbox.config import API_PATH
from shard_node.sandbox.gestures import Unplayable
from shard_node.sandbox.load import RATE_MAX_PER_S, SECONDS_MAX, Load, Loads, TooManyLoads
from shard_node.sandbox.players import KINDS, Players
from shard_node.sandbox.snowflake import shard_of
from shard_node.sandbox.state import SandboxState

PLAY_COUNT_MAX: Final = 100_000
WITNESS_MESSAGE_MAX_BYTES: Final = 4 << 20
EXISTS_MAX: Final = 100
"""Identifiers that an error lists at most."""
_BATCH_MAX: Final = 64
_YES: Final = ("1", "true")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.extra = extra


class Control:
    """Players, loads and witnesses of one sandbox."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._players = Players(state)
        self._loads = Loads(state, self._players)
        self._witnesses: set[web.WebSocketResponse] = set()

    async def close(self, _app: web.Application) -> None:
        """End loads and hang up on witnesses."""
        await self._loads.close()
        for socket in list(self._witnesses):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    # -- Looking

    async def info(self, _request: web.Request) -> web.Response:
        """GET info."""
        return _json(self._state.info())

    async def guilds(self, _request: web.Request) -> web.Response:
        """GET guilds, each with its shard by the recommended count."""
        found = []
        for number, guild_id in enumerate(self._state.world.guild_ids()):
            found.append(self._guild(guild_id))
            if number % _BATCH_MAX == 0:
                await asyncio.sleep(0)
        return _json(found)

    def _guild(self, guild_id: int) -> dict[str, Any]:
        guild = self._state.world.view(guild_id)
        shard = shard_of(guild_id, self._state.recommended_shards)
        members = len(guild.members)
        return {"id": str(guild_id), "name": guild.name, "shard": shard, "members": members}

    async def sessions(self, _request: web.Request) -> web.Response:
        """GET sessions."""
        return _json(
            [
                {
                    "id": session.id,
                    "shard": session.shard,
                    "num_shards": session.num_shards,
                    "seq": session.seq,
                    "intents": session.intents,
                    "connected": session.connected,
                }
                for session in self._state.hub.sessions.values()
            ]
        )

    async def audit(self, request: web.Request) -> web.Response:
        """GET audit; ``reset=1`` zeroes the counts after this answer, ``named=1`` adds what
        went wrong by name."""
        now = self._state.now()
        report: dict[str, Any] = dict(self._state.audit.report(now))
        if request.query.get("named", "").lower() in _YES:
            report["named"] = self._state.audit.named(now)
        if request.query.get("reset", "").lower() in _YES:
            self._state.audit.reset()
        return _json(report)

    # -- Playing

    async def play(self, request: web.Request) -> web.Response:
        """POST play."""
        args = await _form(request)
        kind, guild_id = args.get("kind"), self._guild_id(args)
        count = _number(args, "count", 1, PLAY_COUNT_MAX, default=1)
        if kind not in KINDS:
            raise Refused(400, f"there is no kind {kind!r}", exists=list(KINDS))
        sent = unwanted = 0
        for number in range(int(count)):
            if self._players.play(kind, guild_id, args):
                sent += 1
            else:
                unwanted += 1
            if number % _BATCH_MAX == _BATCH_MAX - 1:
                await asyncio.sleep(0)
        return _json({"kind": kind, "sent": sent, "unwanted": unwanted})

    async def start_load(self, request: web.Request) -> web.Response:
        """POST load."""
        args = await _form(request)
        guild_id = self._guild_id(args)
        rates = [
            _number(args, name, 0, RATE_MAX_PER_S, default=0)
            for name in ("interactions_per_s", "events_per_s")
        ]
        seconds = _number(args, "seconds", 0, SECONDS_MAX)
        registry = self._state.memory.registry
        if rates[0] > 0 and not registry.slash_commands(guild_id):
            raise Unplayable(
                "the bot has registered no slash command", "wait until it has synced its commands"
            )
        try:
            load = self._loads.start(
                interactions_per_s=rates[0],
                events_per_s=rates[1],
                seconds=seconds,
                guild_id=guild_id,
            )
        except TooManyLoads:
            raise Refused(409, "too many loads are running") from None
        return _json({"id": load.id})

    async def load(self, request: web.Request) -> web.Response:
        """GET load/{id}."""
        return _json(self._load(request).report(self._state.now()))

    async def cancel_load(self, request: web.Request) -> web.Response:
        """DELETE load/{id}: ends it now, and says how far it came."""
        load = self._load(request)
        await self._loads.cancel(load)
        return _json(load.report(self._state.now()))

    def _load(self, request: web.Request) -> Load:
        load = self._loads.find(request.match_info["load"])
        if load is None:
            raise Refused(404, f"there is no load {request.match_info['load']!r}")
        return load

    def _guild_id(self, args: dict[str, Any]) -> int | None:
        given = args.get("guild")
        if given is None:
            return None
        if not str(given).isdecimal() or int(given) not in self._state.world:
            ids = self._state.world.guild_ids()[:EXISTS_MAX]
            raise Refused(404, f"there is no guild {given}", exists=[str(i) for i in ids])
        return int(given)

    # -- Witnesses

    async def post_reports(self, request: web.Request) -> web.Response:
        """POST witness: a report or a list of them."""
        return _json({"taken": witness.take_text(self._state.audit, await request.read())})

    async def witness_socket(self, request: web.Request) -> web.WebSocketResponse:
        """WS witness: a report or a list of them in each text message; numbered ones are
        answered with how many of them are taken."""
        socket = web.WebSocketResponse(max_msg_size=WITNESS_MESSAGE_MAX_BYTES)
        await socket.prepare(request)
        self._witnesses.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    answer = witness.taken_from(self._state.audit, message.data)
                    if answer is not None:
                        await socket.send_json(answer)
        finally:
            self._witnesses.discard(socket)
        return socket


def routes(state: SandboxState) -> tuple[Control, list[web.RouteDef]]:
    """The handlers of a sandbox and their routes, also under the REST base."""
    control = Control(state)
    rows: tuple[tuple[str, str, Handler], ...] = (
        ("GET", "/info", control.info),
        ("GET", "/guilds", control.guilds),
        ("GET", "/sessions", control.sessions),
        ("GET", "/audit", control.audit),
        ("POST", "/play", control.play),
        ("POST", "/load", control.start_load),
        ("GET", "/load/{load}", control.load),
        ("DELETE", "/load/{load}", control.cancel_load),
        ("POST", "/witness", control.post_reports),
        ("GET", "/witness", control.witness_socket),
    )
    return control, [
        web.route(method, base + path, _guarded(handler))
        for base in ("/sandbox", f"{API_PATH}/sandbox")
        for method, path, handler in rows
    ]


def _guarded(handler: Handler) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as error:
            return _json({"message": str(error), **error.extra}, error.status)
        except Unplayable as error:
            return _json({"message": str(error), "hint": error.hint}, 409)

    return serve


async def _form(request: web.Request) -> dict[str, Any]:
    try:
        args = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(args, dict):
        raise Refused(400, "the body must be a JSON object")
    return args


def _number(
    args: dict[str, Any], name: str, low: float, high: float, default: float | None = None
) -> float:
    value = args.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value is None or not low <= value <= high:
        raise Refused(400, f"{name} is {value!r}; it must be between {low:g} and {high:g}")
    return float(value)


def _json(body: Any, status: int = 200) -> web.Response:
    raw = json.dumps(body).encode()
    return web.Response(status=status, body=raw, headers={"Content-Type": "application/json"})
