"""The whole fleet on the sandbox: what the first part promises, seen from outside."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardctl.launch import read_json
from shardctl.supervisor import procs
from tests.support import hostile
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

STOP_MAX_S = 10.0
BROKER_BACK_MAX_S = 2.0
START_EXTRA_MAX_S = 3.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """4 shards on 2 nodes, shared by tests that change nothing or wait until all is well."""
    with Fleet(tmp_path_factory.mktemp("standing"), "standing") as fleet:
        # A node that is killed here has its shards again with its next process.
        settings = '[lifecycle]\nsurvivors = "never"\n'
        (fleet.bot_folder / "shardctl.toml").write_text(settings)
        fleet.start()
        yield fleet


def test_status_has_the_promised_shape(standing: Fleet) -> None:
    standing.wait_ready()
    report = standing.status()
    assert report["schema"] == 1
    assert report["fleet"] == "standing"
    assert {"pid", "uptime_s"} <= report["broker"].keys()
    assert {"remaining", "total", "reset_after_s"} <= report["identify"].keys()
    assert [node["id"] for node in report["nodes"]] == ["a", "b"]
    for node in report["nodes"]:
        assert {"pid", "epoch", "state", "rss_bytes", "shards"} <= node.keys()
    assert [shard["id"] for shard in report["shards"]] == [0, 1, 2, 3]
    for shard in report["shards"]:
        assert shard["state"] == "ready"
        assert shard["num_shards"] == 4
        assert {
            "node", "guilds", "latency_ms", "heartbeat_age_s", "sequence", "restarts"
        } <= shard.keys()  # fmt: skip
    assert sum(shard["guilds"] for shard in report["shards"]) == 20


def test_every_guild_is_where_the_formula_says(standing: Fleet) -> None:
    report = standing.wait_ready()
    node_of = {shard["id"]: shard["node"] for shard in report["shards"]}
    guild = standing.control("guilds")[0]
    answer = standing.run("where", guild["id"], "--json", check=True).stdout
    shard = (int(guild["id"]) >> 22) % 4
    assert f'"guild": "{guild["id"]}"' in answer
    assert f'"shard": {shard}' in answer
    assert f'"node": "{node_of[shard]}"' in answer


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["respawn", "9"], 4, ["9", "0, 1, 2, 3"]),
        (["respawn", "--dry-run", "77"], 4, ["77"]),
        (["where", "x"], 2, ["GUILD"]),
        (["where", "12"], 4, ["no guild 12", "There are: "]),
        (["logs", "--node", "zz"], 4, ["zz", "node-a"]),
        (["start", "--sandbox"], 77, ["runs already", "shardctl stop"]),
        (["stop", "--discard-sessions"], 2, ["--yes"]),
        (["start", "nope.py"], 4, ["nope.py", "nothing was started"]),
        (["stauts"], 2, ["Did you mean 'status'"]),
    ],
)
def test_bad_input_is_answered_with_what_exists(
    standing: Fleet, args: list[str], code: int, words: list[str]
) -> None:
    done = standing.run(*args)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_another_fleet_is_named_when_this_one_does_not_run(standing: Fleet) -> None:
    done = standing.run("status", "--fleet", "other")
    assert done.returncode == 69
    assert "standing" in done.stderr
    assert "--fleet NAME" in done.stderr


def test_five_hundred_commands_are_answered_once(standing: Fleet) -> None:
    standing.wait_ready()
    standing.control("audit?reset=1")
    standing.wait_load(standing.load(100, 5))
    audit = _settled(standing, 500)
    assert audit["interactions_sent"] == 500
    assert audit["answered_once"] == 500


def test_a_killed_broker_costs_nothing(standing: Fleet) -> None:
    before = standing.wait_ready()
    standing.control("audit?reset=1")
    load = standing.load(25, 6)
    wait_for("commands on their way", lambda: standing.audit()["interactions_sent"] >= 25)
    standing.kill("broker")
    killed = time.monotonic()

    def serves_again() -> dict[str, Any] | None:
        done = standing.run("status", "--json")
        return {"ok": True} if done.returncode in (0, 3) else None

    wait_for("a broker that serves", serves_again)
    assert time.monotonic() - killed < BROKER_BACK_MAX_S
    sent = standing.wait_load(load)["interactions_sent"]
    after = standing.wait_ready()
    audit = _settled(standing, sent)
    assert audit["answered_once"] == audit["interactions_sent"] == sent
    assert audit["identifies"] == audit["resumes"] == 0
    assert [n["pid"] for n in after["nodes"]] == [n["pid"] for n in before["nodes"]]
    # The old broker may have counted one IDENTIFY twice, to be on the safe side.
    assert after["identify"]["remaining"] >= before["identify"]["remaining"]


def test_a_killed_sandbox_forgets_no_command(fleet: Fleet) -> None:
    fleet.start()
    killed = fleet.kill("sandbox")

    def identified() -> bool:
        info = read_json(fleet.paths.sandbox_file)
        return info is not None and info["pid"] != killed and fleet.audit()["identifies"] >= 4

    wait_for("IDENTIFYs at the next sandbox", identified, 60.0)
    fleet.wait_ready()
    sent = fleet.wait_load(fleet.load(10, 1))["interactions_sent"]
    assert _settled(fleet, sent)["answered_once"] == sent == 10


def test_a_killed_node_comes_back_alone(standing: Fleet) -> None:
    before = standing.wait_ready()
    standing.kill("node:a")

    def back() -> dict[str, Any] | None:
        report = standing.status()
        a = next(node for node in report["nodes"] if node["id"] == "a")
        return report if a["epoch"] > before["nodes"][0]["epoch"] else None

    wait_for("another process", back)
    after = standing.wait_ready()
    assert after["nodes"][0]["restarts"] == before["nodes"][0]["restarts"] + 1
    assert after["nodes"][1]["pid"] == before["nodes"][1]["pid"]


def test_respawn_starts_the_process_of_a_shard_again(standing: Fleet) -> None:
    before = standing.wait_ready()
    plan = standing.run("respawn", "2", "--dry-run", check=True)
    assert "node b would be replaced: shards 2-3 (shard 3 moves with it)" in plan.stdout
    done = standing.run("respawn", "2", check=True)
    assert "shard 2 ready on node b" in done.stderr
    assert "shard 0 ready" not in done.stderr
    after = standing.status()
    assert after["nodes"][1]["epoch"] > before["nodes"][1]["epoch"]
    assert {shard["state"] for shard in after["shards"]} == {"ready"}
    assert after["nodes"][0]["pid"] == before["nodes"][0]["pid"]


def test_a_shard_moves_to_another_node_and_back(standing: Fleet) -> None:
    before = standing.wait_ready()
    audit = standing.audit()
    load = standing.load(interactions_per_s=5, seconds=4, events_per_s=20)
    moved = standing.run("move-shard", "2", "a", check=True)
    assert moved.stdout.startswith("shard 2 moved from b to a, resumed in ")
    there = standing.status()
    assert [node["shards"] for node in there["nodes"]] == [[0, 1, 2], [3]]
    same = standing.run("move-shard", "2", "a")
    assert (same.returncode, "shard 2 is on a already" in same.stderr) == (77, True)
    standing.run("move-shard", "2", "b", check=True)
    after = standing.wait_ready()
    for node, old in zip(after["nodes"], before["nodes"], strict=True):
        assert (node["pid"], node["shards"]) == (old["pid"], old["shards"])
    standing.wait_load(load)
    pending = lambda: standing.audit()["interactions_pending"] == 0  # noqa: E731
    wait_for("answers", pending)
    now = standing.audit()
    for name in ("identifies", "resumes_failed", "answered_never", "answered_twice"):
        assert now[name] == audit[name], name


def test_a_fleet_has_more_nodes_and_fewer(standing: Fleet) -> None:
    before = standing.wait_ready()
    more = standing.run("scale", "--nodes", "3", check=True)
    assert "node c is up" in more.stderr
    there = standing.wait_ready()
    assert [node["id"] for node in there["nodes"]] == ["a", "b", "c"]
    assert there["nodes"][2]["shards"]
    fewer = standing.run("scale", "--nodes", "2", check=True)
    assert "node c has ended" in fewer.stderr
    after = standing.wait_ready()
    assert [node["pid"] for node in after["nodes"]] == [node["pid"] for node in before["nodes"]]
    assert after["identify"]["remaining"] == before["identify"]["remaining"]
    standing.run("balance", "--dry-run", check=True)
    for shard in after["shards"]:  # as the other tests have them
        home = "ab"[shard["id"] // 2]
        if shard["node"] != home:
            standing.run("move-shard", str(shard["id"]), home, check=True)


def test_the_token_is_nowhere_to_be_read(standing: Fleet) -> None:
    standing.wait_ready()
    token = standing.info()["token"]
    seen = [
        standing.logs(),
        standing.run("status", "--json", "--verbose").stdout,
        standing.run("status", "--verbose").stdout,
        standing.run("logs").stdout,
        standing.paths.record_file.read_text(),
        standing.paths.supervisor_file.read_text(),
    ]
    seen += [
        Path(f"/proc/{process.pid}/cmdline").read_text()
        for process in standing.processes()
        if Path(f"/proc/{process.pid}/cmdline").exists()
    ]
    assert token not in "\n".join(seen)
    assert standing.paths.sandbox_file.stat().st_mode & 0o077 == 0


def test_the_foreground_shows_the_status_and_ends_at_ctrl_c(fleet: Fleet) -> None:
    process = fleet.start_foreground()
    out = fleet.folder / "foreground.out"
    wait_for("the status", lambda: "4 of 4 shards ready" in out.read_text(), 60)
    wait_for("the end of the display", lambda: len(fleet.note()["children"]) == 4)
    assert fleet.note()["pid"] == process.pid
    children = fleet.processes()
    assert {p.name for p in children} >= {"supervisor", "broker", "sandbox", "node:a", "node:b"}
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(STOP_MAX_S) == 0
    assert time.monotonic() - start < STOP_MAX_S
    assert procs.living(children) == []
    assert not fleet.paths.supervisor_file.exists()


def test_the_start_takes_the_least_time_that_discord_allows(fleet: Fleet) -> None:
    shards, keys, window_s = 12, 4, 4.0  # one window too many is longer than the extra
    least_s = (math.ceil(shards / keys) - 1) * window_s
    start = time.monotonic()
    fleet.start(shards=shards, max_concurrency=keys, identify_window_s=window_s)
    assert time.monotonic() - start <= least_s + START_EXTRA_MAX_S
    audit = fleet.audit()
    assert audit["identifies"] == shards
    assert audit["identifies_rejected"] == 0


def test_stop_leaves_nothing_behind(fleet: Fleet) -> None:
    fleet.start(shards=2)
    children = fleet.processes()
    start = time.monotonic()
    assert fleet.stop().returncode == 0
    assert time.monotonic() - start < STOP_MAX_S
    assert procs.living(children) == []
    assert fleet.run("status").returncode == 69


def test_the_next_start_tells_of_a_supervisor_without_a_goodbye(fleet: Fleet) -> None:
    fleet.start(shards=2)
    pid = fleet.kill("supervisor")
    again = fleet.start(shards=2)
    assert f"the last supervisor (pid {pid}) ended without a goodbye" in again.stderr
    assert len(fleet.status()["shards"]) == 2


@pytest.mark.parametrize("make", [hostile.modules, hostile.namespace], ids=lambda f: f.__name__)
def test_a_bot_in_a_hostile_folder(fleet: Fleet, make: Any) -> None:
    make(fleet.bot_folder)
    fleet.start("main.py", shards=2)
    fleet.wait_load(fleet.load(10, 1))
    assert _settled(fleet, 10)["answered_once"] == 10


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import disnake\n\nraise RuntimeError('at line three')\n", ["main.py", "line 3"]),
        ("import no_such_module_anywhere\n", ["no_such_module_anywhere", "main.py"]),
        ("print('no bot here')\n", ["main.py"]),
    ],
    ids=["exception", "missing-module", "no-bot"],
)
def test_a_bot_that_cannot_be_loaded_ends_the_start(
    fleet: Fleet, source: str, words: list[str]
) -> None:
    (fleet.bot_folder / "main.py").write_text(source)
    done = fleet.run(*fleet.start_args("main.py", shards=2))
    assert done.returncode not in (0, 70), done.stderr
    for word in words:
        assert word in done.stderr
    wait_for("the end of all processes", lambda: not fleet.processes())


def _settled(fleet: Fleet, sent: int) -> dict[str, int]:
    """The audit once every interaction was answered or ran out of time (3 s)."""

    def look() -> dict[str, int] | None:
        audit = fleet.audit()
        answered = sum(
            audit[key]
            for key in ("answered_once", "answered_late", "answered_never", "answered_twice")
        )
        return audit if answered >= sent else None

    return wait_for(f"{sent} interactions settled", look, 10.0)


_BOT = """\
import os

