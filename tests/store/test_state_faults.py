"""Kills, full disks, power cuts, changed bits: nothing that was confirmed is lost.

SHARDCTL_KILLS=20 kills and cuts more often.
"""

from __future__ import annotations

import os
import pickle
import queue
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from shard_node.state.economy import Account, Deposit, Total
from shard_node.state.files import JOURNAL_KEY, META, SALT_KEY, Mark
from shard_node.state.keys import Table
from shard_node.state.rows import read
from shard_node.state.values import SetValue
from store.beside import beside
from store.check import check, check_file
from store.errors import StoreError, StoreFull
from store.journal import pending
from store.offline import DATA_FILE, opened_at_rest
from store.snapshot import take
from store.state import StateStore, settle_at_rest
from store.statecommit import fetch, journal_number
from store.statewriter import StateWriter
from tests.support.mounts import mounted
from tests.support.state_child import ACCOUNTS, START
from tests.support.state_store import Ends, Rig, opened

ROOT = Path(__file__).resolve().parents[2]
KILLS = CUTS = int(os.environ.get("SHARDCTL_KILLS", "8"))
PLANT_KILLS = 100
IMAGE_BYTES = 48 << 20
WAIT_S = 30
GROUPED_MIN = 3
"""Transactions in a frame of the journal, on average: cuts fall into groups, not between single
ones."""
FLIPPED = 150
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
P_BRANCH = 1

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Child:
    """A process that writes until it is killed; what it said is read to the end."""

    def __init__(self, folder: Path, seed: int, group: int = 40) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.state_child", str(folder), str(seed), str(group)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._folder = folder
        self._out = self._process.stdout
        self._rest = b""
        self.confirmed: dict[int, str] = {}
        self.full = 0

    def read(self, until: int) -> None:
        """Until so many more are confirmed."""
        until += len(self.confirmed)
        while len(self.confirmed) < until:
            assert self._read(), f"the child ended with {self._process.wait(WAIT_S)}"

    def read_full(self) -> None:
        """Until it says that the disk is full."""
        seen = self.full
        while self.full == seen:
            assert self._read(), f"the child ended with {self._process.wait(WAIT_S)}"

    def frames(self) -> int:
        """How many groups were made durable. The child must have ended."""
        settle_at_rest(self._folder)
        with opened_at_rest(self._folder) as (env, handles), env.begin() as txn:
            return journal_number(fetch(txn, handles[META], JOURNAL_KEY))

    def stop(self) -> None:
        """It does nothing more until ``go``; what it said until then is read."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        while select.select([self._out], [], [], 0)[0]:
            assert self._read()

    def go(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_S)
        while self._read():
            pass
        self._out.close()

    def _read(self) -> bool:
        data = os.read(self._out.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode())
        return bool(data)

    def _take(self, line: str) -> None:
        if re.fullmatch(r"\d+ [0-9a-f]{32}", line):
            lsn, _, op_id = line.partition(" ")
            self.confirmed[int(lsn)] = op_id
        elif line == "full":
            self.full += 1


def losses(store: StateStore, confirmed: dict[int, str]) -> list[int]:
    """Confirmed transactions that the log does not have."""
    found = {entry.lsn: entry.op_id.hex() for entry in store.entries(0, 1 << 30)}
    return [lsn for lsn, op_id in confirmed.items() if found.get(lsn) != op_id]


def proof(folder: Path, confirmed: dict[int, str]) -> list[str]:
    """What is wrong with the state after a fault."""
    report = check(folder)
    wrong = list(report.problems)
    if not report.replayed:
        wrong += report.notes
    store = StateStore.open(folder)
    try:
        wrong += [f"{lsn} was confirmed and is lost" for lsn in losses(store, confirmed)]
        accounts = [read(Account, r) for k, r in store.view.scan(b"") if k[1] == Table.ACCOUNT]
        totals = [read(Total, r) for k, r in store.view.scan(b"") if k[1] == Table.TOTAL]
    finally:
        store.close()
    balances = [account.balance for account in accounts if account is not None]
    given = sum(total.amount for total in totals if total is not None)
    if sum(balances) != given or given > ACCOUNTS * START:
        wrong.append(f"{sum(balances)} in the accounts, {given} given")
    if any(balance < 0 for balance in balances):
        wrong.append("a balance is negative")
    return wrong


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    """Each time where it was then: in an apply, in a commit, between the two."""
    folder, rng = tmp_path / "data" / "state", random.Random(4)
    confirmed: dict[int, str] = {}
    for kill in range(KILLS):
        child = Child(folder, kill)
        child.read(rng.randrange(1, 400))
        child.kill()
        confirmed |= child.confirmed
        assert proof(folder, confirmed) == [], f"kill {kill}"
    assert len(confirmed) > 100 * KILLS / 2


def test_the_proof_sees_what_was_confirmed_too_early(tmp_path: Path) -> None:
    """The planted fault: a child that confirms before the commit."""
    folder = tmp_path / "data" / "state"
    folder.parent.mkdir()
    (folder.parent / "lie").touch()
    confirmed: dict[int, str] = {}
    rng = random.Random(6)
    for kill in range(PLANT_KILLS):
        child = Child(folder, kill)
        child.read(rng.randrange(ACCOUNTS + 1, 200))
        child.kill()
        confirmed |= child.confirmed
        if any("lost" in wrong for wrong in proof(folder, confirmed)):
            return
    pytest.fail("none of the early confirmations was found out")


def test_a_full_disk(tmp_path: Path) -> None:
    """Writers are told, reads go on, and it works again at once when there is room."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        ballast = disk / "ballast"
        with opened(disk / "state") as rig:
            rig.fill(200)
            ballast.write_bytes(bytes(_free(disk) - (64 << 10)))
            error = None
            while error is None:
                rig.give({bytes((0, 1)) + rig.random.randbytes(8): rig.random.randbytes(2000)})
                error = rig.ends.wait(rig.submitted)[-1][1]
            assert isinstance(error, StoreFull)
            rig.store.renew()
            assert len(list(rig.store.entries(0, 1000))) == 200
            for key, row in rig.model.view.rows.items():
                assert rig.store.view.get(key) == row
            ballast.unlink()
            rig.writer.reset()
            rig.ends.ends[-1] = (0, None)
            rig.fill(260)
            assert rig.store.place().lsn == 260
        child = Child(disk / "data" / "state", 1, group=200)
        child.read(100)
        ballast.write_bytes(bytes(max(_free(disk) - (256 << 10), 0)))
        child.read_full()
        ballast.unlink()
        child.read(400)
        child.kill()
        assert proof(disk / "data" / "state", child.confirmed) == []


