"""When the state is backed up, and how far its log is trimmed behind what was verified."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.effects import Backup, Effects, KeepNote, Log, Trim
from broker.core.events import BackedUp, StateCommitted
from broker.core.keeping import DAY_MS, TRIMMED, Keeping, Kept, LastBackup, read_kept
from broker.core.logtime import LogClock, LogMark
from broker.core.settings import Settings
from broker.core.stateport import MemoryPort, SharedState
from broker.services import retention
from broker.services.machine import Broker
from broker.services.retention import PIECE_S, RETRY_S, START_S
from shard_node.state.errors import StateError
from shard_node.state.log import Entry, Payload, make_entry
from shard_node.state.opids import Window
from shard_node.state.tx import Actor
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.state import StateTrim, StateTrimming
from store.records import Durable
from tests.support.state_world import OP, WALL_MS, A, StateWorld

HOUR_S = 3600.0
PIECE = 7


@pytest.fixture(autouse=True)
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 20 records were all that has to stay."""
    assert retention.RECORDS_KEPT_MIN == 65_537
    monkeypatch.setattr(retention, "RECORDS_KEPT_MIN", 20)
    monkeypatch.setattr(retention, "WINDOW", Window(19, 30_000, 19))


class World(StateWorld):
    """A broker with a log, whose backups and trimmings a test carries out."""

    def __init__(
        self,
        keeping: Keeping | None = None,
        port: MemoryPort | None = None,
        kept: Kept | None = None,
        *,
        wall_ms: int = WALL_MS,
        boot: str = "boot",
        mark: LogMark | None = None,
    ) -> None:
        super().__init__(port, auto=True)
        clock = LogClock(mark or LogMark(), self.now, boot_id=boot, wall_ms=wall_ms)
        self.shared = SharedState(self.port, clock=clock, kept=kept or Kept())
        settings = Settings("f", "app", boot, keeping=keeping or Keeping())
        self.broker = Broker(settings, Durable(), self.now, self.shared)
        self.backups: list[Backup] = []
        self.trims: list[Trim] = []
        self.notes: list[KeepNote] = []
        self.logged: list[str] = []
        machine = self.broker.on

        def on(event: Any, now: float) -> Effects:
            effects = machine(event, now)
            self.backups += [one for one in effects if isinstance(one, Backup)]
            self.trims += [one for one in effects if isinstance(one, Trim)]
            self.notes += [one for one in effects if isinstance(one, KeepNote)]
            self.logged += [one.text for one in effects if isinstance(one, Log)]
            return effects

        self.broker.on = on  # type: ignore[method-assign]

    def fill(self, count: int, at_ms: int, step_ms: int = 0) -> None:
        """Records without rows, of this log time."""
        for _ in range(count):
            place = self.port.place()
            self.port.commit({}, [record(place.lsn + 1, at_ms, place.digest)])
            at_ms += step_ms

    def verified(self, lsn: int | None = None, digest: str | None = None) -> None:
        """The backup that was begun is there, of the log as it was then."""
        effect = self.backups[-1]
        entry = self.port.entry(self.port.place().lsn if lsn is None else lsn)
        assert entry is not None
        last = LastBackup(
            "/b/auto", entry.lsn, digest or entry.digest.hex(), effect.at_ms, 1.0, 1 << 20
        )
        self.give(BackedUp(last))

    def trim_all(self, piece: int = PIECE) -> int:
        """Until nothing more is trimmed; the first record then."""
        for _ in range(1000):
            while self.trims:
                trim = self.trims.pop()
                first = self.port.first_lsn()
                self.port.trim(min(trim.up_to + 1, first + piece))
                self.give(StateCommitted(TRIMMED))
                assert not self.trims  # never two pieces without a pause
            if self.shared.keeping.doing != "trimming":
                return self.port.first_lsn()
            self.tick(PIECE_S)
        raise AssertionError("it does not end")

    def due(self) -> float | None:
        """When the service wants to be called."""
        return self.broker._services["retention"].next_deadline()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(topics.STATUS, [], OP)
        return found

    def hours(self, count: float) -> None:
        """Time passes, with a tick at each deadline."""
        end = self.now + count * HOUR_S
        for _ in range(100):
            due = self.due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.tick()
            if self.backups and self.shared.keeping.doing == "backup":
                break
        else:
            raise AssertionError("its deadlines do not go ahead")
        if not self.shared.keeping.doing:
            self.now = end


