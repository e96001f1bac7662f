"""A shard's connection is opened anew, an extension reloaded, and the processes go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.processes import BOTS
from tests.support.fleet import Fleet
from tests.support.sandbox import call, sandbox_process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fleet-reconnect")]

SANDBOX = (
    "--guilds", "4", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.3",
)  # fmt: skip
COG = """
from disnake.ext import commands

class Fun(commands.Cog):
    pass

def setup(bot):
    print("fun says {word}", flush=True)
    bot.add_cog(Fun())
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Fleet, dict[str, Any]]]:
    with sandbox_process(*SANDBOX) as info, Fleet(tmp_path, "reconnect") as fleet:
        fleet.env |= {"SHARDCTL_API_BASE": info["rest_url"], "DISCORD_TOKEN": info["token"]}
        shutil.copy(BOTS / "recorder.py", fleet.bot_folder / "main.py")
        main = fleet.bot_folder / "main.py"
        head, _, tail = main.read_text().rpartition("\nbot.run(")
        main.write_text(f'{head}\nbot.load_extension("fun")\nbot.run({tail}')
        (fleet.bot_folder / "fun.py").write_text(COG.format(word="one"))
        fleet.run("start", "main.py", "--nodes", "2", check=True)
        fleet.wait_ready()
        yield fleet, info


def test_connections_and_extensions_anew(world: tuple[Fleet, dict[str, Any]]) -> None:
    fleet, info = world
    epochs = [node["epoch"] for node in fleet.status()["nodes"]]
    done = fleet.run("reconnect", "1", check=True)
    assert done.stdout.startswith("shard 1 of node b resumed in ")
    audit = call(info, "/audit")
    assert (audit["identifies"], audit["resumes"]) == (2, 1)
    told = json.loads(fleet.run("reconnect", "0", "--fresh", "--json", check=True).stdout)
    assert (told["shard"], told["node"], told["identified"]) == (0, "a", True)
    audit = call(info, "/audit")
    assert (audit["identifies"], audit["resumes"]) == (3, 1)
    (fleet.bot_folder / "fun.py").write_text(COG.format(word="two"))
    assert fleet.run("reload", "fun", check=True).stdout == "a  reloaded\nb  reloaded\n"
    logs = fleet.run("logs", "--node", "a", check=True).stdout
    assert "fun says two" in logs
    (fleet.bot_folder / "fun.py").write_text("def setup(bot): raise ValueError('no')\n")
    failed = fleet.run("reload", "fun")
    assert failed.returncode == 1
    assert "a  ExtensionFailed: fun: ValueError: no" in failed.stdout
    assert fleet.run("reload", "cogs.none").returncode == 4
    missing = fleet.run("reconnect", "7")
    assert missing.returncode == 4
    assert "error[E_NOT_FOUND]: no shard 7 in the fleet" in missing.stderr
    assert [node["epoch"] for node in fleet.status()["nodes"]] == epochs
