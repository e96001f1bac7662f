"""A killed node is started again from its journal: ready at once, with the caches of a bot that has
just IDENTIFYd, compared object by object. With 1,000 guilds in `make soak`."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, NodeProcess, node
from tests.support.caches import differences
from tests.support.sandbox import call
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

WHOLE = os.environ.get("SHARDCTL_HANDOVER") == "full"
GUILDS = 1000 if WHOLE else 30
SANDBOX = (
    "--guilds", str(GUILDS), "--shards", "2", "--max-concurrency", "2",
    "--identify-window-s", "0.2",
)  # fmt: skip
READY_S = 1.0
"""A node with 1,000 guilds, from its process being up."""
ALL_READY_S = 120.0


def seen(process: NodeProcess, folder: Path) -> tuple[float, dict[int, Any]]:
    """After how long it was ready, and what it keeps then."""
    path = folder / f"picture-{process.popen.pid}"
    wait_for("its picture", path.exists, ALL_READY_S)
    took_s, guilds = pickle.loads(path.read_bytes())
    return took_s, guilds


def objects(thing: Any) -> int:
    """How many objects of the library are in a picture."""
    if isinstance(thing, dict):
        return ("" in thing) + sum(map(objects, thing.values()))
    return sum(map(objects, thing)) if isinstance(thing, list) else 0


def changed(info: dict[str, Any], folder: Path) -> None:
    """Things happen that are in no GUILD_CREATE that it got."""
    body = {"events_per_s": 300.0, "seconds": 60}
    load = call(info, "/load", body)["id"]
    wait_for("events", lambda: call(info, "/audit")["events_sent"] > 600, 20)
    call(info, f"/load/{load}", method="DELETE")
    wait_for("all of them handled", lambda: call(info, "/audit")["events_pending"] == 0, 20)


@pytest.mark.timeout(400)
def test_a_node_is_ready_from_its_journal_and_keeps_what_a_fresh_one_does(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "bot"
    folder.mkdir()
    shutil.copy(BOTS / "picture.py", folder / "main.py")
    settings = {
        "SHARDCTL_JOURNAL_DIR": str(tmp_path / "journal"),
        "SHARDCTL_WITNESS_DIR": str(folder),
    }
    with node(broker, folder, info=info, **settings) as first:
        seen(first, folder)
        changed(info, folder)
        first.popen.kill()
        first.popen.wait()
    with node(broker, folder, info=info, SHARDCTL_EPOCH="8", **settings) as again:
        took_s, warm = seen(again, folder)
        audit = call(info, "/audit")
        assert (audit["identifies"], audit["resumes"], audit["resumes_failed"]) == (2, 2, 0)
        again.popen.kill()
        again.popen.wait()
    with node(broker, folder, info=info, SHARDCTL_EPOCH="9") as fresh:
        cold_s, cold = seen(fresh, folder)
    assert call(info, "/audit")["identifies"] == 4
    count = objects(cold)
    print(
        f"{len(warm)} guilds, {count} objects: ready {took_s:.2f} s after the process was up, "
        f"by IDENTIFY {cold_s:.2f} s"
    )
    assert len(warm) == len(cold) == GUILDS
    assert count > GUILDS * 10
    found = differences(warm, cold)
    assert found == [], (len(found), found[:20])
    assert took_s < READY_S
    next(iter(warm.values()))["name"] = "x"  # the comparison is no ornament
    assert differences(warm, cold) != []
