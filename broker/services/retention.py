"""Backups of the state when they are due, and the log trimmed behind each that was verified;
then rows are swept that told only of what was trimmed.

Nothing is trimmed without one: the shell answers with ``BackedUp`` only when the copy was read
back whole, and then what is too old goes in pieces, while all else goes on. A broker that dies
in between trims the rest behind its next backup.

Times between backups are of the monotonic clock and of log time, which do not jump. Log time
may have jumped over a reboot, with a wall clock that was wrong: how old a record is, is
counted in time that brokers ran, and a stop counts as STOP_MAX_MS at most.
"""

from __future__ import annotations

from typing import Final

from broker.core.effects import Backup, Effects, KeepNote, Log, Refuse, Reply, Trim
from broker.core.events import Asked, BackedUp, Event, StateCommitted
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.keeping import (
    DAY_MS,
    KEEPING_NOTE,
    TRIMMED,
    Keeping,
    Kept,
    LastBackup,
    write_kept,
)
from broker.services.sweeping import Sweeper
from shard_node.state.errors import StateError
from shard_node.state.opids import WINDOW, older_than
from shard_node.state.trimming import RECORDS_KEPT_MIN
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.state import StateTrim, StateTrimming
from store.records import Durable

START_S: Final = 300.0
"""A fleet that has just started has better things to do."""
RETRY_S: Final = 3600.0
"""After a backup that failed."""
PIECE_S: Final = 0.02
"""Between two pieces."""
STOP_MAX_MS: Final = DAY_MS
WARNING: Final = "backup"
_SAY: Final = "nothing is trimmed until one is made and verified"