def record(lsn: int, at_ms: int, previous: bytes) -> Entry:
    op_id = lsn.to_bytes(16, "big")
    return make_entry(lsn, at_ms, op_id, Payload(Actor("a"), (), ()), op_id, previous)


# --- when


def test_a_user_who_configures_nothing_has_a_backup_soon_and_one_a_day() -> None:
    world = World()
    world.fill(5, WALL_MS)
    world.tick(START_S - 1)
    assert not world.backups
    world.tick(1)
    assert [one.keep for one in world.backups] == [3]
    world.verified()
    assert world.due() == world.now + 86_400
    world.fill(1, WALL_MS)
    world.hours(23.9)
    assert len(world.backups) == 1
    world.hours(0.2)
    assert len(world.backups) == 2


def test_where_nothing_changed_there_is_no_new_one() -> None:
    world = World()
    world.hours(100)
    assert world.backups == []  # an empty state
    world.fill(3, WALL_MS)
    world.hours(25)
    world.verified()
    world.hours(100)
    assert len(world.backups) == 1
    world.fill(1, WALL_MS)
    world.hours(25)
    assert len(world.backups) == 2


def test_one_at_a_time() -> None:
    world = World()
    world.fill(3, WALL_MS)
    world.hours(1)
    for _ in range(50):
        world.tick(HOUR_S)
    assert len(world.backups) == 1


def test_never_means_never() -> None:
    world = World(Keeping(backup_every_s=0.0, records=1))
    world.fill(100, WALL_MS)
    world.tick(1000 * HOUR_S)
    assert (world.backups, world.trims) == ([], [])
    assert world.status()["state"]["backup"]["next_in_s"] is None


@pytest.mark.parametrize(
    ("ago_h", "due_s"),
    [(0, 86_400), (23, HOUR_S), (24, START_S), (500, START_S), (-500, 86_400)],
)
def test_a_restart_goes_on_with_the_interval(ago_h: int, due_s: float) -> None:
    """Also where the last backup lies ahead: that of a state that was restored since."""
    now_ms = WALL_MS
    last = LastBackup("/b", 3, "00", now_ms - ago_h * 3_600_000, 1.0, 1)
    world = World(kept=Kept(last, now_ms, now_ms))
    world.fill(5, WALL_MS)
    assert world.due() == pytest.approx(world.now + due_s, abs=1)


# --- a failure


def test_a_copy_that_does_not_verify_trims_nothing_and_says_what_to_type() -> None:
    world = World(Keeping(records=10))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.give(BackedUp(None, "E_BACKUP", "/b/x.failed: bad page", "run: shardctl state check"))
    world.tick(PIECE_S)
    assert (world.trims, world.port.first_lsn()) == ([], 1)
    warning = next(one for one in world.status()["warnings"] if "bad page" in one)
    assert "nothing is trimmed" in warning
    assert "shardctl state check" in warning
    assert world.status()["state"]["backup"]["error"] == "/b/x.failed: bad page"
    world.hours(RETRY_S / HOUR_S)
    assert len(world.backups) == 2
    world.verified()
    assert world.trim_all() == 81
    assert world.status()["warnings"] == []
    assert world.status()["state"]["backup"]["error"] == ""


def test_a_retry_is_not_later_than_the_next_would_be() -> None:
    world = World(Keeping(backup_every_s=60.0))
    world.fill(5, WALL_MS)
    world.tick(60)
    world.give(BackedUp(None, "E_STORE_FULL", "no room", "make room"))
    assert world.due() == world.now + 60


@pytest.mark.parametrize("digest", ["", "00" * 32])
def test_a_backup_of_another_log_covers_nothing(digest: str) -> None:
    world = World(Keeping(records=10))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.verified(digest=digest or "ff")
    assert world.trim_all() == 1


