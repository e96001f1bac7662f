"""``python -m shard_node.sandbox``: one sandbox in the foreground, for any library's bot.

It stops on SIGTERM or SIGINT, and when the pipe in ``SHARDCTL_LIFELINE_FD`` ends because the
process that started it is gone. Exit codes: 0 stopped, 1 cannot listen, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

from shard_node.sandbox.config import HOST, ConfigError, SandboxConfig
from shard_node.sandbox.keeping import StateFile
from shard_node.sandbox.server import PortInUse, SandboxServer, write_info

PROGRAM: Final = "python -m shard_node.sandbox"
LIFELINE: Final = "SHARDCTL_LIFELINE_FD"
LIFELINE_READ_BYTES: Final = 1_024

_HELP: Final = {
    "port": "port on 127.0.0.1; 0 takes a free one",
    "guilds": "guilds that the bot is in",
    "shards": "shard count that /gateway/bot recommends",
    "max_concurrency": "rate-limit keys for IDENTIFY",
    "seed": "seed of everything that is made up",
    "members_per_guild": "mean number of members in a guild",
    "identify_window_s": "seconds between two IDENTIFYs of one key",
    "heartbeat_interval_ms": "what HELLO asks for",
    "session_ttl_s": "seconds that a session without a connection can be resumed",
    "replay_events_max": "dispatches that a RESUME can bring back",
    "session_starts_total": "daily IDENTIFY budget",
    "session_starts_remaining": "what is left of the budget at the start",
    "disallowed_intents": "intent bits that are refused with close code 4014",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="A stand-in for Discord on 127.0.0.1: gateway and REST, API v10."
    )
    defaults = SandboxConfig()
    for field in fields(SandboxConfig):
        if field.name in _HELP:
            default = getattr(defaults, field.name)
            parser.add_argument(
                "--" + field.name.replace("_", "-"),
                type=float if isinstance(default, float) else int,
                default=default,
                help=f"{_HELP[field.name]} (default: {default})",
            )
    parser.add_argument(
        "--info-file", type=Path, help="write URLs and token to this file, mode 0600"
    )
    parser.add_argument(
        "--state-file",
        type=Path,
        help="keep the application's commands in this file: a killed sandbox finds them again",
    )
    # What the hints name: `shardctl sandbox run` becomes this program.
    parser.add_argument("--program", default=PROGRAM, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one sandbox until it is told to stop; the exit code."""
    parser = _parser()
    options = vars(parser.parse_args(argv))
    info_file, program = options.pop("info_file"), options.pop("program")
    state_file = options.pop("state_file")
    try:
        config = SandboxConfig(**options)
    except ConfigError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(config, info_file, state_file))
    except PortInUse:
        return _fail(
            "E_PORT",
            f"port {config.port} on {HOST} is in use; the sandbox did not start",
            f"{program} --port 0    (takes any free one)",
        )
    except PermissionError as error:
        return _fail(
            "E_PERMISSION",
            f"no permission: {error}; the sandbox did not start",
            f"{program} --port 0    (takes any free one; ports below 1024 are root's)",
        )
    except OSError as error:
        return _fail("E_SANDBOX", f"the sandbox cannot start: {error}", f"{program} --port 0")
    for path in (info_file, state_file):
        if path is not None:
            path.unlink(missing_ok=True)
    return 0


def _fail(code: str, what: str, hint: str) -> int:
    print(f"error[{code}]: {what}.\n  hint: {hint}", file=sys.stderr)
    return 1


async def _serve(config: SandboxConfig, info_file: Path | None, state_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _watch_lifeline(loop, stop)
    server = SandboxServer(config)
    if state_file is not None:
        StateFile(state_file, server.state.memory.registry).open()
    async with server:
        if info_file is not None:
            await write_info(server.state, info_file)
        print(_greeting(server, info_file), flush=True)
        await stop.wait()


def _greeting(server: SandboxServer, info_file: Path | None) -> str:
    """One line for people; with an info file the token stays in it, for stdout may be a log."""
    state = server.state
    token = f"token {state.world.token}" if info_file is None else f"token in {info_file}"
    return (
        f"sandbox: {state.rest_url}, gateway {state.gateway_url}, {len(state.world)} guilds, "
        f"{state.recommended_shards} shards, {token}"
    )


def _watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop when the other end of the lifeline is closed: whoever started this is gone."""
    number = os.environ.get(LIFELINE)
    if number is None or not number.isdecimal():
        return
    lifeline = int(number)

    def readable() -> None:
        try:
            ended = not os.read(lifeline, LIFELINE_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            loop.remove_reader(lifeline)
            stop.set()

    try:
        loop.add_reader(lifeline, readable)
    except (OSError, ValueError) as error:
        print(f"sandbox: {LIFELINE}={number} is no pipe ({error}); not watched", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
