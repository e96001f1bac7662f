"""Trouble on command: ``POST /sandbox/trouble`` with ``{"kind": ..., ...}``.

Troubles of connections take ``shard`` and ``num_shards`` (missing: any) and answer with the
sessions they hit; none is a 404 that lists the sessions there are.

    kind              fields (defaults)
    drop              the connection breaks without a close frame
    reconnect         op 7; grace_s (10): a connection that stays so long is closed with 4000
    invalid_session   op 9; resumable (false)
    close             code (4000), reason ("")
    heartbeat         op 1: ask the client for a heartbeat at once
    deaf              events (null = all), lost (false), sticky (false), seconds (null), off
    delay             delay_s, seconds (null), off
    no_ack            heartbeats stay unanswered; seconds (null), off
    refuse_resume     count (1), off
    dead_resume_url   seconds (null), off
    storm_429         seconds (null) or count (null), retry_after_s (1), scope (user), off
    add_guilds        count (1)
    remove_guilds     guilds [ids] or count (1): the newest ones
    recommend_shards  shards
    budget            remaining

``seconds`` null lasts until ``off``: true. Deaf: with ``lost`` the events never enter the
session's stream; else they are numbered and a RESUME brings them. A RESUME cures deafness
unless it is ``sticky``.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from shard_node.sandbox import trouble_args as take
from shard_node.sandbox.codes import Close, Op
from shard_node.sandbox.config import API_PATH, GUILDS_MAX, HOST, SHARDS_MAX
from shard_node.sandbox.session import GatewaySession, Refusal, encode, frame
from shard_node.sandbox.state import RESUME_PATH, SandboxState, Storm
from shard_node.sandbox.trouble_args import Args, NothingFound, TroubleError

TROUBLE_PATH: Final = "/sandbox/trouble"

CLOSE_CODE_MIN: Final = 1000
CLOSE_CODE_MAX: Final = 4999
REASON_BYTES_MAX: Final = 123
"""RFC 6455: what a close frame can carry after its code."""

EXISTS_MAX: Final = 100
"""Identifiers that an error lists at most."""

SECONDS_MAX: Final = 86_400.0
RECONNECT_GRACE_S: Final = 10.0
"""Ours: Discord hangs up on who does not follow op 7, and does not say after how long."""

COUNT_MAX: Final = 1_000_000
SCOPES: Final = ("user", "global", "shared")

Answer = dict[str, Any]
Later = Callable[[float, Callable[[], None]], object]
"""Runs something so many seconds from now: a loop's ``call_later``."""


