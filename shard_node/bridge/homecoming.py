"""What waits of a guild that is handled by its shard's holder again, handled here; and its part of
the caches, out of the shard's journal."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge.exiled import Exiled
from shard_node.journal.cleaning import opened, payload
from shard_node.outbound import Entry

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold
    from shard_node.bridge.keeping import Keeping
    from shard_node.journal.writer import ShardJournal

_log = logging.getLogger(__name__)

SLICE_S: Final = 0.005
"""Other guilds are served in between."""


class Homecoming:
    """Of one bot."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def parse(self, one: Exiled) -> bool:
        """Handle what waits, for SLICE_S. True: nothing is left, here or to come again."""
        until = time.perf_counter() + SLICE_S
        keeping = self._hold.keeping
        journal = None if keeping is None else keeping.journals.get(one.shard)
        while (entry := one.out.pop()) is not None:
            self._handle(one, keeping, journal, entry)
            if time.perf_counter() >= until:
                break
        return not len(one.out) and not (journal and journal.story.unhandled(one.guild))

    def feed(self, shard: int, guild: int) -> None:
        """Its part of the caches, as far as it was handled."""
        keeping = self._hold.keeping
        journal = None if keeping is None else keeping.journals.get(shard)
        if keeping is None or journal is None:
            return
        journal.flush()
        story, feeder, bad = journal.story, keeping.feeder, 0
        pieces = [piece for piece in story.guilds.of(guild) if piece.seq not in story.out]
        feeder.drop(guild)
        if not pieces and story.session is not None and guild in story.session.guilds:
            feeder.absent([guild])
        try:
            with opened(keeping.place.segments(shard)) as files:
                for piece in pieces:
                    try:
                        feeder.piece(piece, payload(files, piece))
                    except Exception:
                        bad += 1
                        _log.debug("guild %d: a change could not be fed", guild, exc_info=True)
        except OSError as error:
            _log.warning("guild %d could not be read from the journal: %s", guild, error)
        feeder.lasts(story)
        if bad:
            _log.warning("guild %d: %d changes of its journal could not be fed", guild, bad)
        self._hold.reports.changed()

    def _handle(
        self, one: Exiled, keeping: Keeping | None, journal: ShardJournal | None, entry: Entry
    ) -> None:
        hold, event = self._hold, entry.event
        data = json.loads(entry.raw)["d"]
        parse = partial(self._parse, event, data)
        line = None
        if keeping is not None and journal is not None:
            session = journal.story.session
            if session is not None and session.id == entry.session:
                journal.acked(one.guild, entry.seq)  # in the frame in which its handlers start
                line = keeping.line(one.shard, journal)
        text = entry.raw.decode()
        if line is not None:
            passing = hold.passing
            if passing.affinity and passing.takes(
                line, one.shard, entry.seq, event, data, text, parse
            ):
                return
            hold.tracking.begin(line, entry.seq, event, data)
        try:
            parse()
        except Exception as error:
            report = hold.client._dispatch_gateway_error(event, data, one.shard, error)
            asyncio.get_running_loop().create_task(report, name="shardctl: gateway error")
        finally:
            if line is not None:
                hold.tracking.end()

    def _parse(self, event: str, data: Any) -> None:
        try:
            parser = self._hold.client._connection.parsers[event]
        except KeyError:
            _log.debug("nobody parses %s", event)
            return
        parser(data)