def kept_in_the_journal(disk: Path, ballast: Path) -> tuple[Path, dict[int, str]]:
    """The state of a process that was killed before anything came into the file, on a disk with
    no room; and what was confirmed."""
    folder = disk / "data" / "state"
    rig = Rig(folder)
    rig.fill(20)
    rig.writer._settler.close(WAIT_S)
    for number in range(100):
        rig.do(SetValue(f"n{number}", "z" * 3000))
        assert rig.ends.wait(rig.submitted)[-1][1] is None
    confirmed = {entry.lsn: entry.op_id.hex() for entry in rig.model.entries.values()}
    rig.close()
    with suppress(OSError), ballast.open("wb") as file:
        file.write(bytes(_free(disk)))
    assert left(folder) == 100
    return folder, confirmed


def left(folder: Path) -> int:
    """Frames that the file does not have."""
    with opened_at_rest(folder) as (env, handles), env.begin() as txn:
        settled = journal_number(fetch(txn, handles[META], JOURNAL_KEY))
        return len(pending(folder, settled, fetch(txn, handles[META], SALT_KEY) or b""))


def test_on_a_full_disk_it_is_opened_in_part_and_goes_on(tmp_path: Path) -> None:
    """What a killed process left in the journal waits there, also through the next kill."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        folder, confirmed = kept_in_the_journal(disk, disk / "ballast")
        frames = left(folder)
        for look in (partial(StateStore.open, folder), partial(settle_at_rest, folder)):
            with pytest.raises(StoreFull, match=f"{frames} groups? of confirmed") as caught:
                look()
            assert "make room on the disk" in caught.value.hint
        with pytest.raises(StoreFull):
            check(folder)
        with pytest.raises(StoreFull), beside(folder):
            pass
        for _ in range(3):  # each time as after a kill
            store = StateStore.open(folder, in_part=True)
            assert [frame.number for frame in store.left] == list(
                range(store.journal.last - frames + 1, store.journal.last + 1)
            )
            store.close()
        store = StateStore.open(folder, in_part=True)
        heard: queue.SimpleQueue[tuple[int, StoreError | None]] = queue.SimpleQueue()
        writer = StateWriter(store, ends := Ends())
        writer.on_settled(lambda token, error: heard.put((token, error)))
        writer.go_on(store.left)
        assert isinstance(heard.get(timeout=WAIT_S)[1], StoreFull)
        place = store.left[-1].batches[-1].mark
        assert place is not None
        writer.submit(900, {b"\0\1k": bytes(9000)}, (), place)
        assert isinstance(ends.wait(1)[0][1], StoreFull)
        (disk / "ballast").unlink()
        last = max(batch.token for batch in store.left[-1].batches)
        while heard.get(timeout=WAIT_S) != (last, None):
            pass
        store.renew()
        assert store.place() == place
        assert writer.close(WAIT_S)
        store.close()
        assert proof(folder, confirmed) == []


def test_a_start_that_drops_what_the_file_did_not_take_is_seen(tmp_path: Path) -> None:
    """The planted fault: the journal is begun anew all the same."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        folder, confirmed = kept_in_the_journal(disk, disk / "ballast")
        store = StateStore.open(folder, in_part=True)
        store.journal.rewind()
        store.close()
        (disk / "ballast").unlink()
        assert any("is lost" in wrong for wrong in proof(folder, confirmed))