import disnake
from disnake.ext import commands

bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())
print("version one", flush=True)


@bot.slash_command(description="says hello")
async def hello(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message("hello")


bot.run(os.environ["DISCORD_TOKEN"])
"""


def test_dev_starts_the_bot_again_when_it_is_saved(tmp_path: Path) -> None:
    with Fleet(tmp_path, "dev") as fleet:
        main = fleet.bot_folder / "main.py"
        main.write_text(_BOT)
        process = fleet.begin("dev", "main.py", "--sandbox")
        out, err = fleet.folder / "foreground.out", fleet.folder / "foreground.err"
        wait_for("the first version", lambda: "version one" in out.read_text(), 30)
        fleet.wait_ready()
        main.write_text(_BOT.replace("version one", "version two"))
        wait_for("the second version", lambda: "version two" in out.read_text(), 30)
        wait_for("the word of it", lambda: "ready again" in err.read_text(), 30)
        fleet.wait_ready()
        main.write_text("this is no python\n")
        wait_for("the end of the fleet", lambda: "save a file" in err.read_text(), 30)
        main.write_text(_BOT.replace("version one", "version three"))
        wait_for("the third version", lambda: "version three" in out.read_text(), 30)
        fleet.wait_ready()
        fleet.interrupt(process)
        assert process.wait(STOP_MAX_S) == 0
        wait_for("the end of all processes", lambda: not fleet.processes())


def test_sessions_are_discarded_only_when_somebody_says_so(fleet: Fleet) -> None:
    fleet.start(shards=2)
    would = fleet.run("stop", "--discard-sessions", "--dry-run", check=True)
    assert "discard its sessions" in would.stdout
    done = fleet.run("stop", "--discard-sessions", "--yes", check=True)
    assert "its sandbox ended with it" in done.stderr
    assert not fleet.processes()


def test_a_fleet_on_a_discord_that_it_did_not_start(tmp_path: Path) -> None:
    """The way of a real token: from .env, through every process, into no file and no argument."""
    with Fleet(tmp_path, "outside") as fleet:
        info_file = tmp_path / "info.json"
        alone = fleet.begin("sandbox", "run", "--shards", "2", "--info-file", str(info_file))
        wait_for("the sandbox", info_file.exists, 20)
        info = json.loads(info_file.read_text())
        fleet.env["SHARDCTL_API_BASE"] = info["rest_url"]
        (fleet.bot_folder / "main.py").write_text(_BOT.replace("DISCORD_TOKEN", "MY_TOKEN"))
        (fleet.bot_folder / "shardctl.toml").write_text('token_env = "MY_TOKEN"\n')
        assert fleet.run("start").returncode == 78
        (fleet.bot_folder / ".env").write_text("MY_TOKEN=wrong\n")
        refused = fleet.run("start", "--dry-run")
        assert (refused.returncode, "401" in refused.stderr) == (78, True)
        failed = fleet.run("start")
        assert (failed.returncode, "E_TOKEN" in failed.stderr) == (78, True)
        (fleet.bot_folder / ".env").write_text(f"MY_TOKEN={info['token']}\n")
        plan = fleet.run("start", "--dry-run", check=True)
        assert "2 (recommended: 2)" in plan.stdout
        assert "5 s at least" in plan.stdout
        url = info["rest_url"].removesuffix("/api/v10")
        fleet.run("sandbox", "budget", "1", "--url", url, check=True)
        poor = fleet.run("start")
        assert (poor.returncode, "E_IDENTIFY_BUDGET" in poor.stderr) == (75, True)
        fleet.run("sandbox", "budget", "1000", "--url", url, check=True)
        started = fleet.run("start", check=True)
        report = fleet.status()
        assert [shard["state"] for shard in report["shards"]] == ["ready", "ready"]
        seen = [plan.stdout, started.stdout, started.stderr, fleet.logs(), json.dumps(report)]
        seen += [Path(f"/proc/{process.pid}/cmdline").read_text() for process in fleet.processes()]
        seen += [
            path.read_text(errors="replace")
            for root in (fleet.paths.data_dir, fleet.paths.run_dir)
            for path in root.rglob("*")
            if path.is_file()
        ]
        assert info["token"] not in "\n".join(seen)
        assert fleet.stop().returncode == 0
        alone.send_signal(signal.SIGINT)
        alone.wait(10)
