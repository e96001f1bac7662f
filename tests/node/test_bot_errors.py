"""Every way in which a bot's file can be wrong: code, file and line, what to do, exit 78."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shard_node.wire import topics
from tests.node.fake_broker import FakeBroker
from tests.node.processes import CANARY, ROOT, node
from tests.support.sandbox import sandbox_process

pytestmark = pytest.mark.slow

HEAD = "import disnake\nfrom disnake.ext import commands\n"
SHARDED = "bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FakeBroker]:
    folder = tmp_path / "run"
    folder.mkdir()
    with FakeBroker(f"ipc://{folder}/b.sock") as made:
        yield made


CASES = {
    "no module": (
        "import os\nimport thing_that_is_not_there\n",
        "main.py",
        ["error[E_BOT_MODULE]: main.py:2", "thing_that_is_not_there", "pip install"],
    ),
    "raises": (
        "x = 1\n\n\ndef f():\n    return 1 / 0\n\n\nf()\n",
        "main.py",
        ["error[E_BOT_IMPORT]: main.py:5", "ZeroDivisionError", "line 8", "before the bot ran"],
    ),
    "syntax": (
        "x = 1\ny = = 2\n",
        "main.py",
        ["error[E_BOT_SYNTAX]: main.py:2"],
    ),
    "plain Bot": (
        HEAD + "bot = commands.InteractionBot()\n\nbot.run('a-token-that-is-long-enough')\n",
        "main.py",
        ["error[E_BOT_CLASS]: main.py:3: InteractionBot", "commands.AutoShardedInteractionBot"],
    ),
    "plain Client": (
        HEAD + "class Mine(disnake.Client):\n    pass\n\n\nMine().run('a-token-long-enough')\n",
        "main.py",
        ["error[E_BOT_CLASS]: main.py:7: Mine", "disnake.AutoShardedClient"],
    ),
    "swallowed": (
        HEAD + "try:\n    commands.InteractionBot().run('a-token-that-is-long-enough')\n"
        "except Exception:\n    pass\n",
        "main.py",
        ["error[E_BOT_CLASS]: main.py:4"],
    ),
    "no token": (
        HEAD + SHARDED + "import os\nbot.run(os.environ.get('NO_SUCH_TOKEN'))\n",
        "main.py",
        ["error[E_BOT_TOKEN]: main.py:5", "DISCORD_TOKEN", ".env"],
    ),
    "never run": (
        HEAD + SHARDED,
        "main.py",
        ["error[E_BOT_NEVER_RAN]: main.py:3: this AutoShardedInteractionBot", "main.py:bot"],
    ),
    "never run, by its own name": (
        HEAD + SHARDED.replace("bot = ", "b = "),
        "main.py",
        ["error[E_BOT_NEVER_RAN]: main.py:3", "b.run(...)", "shardctl start main.py:b\n"],
    ),
    "no bot at all": (
        "print('hello')\n",
        "main.py",
        ["error[E_BOT_NEVER_RAN]: main.py:1", "bot.run"],
    ),
    "no such name": (
        HEAD + SHARDED,
        "main:client",
        ["error[E_BOT_TARGET]: main.py:1: no 'client'", "it has: bot"],
    ),
    "a function": (
        "def make():\n    pass\n",
        "main:make",
        ["error[E_BOT_TARGET]: main.py:1: function is no bot", "--factory"],
    ),
    "not a bot": (
        "thing = 3\n",
        "main.py:thing",
        ["error[E_BOT_TARGET]: main.py:thing: int is no bot"],
    ),
    "no such file": (
        "",
        "bot.py",
        ["error[E_BOT_FILE]", "bot.py: no such file", "the folder holds: main.py"],
    ),
    "no such target module": (
        "",
        "botty:bot",
        ["error[E_BOT_MODULE]", "botty"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_bot_is_told_with_its_line(broker: FakeBroker, tmp_path: Path, case: str) -> None:
    source, target, words = CASES[case]
    (tmp_path / "main.py").write_text(source)
    with node(broker, tmp_path, target) as process:
        assert process.exit_code() == 78, process.output
        for word in words:
            assert word in process.output
        assert str(ROOT / "shard_node") not in process.output  # no frame of ours


def test_a_factory_that_makes_no_bot(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def make():\n    return 3\n")
    with node(broker, tmp_path, "main:make", SHARDCTL_BOT_FACTORY="1") as process:
        assert process.exit_code() == 78
        assert "error[E_BOT_TARGET]: main:make: int is no bot" in process.output


def test_trouble_that_may_pass_is_no_reason_to_give_up(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("raise ConnectionRefusedError('the database')\n")
    with node(broker, tmp_path) as process:
        assert process.exit_code() == 1


@pytest.mark.parametrize(("argument", "code"), [("9", 9), ("'no config'", 1), ("", 78)])
def test_the_authors_exit_is_his(
    broker: FakeBroker, tmp_path: Path, argument: str, code: int
) -> None:
    (tmp_path / "main.py").write_text(f"import sys\nsys.exit({argument})\n")
    with node(broker, tmp_path) as process:
        assert process.exit_code() == code
        assert (argument.strip("'") in process.output) or code == 9


def test_discord_out_of_reach_is_tried_again(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(HEAD + SHARDED + f"bot.run({CANARY!r})\n")
    with node(broker, tmp_path) as process:
        assert process.exit_code(30) == 1
        assert "error[E_BOT_ENDED]: main.py:4" in process.output
        assert CANARY not in process.output


def test_a_refused_token_is_fatal(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(HEAD + SHARDED + f"bot.run({CANARY!r})\n")
    with (
        sandbox_process() as info,
        node(broker, tmp_path, info=info, SHARDCTL_SANDBOX="0", DISCORD_TOKEN=CANARY) as process,
    ):
        assert process.exit_code() == 78
        assert "error[E_BOT_FATAL]" in process.output
        (fatal,) = broker.wait(topics.FATAL)
        assert fatal.body.code == 4004
        assert CANARY not in process.output
        assert CANARY not in repr([seen.body for seen in broker.seen])


def test_a_second_bot_is_refused(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        HEAD + "import asyncio, os\nT = os.environ['DISCORD_TOKEN']\n\n\n"
        "async def main():\n"
        "    bots = [commands.AutoShardedInteractionBot() for _ in range(2)]\n"
        "    await asyncio.gather(*(b.start(T) for b in bots))\n\n\n"
        "asyncio.run(main())\n"
    )
    with sandbox_process() as info, node(broker, tmp_path, info=info) as process:
        assert process.exit_code() == 78
        assert "error[E_BOT_SECOND]: main.py:8" in process.output


def test_the_token_is_nowhere(broker: FakeBroker, tmp_path: Path) -> None:
    """In an exception, a log record, a print, a thread, a warning: masked in each."""
    (tmp_path / ".env").write_text(f"DISCORD_TOKEN={CANARY}\nFROM_DOTENV=yes\n")
    (tmp_path / "main.py").write_text(
        "import logging, os, sys, threading, warnings\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "T = os.environ['DISCORD_TOKEN']\n"
        "assert os.environ['FROM_DOTENV'] == 'yes'\n"
        "logging.getLogger('a.b').warning('token %s', T)\n"
        "logging.getLogger('a.b').error('%r', {'t': T}, exc_info=ValueError(T))\n"
        "print('token', T)\n"
        "print(T, file=sys.stderr)\n"
        "warnings.warn(T)\n"
        "def f():\n    raise KeyError(T)\n"
        "t = threading.Thread(target=f); t.start(); t.join()\n"
        "raise RuntimeError(f'token {T}')\n"
    )
    with node(broker, tmp_path) as process:
        assert process.exit_code() == 78
        assert CANARY not in process.output
        assert process.output.count("[token]") >= 7
        cmdline = Path(f"/proc/{process.popen.pid}/cmdline")
        assert not cmdline.exists() or CANARY not in cmdline.read_text()


def test_a_disnake_that_moved_a_name(broker: FakeBroker, tmp_path: Path) -> None:
    """The bot's own copy, in its folder, of another version."""
    (tmp_path / "disnake").mkdir()
    (tmp_path / "disnake" / "__init__.py").write_text("__version__ = '9.9.9'\n")
    (tmp_path / "main.py").write_text("import disnake\n")
    with node(broker, tmp_path) as process:
        assert process.exit_code() == 78
        assert "error[E_DISNAKE]: disnake 9.9.9 lacks" in process.output
        assert "disnake>=2.12.2,<2.13" in process.output


