"""A port that is taken is said in words: at load, or in a task of the bot's start."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shard_node.bridge import ports_taken
from shard_node.errors import BotLoadError
from shard_node.settings import NodeSettings, read_settings
from tests.node.fake_broker import FakeBroker
from tests.node.processes import environment, node


@pytest.fixture
def port() -> Iterator[int]:
    """One that is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def settings_in(folder: Path, role: str = "first") -> NodeSettings:
    return read_settings(environment("ipc:///none", folder, "main.py", SHARDCTL_ROLE=role))


def error_of(port: int) -> OSError:
    async def bind() -> None:
        await asyncio.start_server(lambda *_: None, "127.0.0.1", port)

    with pytest.raises(OSError, match="in use") as caught:
        asyncio.run(bind())
    return caught.value


def test_the_port_is_named_and_what_to_do(tmp_path: Path, port: int) -> None:
    error = error_of(port)
    first = ports_taken.told_of(settings_in(tmp_path), error)
    assert first is not None
    assert first.code == "E_BOT_PORT"
    assert f"main.py: port {port} is taken by another process" in str(first)
    assert "shard_node.node.index" in first.hint
    second = ports_taken.told_of(settings_in(tmp_path, "successor"), error)
    assert second is not None
    assert "the process of node a that this one is to replace" in str(second)
    assert "shardctl respawn --node a --in-sequence" in second.hint


def test_what_is_behind_an_error_counts(tmp_path: Path) -> None:
    settings, bare = settings_in(tmp_path), OSError(errno.EADDRINUSE, "Address already in use")
    try:
        try:
            raise bare
        except OSError as error:
            raise RuntimeError("no server") from error
    except RuntimeError as error:
        told = ports_taken.told_of(settings, error)
    assert told is not None
    assert "a port that it binds is taken" in str(told)
    assert ports_taken.told_of(settings, OSError(errno.EACCES, "no")) is None
    looped = ValueError("loop")
    looped.__cause__ = looped
    assert ports_taken.told_of(settings, looped) is None


def test_a_task_that_nobody_awaits_is_heard_of(tmp_path: Path, port: int) -> None:
    loop = asyncio.new_event_loop()
    theirs: list[str] = []
    taken: list[BotLoadError] = []
    loop.set_exception_handler(lambda _loop, context: theirs.append(context["message"]))
    ports_taken.watch(loop, settings_in(tmp_path), taken.append)

    async def main() -> None:
        tasks = [
            loop.create_task(asyncio.start_server(lambda *_: None, "127.0.0.1", port)),
            loop.create_task(asyncio.sleep(0, ValueError("no port"))),
        ]
        await asyncio.wait(tasks)
        del tasks

    loop.run_until_complete(main())
    loop.call_exception_handler({"message": "without an exception"})
    loop.close()
    assert len(theirs) == 2
    assert [one.code for one in taken] == ["E_BOT_PORT"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["load", "task"])
def test_a_successor_without_its_port_ends(
    broker: FakeBroker, tmp_path: Path, port: int, where: str
) -> None:
    bind = "    await asyncio.start_server(print, '127.0.0.1', PORT)\n"
    head = "import asyncio\nimport disnake\nfrom disnake.ext import commands\nPORT = " + str(port)
    head += "\nbot = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())\n"
    cog = "class Web(commands.Cog):\n  async def cog_load(self):\n" + bind + "bot.add_cog(Web())\n"
    load = "async def main():\n" + bind + "asyncio.run(main())\n"
    run = "bot.run('a-token-that-is-long-enough')\n"
    (tmp_path / "main.py").write_text(head + (load if where == "load" else cog + run))
    extra = {"SHARDCTL_ROLE": "successor", "SHARDCTL_JOURNAL_DIR": str(tmp_path / "journal")}
    with node(broker, tmp_path, **extra) as process:
        assert process.exit_code() != 0
        assert (
            f"error[E_BOT_PORT]: main.py:{7 if where == 'load' else 8}: port {port} is taken"
            in process.output
        )
        assert "shardctl respawn --node a --in-sequence" in process.output
