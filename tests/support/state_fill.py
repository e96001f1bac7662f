"""A long log without the long way: records as transfers leave them, 5,000 in a commit.

python -m tests.support.state_fill FOLDER RECORDS      makes it, or makes it longer
python -m tests.support.state_fill FOLDER              opens it and says what that took
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from shard_node.state.economy import Account, Transfer
from shard_node.state.files import Mark
from shard_node.state.keys import Table, done_key, key_of
from shard_node.state.log import Payload, make_entry
from shard_node.state.machine import Done
from shard_node.state.rows import write
from shard_node.state.tx import Actor
from shard_node.state.undo import Give
from store.state import StateStore
from store.statecommit import Batch

GROUP = 5000
NAMES = [f"user:{number}" for number in range(100_000, 101_000)]


def fill(folder: Path, records: int) -> None:
    """Add so many records, with the rows that each leaves: two accounts, two histories, and
    that it was done."""
    store, rng = StateStore.open(folder), random.Random(records)
    lsn, digest, at_ms = store.place().place
    actor, last = Actor("fill"), lsn + records
    while lsn < last:
        entries, rows = [], {}
        for _ in range(min(GROUP, last - lsn)):
            lsn, at_ms, op_id = lsn + 1, at_ms + 1, rng.randbytes(16)
            a, b = rng.sample(NAMES, 2)
            payload = Payload(actor, (Transfer(a, b, 5),), (Give(a, 5), Give(b, -5)))
            entry = make_entry(lsn, at_ms, op_id, payload, rng.randbytes(16), digest)
            digest = entry.digest
            entries.append(entry)
            for name in (a, b):
                rows[key_of(Table.ACCOUNT, name)] = write(Account(lsn, lsn, lsn, 5))
                rows[key_of(Table.HISTORY, f"account:{name}", lsn)] = b""
            if lsn > last - 65_536:
                rows[done_key(op_id)] = write(Done(1, lsn, lsn, ({"source": 5},)))
        store.commit([Batch(0, 0, rows, tuple(entries), Mark(lsn, digest, at_ms), {}, None)])
    store.close()


def anonymous_bytes() -> int:
    """Of this process: what no file backs."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    return 0


def measure(folder: Path) -> dict[str, float]:
    """How long opening takes until the first answers, and the memory that it leaves in use."""
    before, start = anonymous_bytes(), time.perf_counter()
    store = StateStore.open(folder)
    mark = store.place()
    last = store.entry(mark.lsn)
    opened_s = time.perf_counter() - start
    assert last is not None
    rng = random.Random(1)
    start = time.perf_counter()
    for _ in range(2000):
        assert store.entry(rng.randrange(1, mark.lsn + 1)) is not None
        store.view.get(key_of(Table.ACCOUNT, rng.choice(NAMES)))
    read_us = (time.perf_counter() - start) / 4000 * 1e6
    grown = anonymous_bytes() - before
    store.close()
    size = (folder / "data.mdb").stat().st_size
    return {
        "records": mark.lsn,
        "file_mib": size >> 20,
        "open_s": round(opened_s, 4),
        "read_us": round(read_us, 1),
        "anonymous_kib": grown >> 10,
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        fill(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        print(json.dumps(measure(Path(sys.argv[1]))))
