"""Where disnake looks for an event's parser: each dispatch of a held shard passes here.

The journal has an event before any handler of it takes a step: what is not in it when the
process is killed was not started, and comes again with the RESUME.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shard_node.gate import Verdict
from shard_node.journal.records import MUTATING, Session, guild_of
from shard_node.outbound import Entry

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeWebSocket
    from shard_node.bridge.keeping import Keeping
    from shard_node.bridge.passing import Passing
    from shard_node.journal.writer import ShardJournal

_log = logging.getLogger(__name__)

_CHUNK: Final = "GUILD_MEMBERS_CHUNK"
_STARTER: Final = 21
"""A thread's first message (Discord, Message Types: THREAD_STARTER_MESSAGE)."""

_OF_SESSIONS: Final = frozenset({"READY", "RESUMED"})

Parser = Callable[[Any], Any]


class Tap:
    """Stands in for the parsers of one connection; ``[event]`` is called at once.

    An event that disnake does not know is handled by nobody, and still counts.
    """

    __slots__ = (
        "_affinity",
        "_event",
        "_exile",
        "_gate",
        "_keeping",
        "_parsers",
        "_passing",
        "_tracking",
        "_ws",
    )

    def __init__(
        self, keeping: Keeping, passing: Passing, ws: NodeWebSocket, parsers: Mapping[str, Parser]
    ) -> None:
        self._keeping, self._ws, self._parsers = keeping, ws, parsers
        self._passing, self._affinity = passing, passing.affinity
        self._gate, self._tracking = keeping.gate, keeping.tracking
        self._exile = keeping.exile
        self._event = ""

    def __getitem__(self, event: str) -> Parser:
        self._event = event
        return self._take

    def _take(self, data: Any) -> None:
        event, ws = self._event, self._ws
        raw, ws.raw = ws.raw, ""
        heard = ws.heard
        heard[event] = heard.get(event, 0) + 1
        shard, seq = ws.shard_id or 0, ws.sequence or 0
        journal = self._keeping.journals.get(shard)
        verdict = Verdict.PARSE if journal is None else self._gate.decide(shard, seq)
        if self._exile and self._is_away(journal, shard, seq, event, raw, data, verdict):
            return
        if journal is None:
            self._parse(event, data)
        elif verdict is Verdict.SKIP and event not in _OF_SESSIONS:
            pass
        elif verdict is Verdict.SUPPRESS and event != "READY":
            self._keep(journal, shard, seq, event, raw, data)
            self._keeping.feeder.event(event, data)
        else:
            self._keep(journal, shard, seq, event, raw, data)
            if not self._affinity or not self._passed(journal, shard, seq, event, data, raw):
                self._tracked(journal, seq, event, data)

    def _is_away(
        self,
        journal: ShardJournal | None,
        shard: int,
        seq: int,
        event: str,
        raw: str,
        data: Any,
        verdict: Verdict,
    ) -> bool:
        """Whether it goes to the process that has its guild."""
        one = self._exile.of(shard, event, data)
        if one is None:
            return False
        again = verdict is not Verdict.PARSE
        if journal is not None and not again:
            self._keep(journal, shard, seq, event, raw, data)
            journal = self._keeping.journals.get(shard)
        entry = Entry(self._ws.session_id or "", seq, event, raw.encode())
        self._exile.put(one, entry, data, journal, again=again)
        return True

    def _passed(
        self, journal: ShardJournal, shard: int, seq: int, event: str, data: Any, raw: str
    ) -> bool:
        """Whether another process handles it."""
        line = self._keeping.line(shard, journal)
        parse = partial(self._parse, event, data)
        return self._passing.takes(line, shard, seq, event, data, raw, parse)

    def _tracked(self, journal: ShardJournal, seq: int, event: str, data: Any) -> None:
        if event in _OF_SESSIONS:
            if event == "READY" and self._exile:
                data["guilds"] = self._exile.here(data["guilds"])
            self._parse(event, data)
            return
        line = self._keeping.line(self._ws.shard_id or 0, journal)
        self._tracking.begin(line, seq, event, data)
        try:
            self._parse(event, data)
        finally:
            self._tracking.end()

    def _parse(self, event: str, data: Any) -> None:
        try:
            parser = self._parsers[event]
        except KeyError:
            _log.debug("nobody parses %s", event)
            return
        parser(data)

    def _keep(
        self, journal: ShardJournal, shard: int, seq: int, event: str, raw: str, data: Any
    ) -> None:
        """Into the journal. A fault of ours harms no event; but a journal with a hole would
        have an event handled twice, so none is left then."""
        try:
            if event == "READY":
                self._keeping.new_session(shard, seq, _session(data))
            elif event in MUTATING and (event != _CHUNK or self._is_cached(data)):
                self._keep_change(journal, seq, event, raw, data)
            elif event == "MESSAGE_CREATE" and "guild_id" in data and data.get("type") != _STARTER:
                journal.last(seq, int(data["channel_id"]), int(data["id"]))
            else:
                journal.seen(seq)
        except Exception:
            _log.exception("shard %d: an event could not be written into the journal", shard)
            self._keeping.give_up(shard)

    def _keep_change(
        self, journal: ShardJournal, seq: int, event: str, raw: str, data: Any
    ) -> None:
        try:
            guild = guild_of(event, data)
        except (AttributeError, TypeError, ValueError):
            journal.seen(seq)  # nor can its parser read it
        else:
            journal.event(seq, event, raw, guild)

    def _is_cached(self, data: Any) -> bool:
        """Whether somebody asked for these members to keep them."""
        requests = self._keeping.client._connection._chunk_requests.values()
        nonce = data.get("nonce")
        return self._keeping.asked.keeps(nonce) or any(
            request.nonce == nonce and request.cache for request in requests
        )


def _session(ready: Any) -> Session:
    return Session(
        ready["session_id"],
        ready["resume_gateway_url"],
        ready["user"],
        ready.get("application") or {},
        [int(guild["id"]) for guild in ready["guilds"]],
    )
