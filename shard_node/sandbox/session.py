"""Gateway sessions and the hub that gives each one its events. Pure: no socket, no clock.

A session outlives its connection: events go on being numbered and buffered, and RESUME
replays them. What is sent goes to a `Link`, the port that the websocket shell implements.

Sources: Discord's gateway documentation, "Connections", "Resuming", "Sharding".
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from shard_node.sandbox import intents as intent
from shard_node.sandbox.codes import REASONS, SESSION_ENDS, Close
from shard_node.sandbox.config import API_VERSION, SandboxConfig
from shard_node.sandbox.payloads import APPLICATION_FLAGS, Payload
from shard_node.sandbox.replay import ReplayBuffer
from shard_node.sandbox.requests import Identify
from shard_node.sandbox.snowflake import mix, shard_of
from shard_node.sandbox.world import SandboxGuild, World

PRESENCE_MEMBERS_MAX = 75_000
"""Guilds above it send no members but the bot, whatever the intents."""

SESSION_TAKEN = Close.UNKNOWN_ERROR
"""Close code for the old connection of a session that another connection resumed."""


def encode(data: Any) -> str:
    """JSON without blanks."""
    return json.dumps(data, separators=(",", ":"))


def frame(op: int, data: Any = None) -> str:
    """A gateway payload that is not a dispatch."""
    return encode({"t": None, "s": None, "op": op, "d": data})


class Link(Protocol):
    """A connection's sending half. Every call returns at once."""

    def send(self, text: str, delay_s: float | None = None) -> None:
        """Queue a payload. One with a delay leaves in order, no earlier than that from now."""

    def close(self, code: int, reason: str = "") -> None:
        """Close with a code once what is queued has gone out."""

    def abort(self) -> None:
        """Drop the connection without a word."""

    def wake(self) -> None:
        """The session has startup guilds to send: call `Hub.pump` until it says no."""


@dataclass(frozen=True, slots=True)
class Deafness:
    """Events that a session is not sent: all of them, or those of ``events``.

    ``lost`` events never enter the stream; others are numbered and a RESUME replays them.
    ``sticky`` deafness outlives the connection; other deafness ends with a RESUME.
    """

    events: frozenset[str] | None = None
    lost: bool = False
    sticky: bool = False

    def covers(self, event: str) -> bool:
        """Whether this event is withheld."""
        return self.events is None or event in self.events


@dataclass(slots=True)
class GatewaySession:
    """One session: its stream of numbered dispatches and the connection it has, if any."""

    id: str
    shard: int
    num_shards: int
    intents: int
    large_threshold: int
    buffer: ReplayBuffer
    created_at: float
    link: Link | None = None
    seq: int = 0
    pending: dict[int, None] = field(default_factory=dict)
    presence: Payload | None = None
    deaf: Deafness | None = None
    delay_s: float = 0.0
    acknowledges: bool = True
    disconnected_at: float | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection holds the session now."""
        return self.link is not None

    def owns(self, guild_id: int | None) -> bool:
        """Whether a guild's events are this session's; None is a direct message."""
        if guild_id is None:
            return self.shard == 0
        return shard_of(guild_id, self.num_shards) == self.shard

    def push(self, event: str, text: str) -> bool:
        """Number, keep and send a dispatch; False when deafness lost it."""
        deaf = self.deaf is not None and self.deaf.covers(event)
        if deaf and self.deaf is not None and self.deaf.lost:
            return False
        self.seq += 1
        self.buffer.append(self.seq, event, text)
        if self.link is not None and not deaf:
            self.link.send(_dispatch(event, self.seq, text), self.delay_s)
        return True

    def push_unkept(self, event: str, text: str) -> None:
        """Number and send READY or RESUMED, which no RESUME replays."""
        self.seq += 1
        if self.link is not None:
            self.link.send(_dispatch(event, self.seq, text), self.delay_s)


class ResumeVerdict(Enum):
    """What becomes of one RESUME."""

    RESUMED = "resumed"
    INVALID_SESSION = "invalid session"
    INVALID_SEQ = "invalid seq"


@dataclass(frozen=True, slots=True)
class Target:
    """Which sessions a trouble is for: None means any."""

    shard: int | None = None
    num_shards: int | None = None

    def matches(self, session: GatewaySession) -> bool:
        """Whether a session is meant."""
        return (self.shard is None or self.shard == session.shard) and (
            self.num_shards is None or self.num_shards == session.num_shards
        )


@dataclass(slots=True)
class Refusal:
    """RESUMEs still to be refused for a target."""

    target: Target
    left: int


class Hub:
    """All sessions of the bot, indexed by shard count and shard."""

    def __init__(self, config: SandboxConfig, world: World, counters: Counter[str]) -> None:
        self._config = config
        self._world = world
        self._counters = counters
        self._shards: dict[int, dict[int, list[GatewaySession]]] = {}
        self._opened = 0
        self.sessions: dict[str, GatewaySession] = {}
        self.latest_intents: int | None = None
        self.latest_num_shards = 1
        self.resume_url = ""
        self.refusals: list[Refusal] = []

    # -- Events

    def dispatch(self, event: str, data: Payload, *, guild_id: int | None) -> int:
        """Give an event to every session that it belongs to and whose intents ask for it.

        ``guild_id`` None is a direct message: shard 0 of each shard count. Returns how many
        streams, connected or resumable, carry it. A session that still waits for the guild
        gets the guild first.
        """
        direct, bot_id = guild_id is None, self._world.bot_id
        hidden = intent.content_hidden(event, data, direct=direct, bot_id=bot_id)
        texts: dict[bool, str] = {}
        reached = 0
        for session in self._sessions_of(guild_id):
            if not intent.receives(session.intents, event, data, direct=direct, bot_id=bot_id):
                continue
            if guild_id in session.pending:
                self._send_startup_guild(session, guild_id)
            blank = hidden and not session.intents & intent.MESSAGE_CONTENT
            if blank not in texts:
                texts[blank] = encode(intent.without_content(data) if blank else data)
            reached += session.push(event, texts[blank])
        return reached

    def guild_joined(self, guild_id: int) -> int:
        """Tell of a guild that the bot joined: GUILD_CREATE without ``unavailable``."""
        reached = 0
        for session in self._sessions_of(guild_id):
            if session.intents & intent.GUILDS:
                data = self._guild_payload(self._world.guild(guild_id), session)
                reached += session.push("GUILD_CREATE", encode(data))
        return reached

    def guild_left(self, guild_id: int) -> int:
        """Tell of a guild that the bot left: GUILD_DELETE without ``unavailable``."""
        for session in self._sessions_of(guild_id):
            session.pending.pop(guild_id, None)
        return self.dispatch("GUILD_DELETE", {"id": str(guild_id)}, guild_id=guild_id)

    def pump(self, session: GatewaySession) -> bool:
        """Send one startup guild of a connected session; False when there was none."""
        guild_id = next(iter(session.pending), None)
        if guild_id is None or not session.connected:
            return False
        self._send_startup_guild(session, guild_id)
        return True

    def _send_startup_guild(self, session: GatewaySession, guild_id: int) -> None:
        session.pending.pop(guild_id, None)
        data = self._guild_payload(self._world.view(guild_id), session)
        data["unavailable"] = False
        session.push("GUILD_CREATE", encode(data))

    def _guild_payload(self, guild: SandboxGuild, session: GatewaySession) -> Payload:
        """Members and presences need GUILD_PRESENCES; without it the bot and those in voice."""
        bot_id, members = self._world.application_id, guild.members
        large = len(members) > session.large_threshold
        if not session.intents & intent.GUILD_PRESENCES or len(members) > PRESENCE_MEMBERS_MAX:
            shown = {bot_id, *guild.voice_states}
            few = {i: members[i] for i in shown if i in members}
            return guild.create_payload(members=few, presences={}, large=large)
        if large:
            shown = {bot_id, *guild.voice_states, *guild.presences}
            members = {i: members[i] for i in members if i in shown}
        return guild.create_payload(members=members, presences=guild.presences, large=large)

    def _sessions_of(self, guild_id: int | None) -> list[GatewaySession]:
        found: list[GatewaySession] = []
        for num_shards, shards in self._shards.items():
            shard = 0 if guild_id is None else shard_of(guild_id, num_shards)
            found.extend(shards.get(shard, ()))
        return found

    def matching(self, target: Target) -> list[GatewaySession]:
        """The sessions that a target means."""
        return [session for session in self.sessions.values() if target.matches(session)]

    # -- Lives of sessions

    def guilds_of(self, shard: int, num_shards: int) -> list[int]:
        """The bot's guilds on a shard."""
        return [g for g in self._world.guild_ids() if shard_of(g, num_shards) == shard]

    def open(self, link: Link, identify: Identify, now: float) -> GatewaySession:
        """Start a session on a connection and send READY; startup guilds follow by `pump`."""
        self._opened += 1
        self.latest_intents = identify.intents
        self.latest_num_shards = identify.num_shards
        seed = self._config.seed
        session = GatewaySession(
            id=f"{mix(seed, 10, self._opened):016x}{mix(seed, 11, self._opened):016x}",
            shard=identify.shard,
            num_shards=identify.num_shards,
            intents=identify.intents,
            large_threshold=identify.large_threshold,
            buffer=ReplayBuffer(self._config.replay_events_max, self._config.replay_bytes_max),
            created_at=now,
            link=link,
            presence=identify.presence,
        )
        self.sessions[session.id] = session
        self._shards.setdefault(session.num_shards, {}).setdefault(session.shard, []).append(
            session
        )
        guild_ids = self.guilds_of(session.shard, session.num_shards)
        if session.intents & intent.GUILDS:
            session.pending = dict.fromkeys(guild_ids)
        session.push_unkept("READY", encode(self._ready(session, guild_ids)))
        session.buffer.floor = session.seq
        link.wake()
        return session

    def _ready(self, session: GatewaySession, guild_ids: list[int]) -> Payload:
        return {
            "v": API_VERSION,
            "user": self._world.bot_user,
            "user_settings": {},
            "session_type": "normal",
            "session_id": session.id,
            "resume_gateway_url": self.resume_url,
            "shard": [session.shard, session.num_shards],
            "application": {"id": self._world.bot_id, "flags": APPLICATION_FLAGS},
            "guilds": [{"id": str(g), "unavailable": True} for g in guild_ids],
            "private_channels": [],
            "presences": [],
            "relationships": [],
            "guild_join_requests": [],
            "geo_ordered_rtc_regions": [],
            "_trace": ["sandbox"],
        }

    def resume(
        self, link: Link, session_id: str, seq: int | None, now: float
    ) -> tuple[ResumeVerdict, GatewaySession | None]:
        """Judge a RESUME; when it holds, replay what followed ``seq`` and send RESUMED.

        A session that cannot be resumed is over. One that another connection holds is taken
        from it.
        """
        self.expire(now)
        session = self.sessions.get(session_id)
        if session is None:
            return ResumeVerdict.INVALID_SESSION, None
        if seq is not None and not 0 <= seq <= session.seq:
            self._give_up(session)
            return ResumeVerdict.INVALID_SEQ, None
        if seq is None or seq < session.buffer.floor or self._refused(session):
            self._give_up(session)
            return ResumeVerdict.INVALID_SESSION, None
        self._attach(session, link)
        for number, event, text in session.buffer.since(seq):
            link.send(_dispatch(event, number, text), session.delay_s)
        session.push_unkept("RESUMED", encode({"_trace": ["sandbox"]}))
        link.wake()
        return ResumeVerdict.RESUMED, session

    def _give_up(self, session: GatewaySession) -> None:
        """End a session and the connection that may still hold it: it would hear nothing."""
        self.kill(session.id)
        if session.link is not None:
            session.link.close(Close.SESSION_TIMED_OUT, REASONS[Close.SESSION_TIMED_OUT])

    def _refused(self, session: GatewaySession) -> bool:
        for refusal in self.refusals:
            if refusal.left > 0 and refusal.target.matches(session):
                refusal.left -= 1
                self.refusals = [kept for kept in self.refusals if kept.left > 0]
                return True
        return False

    def _attach(self, session: GatewaySession, link: Link) -> None:
        if session.link is not None:
            session.link.close(SESSION_TAKEN, "Session resumed by another connection.")
        session.link, session.disconnected_at = link, None
        session.acknowledges, session.delay_s = True, 0.0
        if session.deaf is not None and not session.deaf.sticky:
            session.deaf = None

    def detach(self, session: GatewaySession, link: Link, now: float) -> None:
        """The connection ended; the session waits for a RESUME."""
        if session.link is link:
            session.link, session.disconnected_at = None, now

    def kill(self, session_id: str) -> None:
        """End a session for good; its connection, if any, is left to the caller."""
        session = self.sessions.pop(session_id, None)
        if session is None:
            return
        shards = self._shards[session.num_shards]
        shards[session.shard].remove(session)
        if not shards[session.shard]:
            del shards[session.shard]
        if not shards:
            del self._shards[session.num_shards]

    def close(self, session: GatewaySession, code: int, reason: str) -> None:
        """Close a session's connection; the session lives or dies as the code says."""
        if code in SESSION_ENDS:
            self.kill(session.id)
        if session.link is not None:
            session.link.close(code, reason)

    def expire(self, now: float) -> None:
        """End the sessions that nobody resumed in time."""
        ttl_s = self._config.session_ttl_s
        for session in list(self.sessions.values()):
            if session.disconnected_at is not None and now - session.disconnected_at >= ttl_s:
                self.kill(session.id)

    def expiries(self) -> list[float]:
        """When the sessions without a connection end."""
        ttl_s = self._config.session_ttl_s
        waiting = (session.disconnected_at for session in self.sessions.values())
        return [since + ttl_s for since in waiting if since is not None]

    def void_token(self) -> None:
        """The budget is overspent: a new token, every session ended, every client closed."""
        self._world.reset_token()
        self._counters["token_resets"] += 1
        for session in list(self.sessions.values()):
            self.kill(session.id)
            if session.link is not None:
                session.link.close(
                    Close.AUTHENTICATION_FAILED, REASONS[Close.AUTHENTICATION_FAILED]
                )


def _dispatch(event: str, seq: int, text: str) -> str:
    return f'{{"t":"{event}","s":{seq},"op":0,"d":{text}}}'
