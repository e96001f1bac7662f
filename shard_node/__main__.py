"""The process of a node: `python -P -m shard_node`, started by the supervisor."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from shard_node import redact
from shard_node.effects import StopAsked
from shard_node.errors import BotLoadError, BridgeError
from shard_node.failure import told
from shard_node.runtime import Node
from shard_node.settings import TOKEN_ENV, NodeSettings, NotANode, read_settings

EXIT_USAGE = 2
EXIT_CONFIG = 78

_BY_HAND = """\
shard_node: this is the process of one node, which the supervisor starts: {reason}.
  hint: `shardctl start main.py` runs a bot as a fleet, `shardctl dev main.py` as one node.
"""


def main() -> int:
    """Run the bot that the environment names. Returns the process's exit code."""
    try:
        settings = read_settings(os.environ)
    except NotANode as error:
        sys.stderr.write(_BY_HAND.format(reason=error))
        return EXIT_USAGE
    redact.install()
    redact.add_secret(os.environ.get(TOKEN_ENV))
    _log_to_stderr()
    if not settings.folder.is_dir():
        gone = BotLoadError(f"{settings.folder}: no such folder", code="E_BOT_FILE")
        sys.stderr.write(told(gone) + "\n")
        return EXIT_CONFIG
    _enter_folder(settings)
    node = Node(settings)
    _stop_on_signal(node)
    node.start()
    try:
        return _run(node)
    finally:
        _flush_output()
        node.end()


def _run(node: Node) -> int:
    # The bot's folder is on the path by now, as it is for `python main.py`: the disnake that
    # is held is the one that the bot will import. It is checked before the rest of the
    # bridge, whose own imports would fail first.
    from shard_node.bridge import check

    try:
        node.disnake_version = check.check()
    except BridgeError as error:
        sys.stderr.write(told(error) + "\n")
        return EXIT_CONFIG
    from shard_node.bridge import capture, install

    return capture.run(node.settings, install.install(node))


def _enter_folder(settings: NodeSettings) -> None:
    """The author's folder: working folder, first on the path, and its ``.env``."""
    from dotenv import load_dotenv

    os.chdir(settings.folder)
    sys.path.insert(0, str(settings.folder))
    load_dotenv(settings.folder / ".env", override=False)
    redact.add_secret(os.environ.get(TOKEN_ENV))
    if settings.lifeline_fd is not None:
        os.set_inheritable(settings.lifeline_fd, False)
        os.environ.pop("SHARDCTL_LIFELINE_FD", None)


def _stop_on_signal(node: Node) -> None:
    """Until the bot has a loop of its own, a signal ends the process where it stands."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        node.ask_stop(StopAsked(signal.Signals(number).name, None, False))
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _log_to_stderr() -> None:
    """The node's own records, whatever the bot does with the root logger."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("shard_node")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(os.environ.get("SHARDCTL_LOG_LEVEL", "info").upper())


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue


if __name__ == "__main__":
    raise SystemExit(main())
