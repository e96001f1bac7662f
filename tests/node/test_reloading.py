"""An extension is reloaded where the bot stands; what goes wrong is told in one line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import disnake
import pytest
from disnake.ext import commands

from shard_node.bridge.reloading import Reloading
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import encode_body
from shard_node.wire.operations import NodeReload, NodeReloaded

NAME = "reloaded_by_a_test"
COG = """
from disnake.ext import commands
class Cog(commands.Cog):
    word = {word!r}
    async def cog_load(self):
        {load}
def setup(bot):
    {setup}
    bot.add_cog(Cog())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sys.path.insert(0, str(tmp_path))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    yield tmp_path
    sys.dont_write_bytecode = before
    sys.path.remove(str(tmp_path))
    sys.modules.pop(NAME, None)


def write(folder: Path, word: str, *, load: str = "pass", setup: str = "pass") -> None:
    (folder / f"{NAME}.py").write_text(COG.format(word=word, load=load, setup=setup))


def reload(folder: Path, then: dict[str, str] | str, name: str = NAME) -> tuple[Any, str]:
    """The answer, and the word of the cog that is loaded after it."""

    async def play() -> tuple[Any, str]:
        bot: Any = commands.AutoShardedInteractionBot(
            intents=disnake.Intents.none(),
            command_sync_flags=commands.CommandSyncFlags.none(),
        )
        write(folder, "old")
        bot.load_extension(NAME)
        if isinstance(then, str):
            (folder / f"{NAME}.py").write_text(then)
        else:
            write(folder, "new", **then)
        reloading = Reloading(bot, folder, 15.0)
        reloading.load_max_s = 0.3
        answer = await reloading.serve(encode_body(NodeReload(name)))
        return answer, bot.get_cog("Cog").word

    return asyncio.run(play())


def test_the_new_one_is_there(folder: Path) -> None:
    assert reload(folder, {}) == (NodeReloaded(True), "new")


def test_one_that_is_not_loaded_is_named_with_those_that_are(folder: Path) -> None:
    answer, word = reload(folder, {}, "cogs.fun")
    assert answer.error == f"ExtensionNotLoaded: cogs.fun; loaded are: {NAME}"
    assert (answer.ok, word) == (False, "old")


def test_a_broken_one_leaves_the_one_before(folder: Path) -> None:
    answer, word = reload(folder, {"setup": "1 / 0"})
    assert answer.error == (
        f"ExtensionFailed: {NAME}: ZeroDivisionError: division by zero ({NAME}.py:8); "
        "the one before is in place"
    )
    assert (answer.ok, word) == (False, "old")
    answer, word = reload(folder, "x = = 1\n")
    assert "SyntaxError" in answer.error and "\n" not in answer.error and word == "old"


def test_one_that_does_not_end_is_taken_back(folder: Path) -> None:
    before, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    answer, word = reload(folder, {"setup": "import time; time.sleep(30)"})
    assert answer.error == (
        f"ExtensionFailed: {NAME} took more than 0.3 s; the one before is in place"
    )
    assert (answer.ok, word) == (False, "old")
    assert signal.getsignal(signal.SIGALRM) is before
    left, every = signal.getitimer(signal.ITIMER_REAL)
    assert every == timer[1]
    assert timer[0] - 5 < left <= timer[0]  # somebody else's, such as a limit of the tests


def test_what_cog_load_raises_is_told(folder: Path) -> None:
    answer, word = reload(folder, {"load": "raise KeyError('x')"})
    assert (answer.ok, word) == (False, "new")
    assert f"{NAME} is reloaded, but its cog_load raised KeyError: 'x'" in answer.error


def test_a_client_without_extensions_says_so(folder: Path) -> None:
    async def play() -> tuple[Any, Any]:
        reloading = Reloading(disnake.AutoShardedClient(), folder, 15.0)
        return await reloading.serve(encode_body(NodeReload(NAME))), await reloading.serve(b"?")

    answer, refused = asyncio.run(play())
    assert not answer.ok
    assert answer.error.startswith("AutoShardedClient has no extensions")
    assert isinstance(refused, ErrorBody)