def test_a_successor_without_a_journal_takes_nothing(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(HEAD + SHARDED + f"bot.run({CANARY!r})\n")
    (tmp_path / "file").touch()
    extra = {"SHARDCTL_ROLE": "successor", "SHARDCTL_JOURNAL_DIR": str(tmp_path / "file" / "j")}
    with node(broker, tmp_path, **extra) as process:
        assert process.exit_code() == 78
        assert f"error[E_BOT_JOURNAL]: no journal can be kept in {tmp_path}" in process.output
        assert "Not a directory" in process.output


def test_a_folder_that_is_gone(broker: FakeBroker, tmp_path: Path) -> None:
    extra = {"SHARDCTL_BOT_FOLDER": str(tmp_path / "gone")}
    with node(broker, tmp_path, **extra) as process:
        assert process.exit_code() == 78
        assert "error[E_BOT_FILE]" in process.output


def test_dotenv_does_not_override(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GIVEN=file\nONLY=file\n")
    (tmp_path / "main.py").write_text(
        "import os, sys\nprint(os.environ['GIVEN'], os.environ['ONLY'], os.getcwd(), sys.path[0],"
        " __name__, __file__, sys.argv)\n"
    )
    with node(broker, tmp_path, GIVEN="environment") as process:
        assert process.exit_code() == 78
        folder = str(tmp_path)
        main = str(tmp_path / "main.py")
        assert f"environment file {folder} {folder} __main__ {main} ['{main}']" in process.output


def test_by_hand_it_says_what_it_is() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("SHARDCTL_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "shard_node"],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "SHARDCTL_ENDPOINT" in done.stderr
    assert "shardctl start main.py" in done.stderr


def test_run_alone_says_so_and_works(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        HEAD + "import shard_node\nassert shard_node.node is None\n"
        "disnake.http.Route.BASE = __import__('os').environ['BASE']\n"
        "bot = commands.InteractionBot()\n\n\n"
        "@bot.event\nasync def on_ready():\n"
        "    print('alone and ready')\n    await bot.close()\n\n\n"
        "@shard_node.once_per_fleet\nasync def tick():\n    return 'ticked'\n\n\n"
        "print(bot.loop.run_until_complete(tick()))\n"
        "shard_node.run(bot)\n"
    )
    with sandbox_process() as info:
        env = {k: v for k, v in os.environ.items() if not k.startswith("SHARDCTL_")}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "main.py"],
            cwd=tmp_path,
            env={
                **env,
                "PYTHONPATH": str(ROOT),
                "BASE": info["rest_url"],
                "DISCORD_TOKEN": info["token"],
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stderr.count("no fleet here, running alone") == 1
    assert "ticked" in done.stdout
    assert "alone and ready" in done.stdout
    assert done.returncode == 0