# --- how far


@pytest.mark.parametrize(
    ("keeping", "first"),
    [
        (Keeping(), 51),  # the first 50 are 100 days old
        (Keeping(log_ms=0), 1),
        (Keeping(log_ms=0, records=0), 1),
        (Keeping(log_ms=0, records=150), 51),
        (Keeping(log_ms=0, records=151), 50),
        (Keeping(log_ms=0, records=1000), 1),
        (Keeping(log_ms=0, records=1), 181),
        (Keeping(records=60), 141),
        (Keeping(records=190), 51),
        (Keeping(log_ms=101 * DAY_MS), 1),
        (Keeping(log_ms=1), 181),
    ],
    ids=str,
)
def test_what_is_kept(keeping: Keeping, first: int) -> None:
    """200 records: 50 of 100 days ago, 50 of 50 days ago, 100 of a day ago."""
    world = World(keeping)
    for count, days in ((50, 100), (50, 50), (100, 1)):
        world.fill(count, WALL_MS - days * DAY_MS)
    world.hours(1)
    world.verified()
    assert world.trim_all() == first


def test_only_what_the_backup_has() -> None:
    world = World(Keeping(records=1))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.fill(100, WALL_MS)
    world.verified(lsn=100)
    assert world.trim_all() == 101


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_it_goes_in_pieces_with_a_pause_between(piece: int) -> None:
    world = World(Keeping(records=1))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.verified()
    began = world.now
    assert world.trim_all(piece) == 81
    assert world.now - began >= (80 // piece - 1) * PIECE_S
    state = world.status()["state"]
    assert state["backup"] | {"next_in_s": 0} == {
        "doing": "",
        "runs": 1,
        "trimmed_records": 80,
        "next_in_s": 0,
        "error": "",
        "hint": "",
        "last": {
            "folder": "/b/auto", "lsn": 100, "digest": state["backup"]["last"]["digest"],
            "at_ms": WALL_MS + 1000 * int(START_S), "made_at_s": 1.0, "size_bytes": 1 << 20,
            "replayed": False,
        },
    }  # fmt: skip


def test_a_piece_that_does_not_go_ends_it_with_a_warning() -> None:
    """The trimming ends before a damaged record."""
    world = World(Keeping(records=1))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.verified()
    world.tick()
    world.port.trim(41)
    world.give(StateCommitted(TRIMMED))
    world.tick(PIECE_S)
    world.give(StateCommitted(TRIMMED))  # and the base has not moved
    for _ in range(10):
        world.tick(PIECE_S)
    assert len(world.trims) == 2
    assert any("record 41" in one for one in world.status()["warnings"])
    assert world.status()["state"]["backup"]["doing"] == ""
    assert world.due() == pytest.approx(world.now + RETRY_S, abs=1)


def test_a_piece_that_is_not_kept_ends_it_too() -> None:
    world = World(Keeping(records=1))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.verified()
    world.tick()
    world.give(StateCommitted(TRIMMED, "E_STORE_FULL", "no room"))
    world.tick(PIECE_S)
    assert len(world.trims) == 1
    assert world.port.first_lsn() == 1


def test_what_a_sender_may_send_again_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "WINDOW", Window(20, 30_000, 80))
    for step_ms, first in ((1000, 70), (500, 40), (10, 21)):
        world = World(Keeping(records=1))
        world.fill(100, WALL_MS, step_ms)
        world.hours(1)
        world.verified()
        assert world.trim_all() == first


def test_a_log_that_cannot_be_read_is_not_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Keeping(records=1))
    world.fill(100, WALL_MS)
    world.hours(1)

    def damaged(lsn: int) -> Entry | None:
        raise StateError("a bit")

    real = world.port.entry
    last = LastBackup("/b", 100, real(100).digest.hex(), WALL_MS, 1.0, 1)  # type: ignore[union-attr]
    monkeypatch.setattr(world.port, "entry", damaged)
    world.give(BackedUp(last))
    monkeypatch.undo()
    monkeypatch.setattr(retention, "RECORDS_KEPT_MIN", 20)
    monkeypatch.setattr(retention, "WINDOW", Window(19, 30_000, 19))
    world.tick(PIECE_S)
    assert world.trims == []
    assert any("a bit" in one for one in world.status()["warnings"])