def test_where_the_journal_has_room_it_goes_on_behind_what_is_left(tmp_path: Path) -> None:
    """The file alone takes nothing: its map is full."""
    folder = tmp_path / "data" / "state"
    rig = Rig(folder, map_max_bytes=1 << 18)
    rig.do(Deposit("a", 5))
    rig.flush()
    model, small = rig.model, partial(StateStore.open, folder, 1 << 18)
    for number in range(3):
        rig.do(*(SetValue(f"n{number}-{one}", "z" * 3000) for one in range(80)))
    assert all(error is None for _, error in rig.ends.wait(4))
    rig.close()
    with pytest.raises(StoreFull):
        small()
    for number in range(3):
        store = small(in_part=True)
        writer = StateWriter(store, ends := Ends())
        writer.go_on(store.left)
        applied = model.submit(rig.tx(SetValue("new", number)), rig.now_ms)
        assert applied.entry is not None
        writer.submit(1, applied.writes, (applied.entry,), Mark(*model.place))
        assert ends.wait(1) == [(1, None)]
        assert len(store.left) >= 1 + number
        assert writer.close(WAIT_S)
        store.close()
    with opened(folder) as again:
        assert again.store.place().lsn == model.place.lsn == 7
        assert dict(again.store.view.scan(b"")) == model.view.rows


def cuts(tmp_path: Path, count: int, fault: str = "", group: int = 40) -> list[str]:
    """What is wrong after power cuts in the middle of writing.

    The child is stopped wherever it is, so that the image of its disk is of one moment: it has
    what reached the disk, and not what only the system's memory had. It is then mounted as
    after a cut.
    """
    image, rng = tmp_path / "image", random.Random(5)
    wrong: list[str] = []
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    with mounted(tmp_path / "disk", "-o", "loop", str(image)) as disk:
        (disk / "data").mkdir()
        if fault:
            (disk / "data" / fault).touch()
        os.sync()
        child = Child(disk / "data" / "state", 7, group)
        try:
            for cut in range(count):
                child.read(rng.randrange(1, 300))
                child.stop()
                copy = tmp_path / f"copy{cut}"
                shutil.copyfile(image, copy)
                child.go()
                with mounted(tmp_path / f"after{cut}", "-o", "loop", str(copy)) as after:
                    state, confirmed = after / "data" / "state", dict(child.confirmed)
                    if not (state / DATA_FILE).exists():
                        wrong.append(f"cut {cut}: nothing is there")
                    else:
                        wrong += [f"cut {cut}: {text}" for text in proof(state, confirmed)]
                copy.unlink()
        finally:
            child.kill()
        if child.frames() > len(child.confirmed) / GROUPED_MIN:
            wrong.append(f"{len(child.confirmed)} confirmed in {child.frames()} frames: no groups")
    return wrong