class Retention:
    """One backup at a time, then the trimming behind it, then the sweeping."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet, self._shared = fleet, fleet.shared
        self._figures = fleet.shared.keeping
        self._settings = fleet.settings.keeping
        self._asked: StateTrim | None = None
        self._up_to = self._reached = 0
        self._piece_at: float | None = None
        self._sweeper = Sweeper(fleet.shared)
        self._believe(fleet.started_at)
        self._figures.next_at = self._first(fleet.started_at)

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case StateCommitted(token=token, code=code):
                return self._trimmed(now, code) if token == TRIMMED else []
            case Asked(ref=ref, body=StateTrim() as body):
                return self._trim(ref, body, now)
            case BackedUp():
                return self._backed_up(event, now)
        if self._piece_at is not None and now >= self._piece_at:
            self._piece_at = None
            return [Trim(self._up_to)]
        due = self._sweeper.due
        if due is not None and now >= due:
            return self._sweeper.look(now)
        due = self._figures.next_at
        return self._begin(now) if due is not None and now >= due else []

    def next_deadline(self) -> float | None:
        """When the next piece is trimmed or swept, or the next backup is due."""
        due = self._figures.next_at if self._piece_at is None else self._piece_at
        swept = self._sweeper.due
        return due if swept is None or (due is not None and due < swept) else swept

    # --- when

    def _believe(self, now: float) -> None:
        """Go on from what was kept: the log time since then, if that can be."""
        kept, at_ms = self._shared.kept, self._shared.clock.at_ms(now)
        if not kept.as_of_ms:
            self._shared.kept = Kept(kept.last, at_ms, at_ms)
            return
        most_ms = STOP_MAX_MS + int(1000 * (self._settings.backup_every_s if self._settings else 0))
        passed_ms = min(max(0, at_ms - kept.as_of_ms), most_ms)
        self._shared.kept = Kept(kept.last, kept.ran_ms + passed_ms, at_ms)

    def _ran_ms(self, now: float) -> int:
        """Log time, less what was not believed of it."""
        kept = self._shared.kept
        return kept.ran_ms + self._shared.clock.at_ms(now) - kept.as_of_ms

    def _first(self, now: float) -> float | None:
        """When the first backup since the start is due; None: never."""
        settings, last = self._settings, self._shared.kept.last
        if settings is None or not settings.backup_every_s:
            return None
        every_s = settings.backup_every_s
        soon_s = min(START_S, every_s)
        if last is None:
            return now + soon_s
        passed_s = (self._shared.clock.at_ms(now) - last.at_ms) / 1000
        return now + min(max(every_s - passed_s, soon_s), every_s)

    def _next(self, now: float, in_s: float) -> None:
        settings = self._settings
        every_s = settings.backup_every_s if settings is not None else 0.0
        self._figures.doing = ""
        self._figures.next_at = now + min(in_s, every_s) if every_s else None

    # --- the backup

    def _begin(self, now: float) -> Effects:
        settings = self._settings or Keeping()
        place, last = self._shared.port.place(), self._shared.kept.last
        unchanged = place.lsn == 0 or (
            last is not None and (last.lsn, last.digest) == (place.lsn, place.digest.hex())
        )
        if unchanged and self._asked is None:
            self._next(now, settings.backup_every_s)
            return []
        self._figures.doing, self._figures.next_at = "backup", None
        return [Backup(settings.folder, settings.backups, self._shared.clock.at_ms(now))]

    def _backed_up(self, event: BackedUp, now: float) -> Effects:
        figures, asked = self._figures, self._asked
        figures.error, figures.hint, self._asked = event.error, event.hint, None
        if event.last is None:
            self._fleet.warn(
                WARNING, f"no backup of the state: {event.error}; {_SAY} ({event.hint})"
            )
            return [
                *self._end(now, RETRY_S),
                Log("ERROR", f"no backup of the state: {event.error}"),
            ]
        self._fleet.warn(WARNING, None)
        at_ms, ran_ms = self._shared.clock.at_ms(now), self._ran_ms(now)
        self._shared.kept = Kept(event.last, ran_ms, at_ms)
        note = KeepNote(KEEPING_NOTE, write_kept(self._shared.kept))
        said = Log("INFO", f"backed the state up to record {event.last.lsn}: {event.last.folder}")
        try:
            self._up_to = min(self._wanted(asked, now), self._covered(event.last))
        except StateError as error:
            return [note, said, *self._stuck(str(error), now)]
        self._reached = self._shared.port.first_lsn() - 1
        if self._up_to <= self._reached:
            self._sweeper.begin(now)
            return [note, said, *self._end(now)]
        figures.doing, self._piece_at = "trimming", now
        return [note, said]

    def _end(self, now: float, in_s: float | None = None) -> Effects:
        settings = self._settings or Keeping()
        self._figures.runs += 1
        self._next(now, settings.backup_every_s if in_s is None else in_s)
        return []

    # --- the log behind it

    def _wanted(self, asked: StateTrim | None, now: float) -> int:
        """The last record that nobody wants to keep. Raises StateError."""
        port, settings = self._shared.port, self._settings or Keeping()
        records, log_ms = settings.records, settings.log_ms
        if asked is not None and (asked.records or asked.log_ms):
            records, log_ms = asked.records, asked.log_ms
        last, first = port.place().lsn, port.first_lsn()
        up_to = max(0, last - records) if records > 0 else 0
        if log_ms > 0:
            cut_ms = self._ran_ms(now) - log_ms
            up_to = max(up_to, older_than(cut_ms, self._time_of, first, last))
        known = WINDOW.before(last, port.place().at_ms, first, self._time_of)
        return min(up_to, last - RECORDS_KEPT_MIN, known)

    def _time_of(self, lsn: int) -> int | None:
        entry = self._shared.port.entry(lsn)
        return None if entry is None else entry.at_ms

    def _covered(self, backup: LastBackup) -> int:
        """The last record that the backup has, where it is one of this log. Raises StateError."""
        mine = self._shared.port.entry(backup.lsn)
        return backup.lsn if mine is not None and mine.digest.hex() == backup.digest else 0

    def _trimmed(self, now: float, code: str) -> Effects:
        if code:
            return self._stuck("the piece was not kept", now)
        first = self._shared.port.first_lsn()
        gone, self._reached = first - 1 - self._reached, first - 1
        self._figures.trimmed += gone
        if not gone:
            return self._stuck(f"record {first} of the log is damaged", now)
        if self._reached < self._up_to:
            self._piece_at = now + PIECE_S
            return []
        self._sweeper.begin(now)
        return [*self._end(now), Log("INFO", f"trimmed the log of the state up to {self._up_to}")]

    def _stuck(self, why: str, now: float) -> Effects:
        text, hint = f"the log of the state is not trimmed: {why}", "shardctl state check --copy"
        self._figures.error, self._figures.hint = text, f"run: {hint}"
        self._fleet.warn(WARNING, f"{text} (run: {hint})")
        return [*self._end(now, RETRY_S), Log("ERROR", text)]

    def _trim(self, ref: Ref, body: StateTrim, now: float) -> Effects:
        """An operator's word."""
        if self._figures.doing == "trimming":
            text = f"the log is being trimmed, up to record {self._up_to}"
            return [Refuse(ref, ErrorBody("E_BUSY", text, "retry later", retryable=True))]
        port = self._shared.port
        try:
            up_to = self._wanted(body, now)
        except StateError as error:
            return [Refuse(ref, ErrorBody(error.code, str(error), error.hint or ""))]
        reply = StateTrimming(port.first_lsn(), up_to, port.place().lsn, self._figures.runs)
        if body.dry_run:
            return [Reply(ref, reply)]
        self._asked = body
        begun = [] if self._figures.doing else self._begin(now)
        return [Reply(ref, reply), *begun]
