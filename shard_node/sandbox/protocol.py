"""One gateway connection from HELLO to its end: opcodes in, payloads and closes out. Pure.

Sources: Discord's "Gateway Events" and "Opcodes and Status Codes" documentation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from shard_node.sandbox import intents as intent
from shard_node.sandbox import members, payloads, requests
from shard_node.sandbox.codes import CLIENT_ENDS, REASONS, SESSION_ENDS, Close, Op, Refused
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.gate import Gate, SendLimit, Verdict
from shard_node.sandbox.members import MembersRequest
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.requests import Identify, Resume, VoiceRequest
from shard_node.sandbox.session import GatewaySession, Hub, Link, ResumeVerdict, encode, frame
from shard_node.sandbox.world import World


class GatewayConnection:
    """A client's connection: identified or not, alive or late with its heartbeat."""

    def __init__(
        self,
        *,
        config: SandboxConfig,
        world: World,
        hub: Hub,
        gate: Gate,
        counters: Counter[str],
        link: Link,
        now: float,
    ) -> None:
        self._config = config
        self._world = world
        self._hub = hub
        self._gate = gate
        self._counters = counters
        self._link = link
        self._sends = SendLimit(config.sends_max, config.sends_window_s)
        self._heard_at = now
        self._closing = False
        self._session: GatewaySession | None = None

    @property
    def session(self) -> GatewaySession | None:
        """The session that this connection holds; None before one and after its end."""
        session = self._session
        if session is None or session.link is not self._link:
            return None
        return session if session.id in self._hub.sessions else None

    # -- In and out

    def hello(self) -> None:
        """Greet the client: the first payload of every connection."""
        data = {"heartbeat_interval": self._config.heartbeat_interval_ms, "_trace": ["sandbox"]}
        self._link.send(frame(Op.HELLO, data))

    def receive(self, text: str | bytes, now: float) -> None:
        """Act on one payload of the client."""
        if self._closing:
            return
        try:
            if not self._sends.allows(now):
                raise Refused(Close.RATE_LIMITED)
            op, data = self._decode(text)
            self._act(op, data, now)
        except Refused as refused:
            self.close(refused.code)

    def pump(self) -> bool:
        """Send one of the session's startup guilds; False when there is none."""
        session = self.session
        return session is not None and self._hub.pump(session)

    def deadline(self) -> float | None:
        """The moment by which the next heartbeat must have come; None once it closes."""
        if self._closing:
            return None
        interval_s = self._config.heartbeat_interval_ms / 1000
        return self._heard_at + interval_s * self._config.heartbeat_misses

    def overdue(self, now: float) -> None:
        """Close the connection when its heartbeat is overdue; its session is over."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self.close(Close.SESSION_TIMED_OUT)

    def close(self, code: int) -> None:
        """Close the connection from the server's side."""
        self._closing = True
        self._counters[f"closes_{code}"] += 1
        if self.session is not None and code in SESSION_ENDS:
            self._hub.kill(self.session.id)
        self._link.close(code, REASONS.get(code, ""))

    def ended(self, client_code: int | None, now: float) -> None:
        """The connection is gone; ``client_code`` is the client's close code if it sent one."""
        self._closing = True
        session = self.session
        if session is None:
            return
        self._hub.detach(session, self._link, now)
        if client_code in CLIENT_ENDS:
            self._hub.kill(session.id)

    # -- Decoding

    def _decode(self, text: str | bytes) -> tuple[Op, Any]:
        if len(text) > self._config.payload_max_bytes:
            raise Refused(Close.DECODE_ERROR)
        try:
            payload = json.loads(text)
            number = payload["op"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Refused(Close.DECODE_ERROR) from None
        if type(number) is not int:
            raise Refused(Close.DECODE_ERROR)
        if number not in _ACTIONS:
            raise Refused(Close.UNKNOWN_OPCODE)
        return Op(number), payload.get("d")

    def _act(self, op: Op, data: Any, now: float) -> None:
        if op in (Op.IDENTIFY, Op.RESUME) and self.session is not None:
            raise Refused(Close.ALREADY_AUTHENTICATED)
        if op not in (Op.HEARTBEAT, Op.IDENTIFY, Op.RESUME) and self.session is None:
            raise Refused(Close.NOT_AUTHENTICATED)
        action = _ACTIONS[op]
        try:
            request = action.parse(data)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise Refused(Close.DECODE_ERROR) from None
        action.act(self, request, now)

    # -- Opcodes

    def _heartbeat(self, _seq: int | None, now: float) -> None:
        self._heard_at = now
        if self.session is None or self.session.acknowledges:
            self._link.send(frame(Op.HEARTBEAT_ACK))

    def _identify(self, identify: Identify, now: float) -> None:
        """Every IDENTIFY that opens no session is a rejected one, whatever the reason."""
        self._counters["identifies"] += 1
        try:
            self._session = self._admitted(identify, now)
        finally:
            self._counters["identifies_rejected"] += self._session is None

    def _admitted(self, identify: Identify, now: float) -> GatewaySession | None:
        self._session = None
        self._authenticate(identify.token)
        self._check(identify)
        verdict = self._gate.identify(identify.shard, now)
        if verdict is Verdict.BUDGET_SPENT:
            self._hub.void_token()
            raise Refused(Close.AUTHENTICATION_FAILED)
        if verdict is Verdict.TOO_FAST:
            self._link.send(frame(Op.INVALID_SESSION, False))
            return None
        return self._hub.open(self._link, identify, now)

    def _authenticate(self, token: str) -> None:
        if token.removeprefix("Bot ") != self._world.token:
            raise Refused(Close.AUTHENTICATION_FAILED)

    def _check(self, identify: Identify) -> None:
        if identify.intents < 0 or identify.intents & ~intent.ALL:
            raise Refused(Close.INVALID_INTENTS)
        if identify.intents & self._config.disallowed_intents:
            raise Refused(Close.DISALLOWED_INTENTS)
        multiple = self._config.large_bot_shard_multiple
        if len(self._world) >= self._config.large_bot_guilds and identify.num_shards % multiple:
            raise Refused(Close.INVALID_SHARD)
        guilds = self._hub.guilds_of(identify.shard, identify.num_shards)
        if len(guilds) > self._config.shard_guilds_max:
            raise Refused(Close.SHARDING_REQUIRED)

    def _resume(self, request: Resume, now: float) -> None:
        self._authenticate(request.token)
        verdict, session = self._hub.resume(self._link, request.session_id, request.seq, now)
        if verdict is ResumeVerdict.RESUMED:
            self._counters["resumes"] += 1
            self._session = session
            return
        self._counters["resumes_failed"] += 1
        if verdict is ResumeVerdict.INVALID_SEQ:
            raise Refused(Close.INVALID_SEQ)
        self._link.send(frame(Op.INVALID_SESSION, False))

    def _presence(self, presence: Payload, _now: float) -> None:
        self._identified().presence = presence
        self._counters["presence_updates"] += 1

    def _voice_state(self, request: VoiceRequest, _now: float) -> None:
        session, guild_id, channel_id = self._identified(), request.guild_id, request.channel_id
        if not session.owns(guild_id) or guild_id not in self._world:
            return
        guild, bot_id = self._world.guild(guild_id), self._world.application_id
        state = payloads.voice_state(
            bot_id,
            guild_id,
            channel_id,
            session_id=session.id,
            member_payload=guild.members[bot_id],
            self_mute=request.self_mute,
            self_deaf=request.self_deaf,
        )
        guild.voice_states.pop(bot_id, None)
        if channel_id is not None:
            guild.voice_states[bot_id] = state
        self._hub.dispatch("VOICE_STATE_UPDATE", state, guild_id=guild_id)
        if channel_id is not None:
            self._voice_server(session, guild_id)

    def _voice_server(self, session: GatewaySession, guild_id: int) -> None:
        """No voice server stands behind the sandbox: ``endpoint`` None asks to wait for one."""
        server = {"token": session.id[:16], "guild_id": str(guild_id), "endpoint": None}
        session.push("VOICE_SERVER_UPDATE", encode(server))

    def _request_members(self, request: MembersRequest, _now: float) -> None:
        session = self._identified()
        if not session.owns(request.guild_id) or request.guild_id not in self._world:
            return
        self._counters["member_requests"] += 1
        if not members.permitted(request, session.intents):
            return
        for chunk in members.chunks(self._world.view(request.guild_id), request):
            session.push("GUILD_MEMBERS_CHUNK", encode(chunk))

    def _request_soundboard(self, guild_ids: list[int], _now: float) -> None:
        session = self._identified()
        for guild_id in guild_ids:
            if session.owns(guild_id) and guild_id in self._world:
                answer = {"guild_id": str(guild_id), "soundboard_sounds": []}
                session.push("SOUNDBOARD_SOUNDS", encode(answer))

    def _identified(self) -> GatewaySession:
        if self.session is None:
            raise Refused(Close.NOT_AUTHENTICATED)
        return self.session


class _Action(NamedTuple):
    """How an opcode's ``d`` is checked, and what is then done."""

    parse: Callable[[Any], Any]
    act: Callable[[GatewayConnection, Any, float], None]


_ACTIONS: Final[dict[int, _Action]] = {
    Op.HEARTBEAT: _Action(requests.seq, GatewayConnection._heartbeat),
    Op.IDENTIFY: _Action(requests.identify, GatewayConnection._identify),
    Op.PRESENCE_UPDATE: _Action(requests.presence, GatewayConnection._presence),
    Op.VOICE_STATE_UPDATE: _Action(requests.voice, GatewayConnection._voice_state),
    Op.RESUME: _Action(requests.resume, GatewayConnection._resume),
    Op.REQUEST_GUILD_MEMBERS: _Action(members.parse, GatewayConnection._request_members),
    Op.REQUEST_SOUNDBOARD_SOUNDS: _Action(
        requests.soundboard, GatewayConnection._request_soundboard
    ),
}