def test_the_power_is_cut(tmp_path: Path) -> None:
    assert cuts(tmp_path, CUTS) == []


def test_the_proof_sees_commits_that_did_not_reach_the_disk(tmp_path: Path) -> None:
    """The planted fault: an environment that does not sync."""
    wrong = cuts(tmp_path, 2, "nosync")
    assert {text.split(":")[0] for text in wrong} == {"cut 0", "cut 1"}, wrong


def test_cuts_that_fall_between_single_transactions_are_not_enough(tmp_path: Path) -> None:
    """The planted fault: a child that waits for each commit."""
    assert any("no groups" in text for text in cuts(tmp_path, 1, group=1))


FLIPS = """
import pickle, sys
from pathlib import Path
from store.errors import StoreError
from store.state import StateStore

folder = Path(sys.argv[1])
rows, absent, last = pickle.loads((folder / "expected").read_bytes())
whole = (folder / "whole").read_bytes()
lsns = list(range(1, last + 1))
raised = 0

def right(read, wanted):
    global raised
    try:
        return read() == wanted
    except StoreError:
        raised += 1
        return True

def look():
    try:
        store = StateStore.open(folder / "state")
    except StoreError:
        return "refused"
    get = store.view.get
    fine = all([right(lambda: get(key), row) for key, row in rows.items()])
    fine &= all([right(lambda: get(key), None) for key in absent])
    fine &= right(lambda: dict(store.view.scan(b"")), rows)
    fine &= right(lambda: [entry.lsn for entry in store.entries(0, last + 9)], lsns)
    fine &= right(lambda: store.place().lsn, last)
    store.close()
    return "silent" if not fine else "raised" if raised else "same"

for line in sys.stdin:
    at, bit = map(int, line.split())
    data = bytearray(whole)
    data[at] ^= 1 << bit
    (folder / "state" / "data.mdb").write_bytes(data)
    raised = 0
    print(look(), flush=True)
"""


def flips(data: bytes, rng: random.Random) -> list[tuple[int, int]]:
    """Bits of any page, and as many of branch pages, which are few."""
    pages = range(2, len(data) // PAGE_BYTES)
    branches = [page for page in pages if data[page * PAGE_BYTES + 10] == P_BRANCH]
    assert branches
    some = [(rng.randrange(len(data)), rng.randrange(8)) for _ in range(FLIPPED)]
    for _ in range(FLIPPED):
        page = data[rng.choice(branches) * PAGE_BYTES :][:PAGE_BYTES]
        end, start = struct.unpack_from("<HH", page, 12)
        used = [*range(end), *range(start, PAGE_BYTES)]
        some.append((data.index(page) + rng.choice(used), rng.randrange(8)))
    return some


def test_changed_bits_are_found_and_never_served(tmp_path: Path) -> None:
    """In a process of its own: should the engine abort, the test says at which bit."""
    rng = random.Random(12)
    with opened(tmp_path / "first") as rig:
        rig.fill(1500)
        take(rig.store.env, tmp_path / "state", 0.0)
        rows = rig.model.view.rows
    whole = (tmp_path / "state" / DATA_FILE).read_bytes()
    absent = [key[:-3] + rng.randbytes(2) + b"\0" for key in rng.choices(sorted(rows), k=200)]
    expected = rows, [key for key in absent if key not in rows], 1500
    (tmp_path / "expected").write_bytes(pickle.dumps(expected))
    (tmp_path / "whole").write_bytes(whole)
    bits = flips(whole, rng)
    answer = subprocess.run(
        [sys.executable, "-c", FLIPS, str(tmp_path)],
        input="".join(f"{at} {bit}\n" for at, bit in bits),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    said = answer.stdout.split()
    assert len(said) == len(bits), f"it ended at {bits[len(said)]}"
    assert {"refused", "raised", "same"} == set(said), [
        b for b, s in zip(bits, said, strict=True) if s == "silent"
    ]
    for (at, bit), what in zip(bits, said, strict=True):
        data = bytearray(whole)
        data[at] ^= 1 << bit
        (tmp_path / "state" / DATA_FILE).write_bytes(data)
        assert what == "same" or check_file(tmp_path / "state", replay_max=0).problems, (at, bit)


def _free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize
