"""The built wheel, in an environment of its own: what a user installs, not a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rules.source import ROOT
from tests.support import hostile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.wheel,
    pytest.mark.timeout(420),
]

INSTALL_TIMEOUT_S = 300
COMMAND_TIMEOUT_S = 90


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(out), str(ROOT)]
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_S)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the wheel and what it asks for."""
    home = tmp_path_factory.mktemp("wheel-env")
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", str(wheel)]
    subprocess.run(pip, check=True, timeout=INSTALL_TIMEOUT_S)
    return home / "bin"


Shardctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shardctl(installed: Path, tmp_path: Path) -> Iterator[Shardctl]:
    """Run the installed command in the folder ``tmp_path/bot``; the fleet ends with the test."""
    (tmp_path / "bot").mkdir()
    for name in ("state", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SHARDCTL_", "PYTHON", "XDG_"))}
    env |= {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(installed / "shardctl"), *args],
            cwd=tmp_path / "bot",
            env=env,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    yield run
    run("stop")


def test_the_wheel_carries_what_it_must(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {t for t in tops if not t.startswith("shardctl-")} == {"shardctl", "shard_node"}
    assert "shardctl/_daemon/broker/__main__.py" in names
    assert "shardctl/_daemon/store/__init__.py" in names
    assert {"shardctl/py.typed", "shard_node/py.typed"} <= names
    for page in ("man1/shardctl.1", "man7/shard-protocol.7"):
        assert any(name.endswith(f".data/data/share/man/{page}") for name in names), page


def test_the_pages_are_where_man_looks(installed: Path) -> None:
    share = installed.parent / "share" / "man"
    assert (share / "man1" / "shardctl.1").is_file()
    assert (share / "man7" / "shard-protocol.7").is_file()


@pytest.mark.parametrize("make", [hostile.modules, hostile.namespace], ids=lambda f: f.__name__)
def test_a_fleet_of_a_bot_in_a_hostile_folder(
    shardctl: Shardctl, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    make(tmp_path / "bot")
    start = shardctl(
        "start", "main.py", "--sandbox", "--shards", "2", "--nodes", "2",
        "--identify-window-s", "0.5", "--guilds", "8",
    )  # fmt: skip
    assert start.returncode == 0, start.stdout + start.stderr
    status = shardctl("status", "--json")
    assert status.returncode == 0, status.stdout + status.stderr
    report = json.loads(status.stdout)
    assert {shard["state"] for shard in report["shards"]} == {"ready"}
    assert len(report["nodes"]) == 2
    load = shardctl(
        "sandbox", "load", "--interactions-per-s", "10", "--events-per-s", "0", "--seconds", "1"
    )
    assert load.returncode == 0, load.stdout + load.stderr
    audit = json.loads(shardctl("sandbox", "audit", "--json").stdout)
    assert audit["answered_once"] == audit["interactions_sent"] == 10
    stop = shardctl("stop")
    assert stop.returncode == 0, stop.stdout + stop.stderr
    assert shardctl("status").returncode == 69


def test_the_state_from_a_wheel(shardctl: Shardctl, tmp_path: Path) -> None:
    """Through the broker, and on the files: the store is found below ``shardctl/_daemon``."""

    def shown(*args: str, code: int = 0) -> Any:
        result = shardctl(*args, "--json")
        assert result.returncode == code, result.stdout + result.stderr
        return json.loads(result.stdout)

    missing = shardctl("state", "stats")
    assert (missing.returncode, "E_NO_STATE" in missing.stderr) == (4, True), missing.stderr
    sizes = ("--shards", "2", "--nodes", "2", "--identify-window-s", "0.5", "--guilds", "8")
    start = shardctl("start", "--sandbox", *sizes)
    assert start.returncode == 0, start.stdout + start.stderr
    assert shown("economy", "deposit", "ann", "5")["tx"] == 1
    shown("economy", "transfer", "ann", "bob", "2")
    shown("state", "set", "motd", '"hi"')
    guild = json.loads(shardctl("sandbox", "guilds", "--json").stdout)[0]["id"]
    said = shardctl("invoke", guild, "daily")
    assert said.stdout == "100 coins. You have 100.\n", said.stdout + said.stderr
    assert shown("economy", "audit")["tables"]["balance"] == 105
    assert shown("state", "check", "--copy")["ok"]
    folder = str(tmp_path / "backup")
    shown("backup", "create", folder)
    shown("state", "set", "motd", '"later"')
    assert shardctl("stop").returncode == 0
    assert shown("state", "check")["replayed"]
    shown("backup", "restore", folder, "--yes")
    assert shown("economy", "audit")["findings"] == []
    assert shown("state", "stats")["log"]["last"] == 5
