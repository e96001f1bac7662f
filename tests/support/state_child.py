"""A process that transfers money until it is killed, and says what is durable.

Its arguments: the state's folder, a seed, and how many transfers wait at once. On its output a
line for each confirmed transaction: its lsn and op id. Two planted faults: a file named ``lie`` in
the folder above makes it say so *before* the commit, one named ``nosync`` makes commits that do
not reach the disk.
"""

from __future__ import annotations

import os
import random
import sys
from functools import partial
from pathlib import Path

import lmdb

import store.engine
from shard_node.state.economy import Deposit, Transfer
from shard_node.state.errors import StateError
from shard_node.state.tx import Actor, Tx
from store.errors import StoreFull
from store.state import StateStore
from tests.support.state_store import Pipeline

ACCOUNTS = 20
START = 1000


def main() -> None:
    folder, seed, group = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    lies = (folder.parent / "lie").exists()
    if (folder.parent / "nosync").exists():
        store.engine.lmdb.open = partial(lmdb.open, sync=False)
    pipeline = Pipeline(StateStore.open(folder))
    rng = random.Random(seed)
    say("serving")
    while pipeline.place.lsn < ACCOUNTS:
        step(pipeline, rng, [Deposit(f"account{pipeline.place.lsn}", START)], lies=False)
    while True:
        pairs = [rng.sample(range(ACCOUNTS), 2) for _ in range(rng.randrange(1, group + 1))]
        ops = [Transfer(f"account{a}", f"account{b}", rng.randrange(1, 300)) for a, b in pairs]
        step(pipeline, rng, ops, lies=lies)


def step(pipeline: Pipeline, rng: random.Random, ops: list[object], *, lies: bool) -> None:
    """Submit them all, wait for them, say which are durable."""
    said = {}
    for op in ops:
        tx = Tx(rng.randbytes(16), rng.randbytes(16), (op,), Actor("child"))  # type: ignore[arg-type]
        try:
            applied = pipeline.submit(tx, 0)
        except StateError:
            continue
        said[applied.lsn] = f"{applied.lsn} {tx.op_id.hex()}"
    if lies:
        say(*said.values())
    for lsn, error in pipeline.settle() if said else ():
        if error is None and not lies:
            say(said[lsn])
        elif isinstance(error, StoreFull):
            say("full")


def say(*lines: str) -> None:
    os.write(1, "".join(f"{line}\n" for line in lines).encode())


if __name__ == "__main__":
    main()
