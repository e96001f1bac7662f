"""The bank on a real fleet: its nodes transfer, while brokers and nodes are killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import shard_node
from shard_node.state.audit import audit
from shardctl.offline import LOG_MAX, beside
from shardctl.supervisor.journal import read_note
from tests.support.bank import plan
from tests.support.bank.answers import ERROR, GLOB, OK, UNSURE, Answer, Reader
from tests.support.bank.checks import Ledger
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

BOT: Final = Path(__file__).resolve().parents[2] / "bots" / "bank.py"
STATE_FOLDER: Final = "state"
STANDSTILL_MAX_S: Final = 60.0
"""Without any answer. A broker that dies often is started again after 5 s, a node after 16."""
BROKER: Final = "broker"


class Size(NamedTuple):
    """How much of it."""

    transfers: int
    brokers: int
    nodes: int
    seed: int


class Ordeal:
    """One run on a fleet that this starts. ``figures`` are for people."""

    def __init__(self, fleet: Fleet, size: Size) -> None:
        self._fleet, self._size = fleet, size
        self._plan = plan.plan(size.seed, size.transfers)
        self._reader = Reader(fleet.bot_folder)
        self._killed: set[tuple[str, int]] = set()
        self._seconds = 0.0

    def run(self) -> None:
        """Returns when every transfer has its answer and the fleet has stopped."""
        fleet = self._fleet
        shutil.copy(BOT, fleet.bot_folder / "main.py")
        for node, ops in self._plan.items():
            (fleet.bot_folder / f"plan-{node}.json").write_text(json.dumps(ops))
        fleet.start("main.py", shards=len(plan.NODES), nodes=len(plan.NODES))
        asyncio.run(_open_accounts(fleet))
        started = time.monotonic()
        (fleet.bot_folder / "go").touch()
        size = self._size
        for kill in plan.kills(size.seed, size.transfers, size.brokers, size.nodes):
            self._until(kill.at)
            pid = self._victim(kill.who)
            time.sleep(kill.delay_s)
            self._kill(*pid)
        self._until(size.transfers)
        self._seconds = time.monotonic() - started
        fleet.stop()

    def ledger(self) -> Ledger:
        """What the stopped fleet left."""
        self._reader.read()
        with beside(self._fleet.paths.data_dir / STATE_FOLDER) as store:
            sums, _ = audit(store.view)
            entries = list(store.entries(0, LOG_MAX))
        balances = dict(sums.accounts)
        return Ledger(self._plan, self._reader.answers, entries, balances, sums.created)

    def figures(self) -> dict[str, float]:
        """What happened."""
        answers = self._reader.answers
        words = Counter(answer.word for answer in answers)
        confirmed = {answer.key for answer in answers if answer.word == OK}
        return {
            "seconds": round(self._seconds, 1),
            "transfers": len(self._reader.settled),
            "transfers_s": round(len(self._reader.settled) / self._seconds),
            "broker_kills": sum(name == BROKER for name, _ in self._killed),
            "node_kills": sum(name != BROKER for name, _ in self._killed),
            "node_processes": self._reader.files,
            "confirmed": len(confirmed),
            "confirmed_again": words[OK] - len(confirmed),
            "refused": len(self._reader.settled - confirmed),
            "unsure": words[UNSURE],
            "confirmed_after_unsure": _after_unsure(answers),
        }

    def _until(self, settled: int) -> None:
        """Wait until so many transfers have their answer."""
        while (before := self._reader.read()) < settled:
            what = f"an answer; {before} of {settled} are there"
            wait_for(what, partial(self._more_than, before), STANDSTILL_MAX_S)
            errors = [one for one in self._reader.answers if one.word == ERROR]
            assert not errors, errors[:5]

    def _more_than(self, settled: int) -> bool:
        return self._reader.read() > settled

    def _victim(self, who: str) -> tuple[str, int]:
        """A process that lives and was not killed yet; of the nodes, of one killed least."""
        return wait_for(f"a {who} to kill", lambda: self._living(who), STANDSTILL_MAX_S)

    def _living(self, who: str) -> tuple[str, int] | None:
        note = read_note(self._fleet.paths.run_dir) or {}
        living = [(str(child["name"]), int(child["pid"])) for child in note.get("children", ())]
        living = [one for one in living if one[0].startswith(who) and one not in self._killed]
        deaths = Counter(name for name, _ in self._killed)
        written = {path.name for path in self._fleet.bot_folder.glob(GLOB)}
        if who != BROKER:  # one that is in the middle of it
            living = [
                (name, pid)
                for name, pid in living
                if f"said-{name.removeprefix('node:')}-{pid}" in written
            ]
        return min(living, key=lambda one: (deaths[one[0]], one), default=None)

    def _kill(self, name: str, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self._killed.add((name, pid))


def _after_unsure(answers: list[Answer]) -> int:
    """Keys that were confirmed after nobody knew."""
    unsure, found = set[str](), set[str]()
    for answer in answers:
        if answer.word == UNSURE:
            unsure.add(answer.key)
        elif answer.word == OK and answer.key in unsure:
            found.add(answer.key)
    return len(found)


async def _open_accounts(fleet: Fleet) -> None:
    async with shard_node.connect(fleet.paths.endpoint, "opener") as client:
        openings = (
            client.economy.deposit(name, plan.START, idempotency_key=plan.opening_key(name))
            for name in plan.accounts()
        )
        await asyncio.gather(*openings)
