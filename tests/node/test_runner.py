"""``shard_node.run`` outside a fleet: a bot alone, on the Discord that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node import lone
from shard_node.errors import BotLoadError
from tests.node.processes import EXIT_S, ROOT
from tests.peer.nodes import until
from tests.support.aio import async_test
from tests.support.sandbox import sandbox_process

BOT = """\
import disnake
import shard_node

bot = disnake.AutoShardedClient(intents=disnake.Intents(guilds=True))


@bot.event
async def on_ready():
    avatar = bot.user.display_avatar
    print(len(bot.guilds), avatar.url, len(await avatar.read()) > 0, flush=True)
    await bot.close()


shard_node.run(bot)
"""


class NoBot:
    def run(self, token: str) -> None:
        raise AssertionError(token)


def alone(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The bot as `python bot.py`, with no fleet."""
    (folder / "bot.py").write_text(BOT)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SHARDCTL_", "DISCORD_"))}
    return subprocess.run(
        [sys.executable, "bot.py"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=EXIT_S,
        check=False,
    )


@pytest.mark.slow
def test_alone_it_uses_the_rest_and_the_cdn_of_a_sandbox(tmp_path: Path) -> None:
    with sandbox_process("--guilds", "3", "--shards", "1") as info:
        # The slash at the end is what people type.
        base = info["rest_url"] + "/"
        done = alone(tmp_path, SHARDCTL_API_BASE=base, DISCORD_TOKEN=info["token"])
    assert done.returncode == 0, done.stderr
    count, url, is_read = done.stdout.split()
    assert (count, is_read) == ("3", "True")
    assert url.startswith(info["rest_url"].removesuffix("/api/v10") + "/cdn/")
    assert "running alone" in done.stderr


@pytest.mark.parametrize("value", ["notaurl", "ftp://x", "http://[", "http://h:0"])
def test_a_base_that_is_no_url_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCTL_API_BASE", value)
    with pytest.raises(BotLoadError, match="SHARDCTL_API_BASE=") as caught:
        shard_node.run(NoBot(), "token")
    assert caught.value.code == "E_API_BASE"


@pytest.mark.parametrize(
    ("base", "is_with_cdn"),
    [
        ("http://127.0.0.1:1/api/v10", True),
        ("http://localhost:1/api/v10", True),
        ("https://discord.com/api/v10", False),
        ("https://proxy.example/api/v10", False),
    ],
)
def test_assets_come_from_this_machine_only_with_the_api(
    base: str, is_with_cdn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shard_node.bridge import origin

    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(origin, "redirect", lambda base, *, cdn: seen.append((base, cdn)))
    monkeypatch.setenv("SHARDCTL_API_BASE", base)
    with pytest.raises(AssertionError, match="token"):
        shard_node.run(NoBot(), "token")
    assert seen == [(base, is_with_cdn)]


@async_test
async def test_alone_the_state_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bot:
        def run(self, token: str) -> None:
            ran.append(token)

    ran: list[str] = []
    monkeypatch.setattr(lone, "_current", None)
    shard_node.run(Bot(), "secret")
    node = shard_node.node
    assert (ran, node.name) == (["secret"], "alone")
    heard: list[Any] = []
    node.on("x", lambda message: heard.append(message.body))

    async def late(message: Any) -> None:
        heard.append((message.topic, message.sender))

    def broken(message: Any) -> None:
        raise LookupError

    node.on("x", broken)
    node.on("x")(late)
    await node.publish("x", {"a": 1})
    await until(lambda: len(heard) == 2)
    assert heard == [{"a": 1}, ("x", "alone")]
    node.off("x", late)
    assert (await node.economy.deposit("a", 5)).id == 1
    assert node.economy.balance("a") == 5
    assert await node.state.sync(1) == 1
    shard_node.run(Bot(), "again")
    assert shard_node.node is node