# --- clocks


def restart(world: World, *, wall_ms: int, boot: str) -> World:
    """The broker again, after a reboot, with what it had kept."""
    kept = read_kept(world.notes[-1].data) if world.notes else Kept()
    place = world.port.place()
    mark = LogMark(max(place.at_ms, world.shared.clock.at_ms(world.now)), "before", 0)
    settings = world.broker.fleet.settings.keeping
    return World(settings, world.port, kept, wall_ms=wall_ms, boot=boot, mark=mark)


def backed_up(world: World) -> int:
    """A backup, and what is trimmed behind it; the first record then."""
    world.fill(1, world.shared.clock.at_ms(world.now))
    world.hours(25)
    world.verified()
    return world.trim_all()


def test_a_wall_clock_that_is_years_ahead_at_a_boot_trims_nothing() -> None:
    world = World()
    world.fill(100, WALL_MS)
    assert backed_up(world) == 1
    for years in (30, 30, 0, 60):
        jumped = WALL_MS + years * 366 * DAY_MS
        world = restart(world, wall_ms=jumped, boot=f"boot{years}")
        assert backed_up(world) == 1


def test_a_wall_clock_that_goes_back_changes_nothing() -> None:
    world = World()
    world.fill(100, WALL_MS)
    assert backed_up(world) == 1
    world = restart(world, wall_ms=1, boot="another")
    assert world.shared.clock.at_ms(world.now) >= WALL_MS
    assert backed_up(world) == 1


def test_days_in_which_it_ran_count() -> None:
    """100 days with a backup each, and a reboot after each."""
    world = World()
    world.fill(100, WALL_MS)
    for day in range(1, 100):
        first = backed_up(world)
        assert (first == 1) == (day < 91), day
        world = restart(world, wall_ms=WALL_MS + day * DAY_MS + 3_600_000, boot=str(day))


# --- by hand


def test_an_operator_trims_now() -> None:
    world = World(Keeping(log_ms=0, records=0))
    world.fill(100, WALL_MS)
    reply = world.ask(topics.STATE_TRIM, StateTrim(records=30, dry_run=True), OP)
    assert (reply, world.backups) == (StateTrimming(1, 70, 100, 0), [])
    reply = world.ask(topics.STATE_TRIM, StateTrim(records=30), OP)
    assert (reply, len(world.backups)) == (StateTrimming(1, 70, 100, 0), 1)
    world.verified()
    assert world.status()["state"]["backup"]["doing"] == "trimming"
    busy = world.ask(topics.STATE_TRIM, StateTrim(records=30), OP)
    assert isinstance(busy, ErrorBody)
    assert busy.code == "E_BUSY"
    assert world.trim_all() == 71
    assert world.status()["state"]["backup"]["runs"] == 1
    world.fill(1, WALL_MS)
    world.hours(25)
    world.verified()
    assert world.trim_all() == 71  # the word was for once


def test_an_operators_word_while_a_backup_is_made_counts_for_it() -> None:
    world = World(Keeping(log_ms=0, records=0))
    world.fill(100, WALL_MS)
    world.hours(1)
    world.ask(topics.STATE_TRIM, StateTrim(log_ms=1), OP)
    assert len(world.backups) == 1
    world.verified()
    assert world.trim_all() == 81


def test_an_operator_may_where_no_backups_are_made() -> None:
    world = World(Keeping(backup_every_s=0.0))
    world.fill(100, WALL_MS)
    world.ask(topics.STATE_TRIM, StateTrim(records=1), OP)
    world.verified()
    assert world.trim_all() == 81
    assert world.shared.keeping.next_at is None


def test_nodes_may_not() -> None:
    world = World()
    answer = world.ask(topics.STATE_TRIM, StateTrim(records=1), A)
    assert answer is None or isinstance(answer, ErrorBody)
    assert world.backups == []