class Troubles:
    """Makes trouble in one sandbox. Methods named like the kinds return their answers."""

    def __init__(self, state: SandboxState, later: Later) -> None:
        self._state = state
        self._later = later
        self._dead_port: socket.socket | None = None

    def make(self, args: Args) -> Answer:
        """Do what is asked. TroubleError: it cannot be done, nothing has changed."""
        kind = args.get("kind")
        act = _KINDS.get(kind) if isinstance(kind, str) else None
        if act is None:
            msg = f"there is no trouble {kind!r}"
            raise TroubleError(msg, sorted(_KINDS))
        self._state.audit.counters["troubles"] += 1
        return {"kind": kind, **act(self, args)}

    # -- Connections

    def _connected(self, args: Args) -> list[GatewaySession]:
        return [session for session in self._sessions(args) if session.connected]

    def _sessions(self, args: Args) -> list[GatewaySession]:
        hub, target = self._state.hub, take.target(args, SHARDS_MAX)
        found = hub.matching(target)
        if not found:
            msg = "no session matches: the sandbox has those listed"
            raise NothingFound(msg, [_named(session) for session in hub.sessions.values()])
        return found

    def drop(self, args: Args) -> Answer:
        """Break connections without a close frame."""
        sessions = self._connected(args)
        for session in sessions:
            if session.link is not None:
                session.link.abort()
        return _hit(sessions)

    def reconnect(self, args: Args) -> Answer:
        """Send op 7, and hang up on who does not go."""
        grace_s = take.optional_number(args, "grace_s", SECONDS_MAX)
        holders = [(session, session.link) for session in self._connected(args)]

        def hang_up() -> None:
            for session, link in holders:
                if link is not None and session.link is link:
                    link.close(Close.UNKNOWN_ERROR, "Reconnect was asked for.")

        answer = self._send(args, frame(Op.RECONNECT))
        self._later(RECONNECT_GRACE_S if grace_s is None else grace_s, hang_up)
        return answer

    def heartbeat(self, args: Args) -> Answer:
        """Send op 1."""
        return self._send(args, frame(Op.HEARTBEAT))

    def _send(self, args: Args, text: str) -> Answer:
        sessions = self._connected(args)
        for session in sessions:
            if session.link is not None:
                session.link.send(text)
        return _hit(sessions)

    def invalid_session(self, args: Args) -> Answer:
        """Send op 9; a session that is not resumable is over."""
        state, resumable = self._state, take.flag(args, "resumable")
        sessions = self._connected(args)
        for session in sessions:
            link = session.link
            if link is None:
                continue
            link.send(frame(Op.INVALID_SESSION, resumable))
            state.hub.detach(session, link, state.now())
            if not resumable:
                state.hub.kill(session.id)
        return _hit(sessions)

    def close(self, args: Args) -> Answer:
        """Close connections with a code; the session lives or dies as the code says."""
        code = take.integer(args, "code", CLOSE_CODE_MIN, CLOSE_CODE_MAX, 4000)
        reason = str(args.get("reason", ""))
        if len(reason.encode()) > REASON_BYTES_MAX:
            msg = f"reason is longer than {REASON_BYTES_MAX} bytes"
            raise TroubleError(msg)
        sessions = self._connected(args)
        for session in sessions:
            self._state.hub.close(session, code, reason)
        return _hit(sessions)

    def deaf(self, args: Args) -> Answer:
        """Withhold events from sessions that go on being acknowledged."""
        deafness = None if take.flag(args, "off") else take.deafness(args)

        def put(session: GatewaySession) -> None:
            session.deaf = deafness

        def end(session: GatewaySession) -> None:
            if session.deaf is deafness:
                session.deaf = None

        return self._for_a_while(args, put, end)

    def delay(self, args: Args) -> Answer:
        """Send every dispatch late."""
        off = take.flag(args, "off")
        delay_s = 0.0 if off else take.number(args, "delay_s", SECONDS_MAX)

        def put(session: GatewaySession) -> None:
            session.delay_s = delay_s

        def end(session: GatewaySession) -> None:
            session.delay_s = 0.0

        return self._for_a_while(args, put, end)

    def no_ack(self, args: Args) -> Answer:
        """Leave heartbeats unanswered."""
        off = take.flag(args, "off")

        def put(session: GatewaySession) -> None:
            session.acknowledges = off

        def end(session: GatewaySession) -> None:
            session.acknowledges = True

        return self._for_a_while(args, put, end)

    def _for_a_while(
        self,
        args: Args,
        put: Callable[[GatewaySession], None],
        end: Callable[[GatewaySession], None],
    ) -> Answer:
        seconds = take.optional_number(args, "seconds", SECONDS_MAX)
        sessions = self._sessions(args)

        def end_all() -> None:
            for session in sessions:
                end(session)

        for session in sessions:
            put(session)
        if seconds is not None:
            self._later(seconds, end_all)
        return _hit(sessions)

    # -- RESUME

    def refuse_resume(self, args: Args) -> Answer:
        """Refuse the next RESUMEs of a target; the sessions are over then."""
        hub, target = self._state.hub, take.target(args, SHARDS_MAX)
        hub.refusals = [refusal for refusal in hub.refusals if refusal.target != target]
        count = 0 if take.flag(args, "off") else take.integer(args, "count", 0, COUNT_MAX, 1)
        if count:
            hub.refusals.append(Refusal(target, count))
        return {"count": count}

    def dead_resume_url(self, args: Args) -> Answer:
        """New sessions get a resume URL that refuses; the old URL drops who comes."""
        seconds = take.optional_number(args, "seconds", SECONDS_MAX)
        if take.flag(args, "off"):
            self._revive_resume_url()
            return {"resume_gateway_url": self._state.hub.resume_url}
        if self._dead_port is None:
            self._dead_port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._dead_port.bind((HOST, 0))  # bound but not listening: it refuses
        port = self._dead_port.getsockname()[1]
        self._state.resume_is_dead = True
        self._state.hub.resume_url = f"ws://{HOST}:{port}{RESUME_PATH}"
        if seconds is not None:
            self._later(seconds, self._revive_resume_url)
        return {"resume_gateway_url": self._state.hub.resume_url}

    def _revive_resume_url(self) -> None:
        self._state.resume_is_dead = False
        self._state.listening(self._state.port)

    def shut(self) -> None:
        """Give back the port that refuses."""
        if self._dead_port is not None:
            self._dead_port.close()
            self._dead_port = None

    # -- REST, world, plan

    def storm_429(self, args: Args) -> Answer:
        """Answer REST requests with 429 for some seconds, or so many of them."""
        scope = args.get("scope", "user")
        if scope not in SCOPES:
            msg = f"scope is {scope!r}"
            raise TroubleError(msg, list(SCOPES))
        retry_after_s = take.optional_number(args, "retry_after_s", SECONDS_MAX)
        seconds = take.optional_number(args, "seconds", SECONDS_MAX)
        count = take.optional_integer(args, "count", 0, COUNT_MAX)
        storm = Storm(retry_after_s=1.0 if retry_after_s is None else retry_after_s, scope=scope)
        if not take.flag(args, "off"):
            storm.left = count
            storm.until = self._state.now() + (SECONDS_MAX if seconds is None else seconds)
        self._state.storm = storm
        return {"count": count, "seconds": seconds}

    def add_guilds(self, args: Args) -> Answer:
        """The bot joins new guilds."""
        world, hub = self._state.world, self._state.hub
        count = take.integer(args, "count", 1, GUILDS_MAX, 1)
        if len(world) + count > GUILDS_MAX:
            msg = f"the sandbox holds at most {GUILDS_MAX} guilds and has {len(world)}"
            raise TroubleError(msg)
        added = world.add_guilds(count)
        self._state.audit.counters["guild_joins_sent"] += sum(
            hub.guild_joined(guild_id) > 0 for guild_id in added
        )
        return {"guilds": [str(guild_id) for guild_id in added]}

    def remove_guilds(self, args: Args) -> Answer:
        """The bot leaves guilds."""
        world, hub = self._state.world, self._state.hub
        doomed = self._doomed(args)
        for guild_id in doomed:
            hub.guild_left(guild_id)
            world.remove_guild(guild_id)
        return {"guilds": [str(guild_id) for guild_id in doomed]}

    def _doomed(self, args: Args) -> list[int]:
        world = self._state.world
        doomed = take.identifiers(args, "guilds")
        if doomed is None:
            count = take.integer(args, "count", 1, GUILDS_MAX, 1)
            return world.guild_ids()[-count:]
        unknown = [str(guild_id) for guild_id in doomed if guild_id not in world]
        if unknown:
            msg = f"the bot is not in {', '.join(unknown)}"
            raise NothingFound(msg, [str(g) for g in world.guild_ids()[:EXISTS_MAX]])
        return doomed

    def recommend_shards(self, args: Args) -> Answer:
        """Change what ``GET /gateway/bot`` recommends."""
        self._state.recommended_shards = take.integer(args, "shards", 1, SHARDS_MAX)
        return {"shards": self._state.recommended_shards}

    def budget(self, args: Args) -> Answer:
        """Set what is left of the daily IDENTIFY budget."""
        total = self._state.gate.total
        self._state.gate.set_remaining(take.integer(args, "remaining", 0, total))
        return self._state.gate.limit(self._state.now())


_KINDS: Final[dict[str, Callable[[Troubles, Args], Answer]]] = {
    "drop": Troubles.drop,
    "reconnect": Troubles.reconnect,
    "invalid_session": Troubles.invalid_session,
    "close": Troubles.close,
    "heartbeat": Troubles.heartbeat,
    "deaf": Troubles.deaf,
    "delay": Troubles.delay,
    "no_ack": Troubles.no_ack,
    "refuse_resume": Troubles.refuse_resume,
    "dead_resume_url": Troubles.dead_resume_url,
    "storm_429": Troubles.storm_429,
    "add_guilds": Troubles.add_guilds,
    "remove_guilds": Troubles.remove_guilds,
    "recommend_shards": Troubles.recommend_shards,
    "budget": Troubles.budget,
}


def _hit(sessions: list[GatewaySession]) -> Answer:
    return {"sessions": [_named(session) for session in sessions]}


def _named(session: GatewaySession) -> dict[str, int]:
    return {"shard": session.shard, "num_shards": session.num_shards}


def routes(state: SandboxState) -> tuple[Troubles, list[web.RouteDef]]:
    """The troubles of a sandbox and their route, also under the REST base."""

    def later(seconds: float, act: Callable[[], None]) -> object:
        return asyncio.get_running_loop().call_later(seconds, act)

    troubles = Troubles(state, later)

    async def handle(request: web.Request) -> web.Response:
        return _answer(troubles, await request.read())

    paths = (TROUBLE_PATH, f"{API_PATH}{TROUBLE_PATH}")
    return troubles, [web.post(path, handle) for path in paths]


def _answer(troubles: Troubles, body: bytes) -> web.Response:
    try:
        return _json(200, troubles.make(_args(body)))
    except TroubleError as error:
        status = 404 if isinstance(error, NothingFound) else 400
        extra = {} if error.exists is None else {"exists": error.exists}
        return _json(status, {"message": str(error), **extra})


def _args(body: bytes) -> Args:
    try:
        args = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = f"the body is not JSON: {error}"
        raise TroubleError(msg) from None
    if not isinstance(args, dict):
        msg = "the body must be a JSON object"
        raise TroubleError(msg)
    return args


def _json(status: int, data: Answer) -> web.Response:
    return web.Response(status=status, body=encode(data).encode(), content_type="application/json")
