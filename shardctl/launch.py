"""The launch record of a fleet and how each of its processes is started.

Standard library only: the supervisor runs on it. No argument list and no record ever
holds the token; it travels in the environment alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

RECORD_SCHEMA: Final = 1
API_BASE: Final = "https://discord.com/api/v10"
TOKEN_VARIABLE: Final = "DISCORD_TOKEN"
IDENTIFY_WINDOW_S: Final = 5.0
"""Discord, Gateway, "Sharding: max_concurrency": one IDENTIFY a key in 5 s."""
DRAIN_S: Final = 8.0
"""Handlers get this long at a stop; a container gives 10 s in all."""
STATE_FOLDER: Final = "state"
"""Of the shared state's file, in the data folder."""
JOURNAL_FOLDER: Final = "journal"
"""Of the shards' journals, in the data folder."""
WITNESS_FOLDER: Final = "witness"
"""Of what the sandbox's witnesses saw, in the run folder: it outlives a killed process."""
HANG_S: Final = 15.0
"""A node that hangs for so long is killed."""
RESUME_MAX_S: Final = 600.0
"""A session that nobody had for longer is not RESUMEd (shard_node.wire.lifecycle)."""
LINGER_S: Final = 900.0
"""A process that was replaced answers its buttons for so long."""
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_KEPT_VARIABLES: Final = frozenset({"SHARDCTL_DEBUG"})


class LaunchError(Exception):
    """This installation or this record cannot start a process."""


@dataclass(frozen=True)
class Bot:
    """The author's code. ``target`` is ``main.py``, ``main:bot`` or ``main.py:bot``."""

    folder: str
    target: str
    factory: bool = False
    example: bool = False


@dataclass(frozen=True)
class Sandbox:
    """How the fleet's own Discord is started. ``shards`` is what it recommends."""

    guilds: int = 20
    shards: int = 4
    max_concurrency: int = 1
    seed: int = 1
    identify_window_s: float = IDENTIFY_WINDOW_S
    port: int = 0


@dataclass(frozen=True)
class Record:
    """``fleet.json``: what the supervisor and the broker must know of the fleet.

    ``nodes_max`` is what this machine bears (shardctl.machine), for ``nodes`` "auto".
    ``routes`` are the operator's routing rules (shardctl.routes), ``state`` how long the state's
    log is kept (shardctl.keeping), ``lifecycle`` how long the processes of
    nodes may take, ``balance`` when shards move by themselves (shardctl.lifecycles).
    ``debug``: who asked gets the traceback of what a node's handler raised.
    """

    fleet: str
    endpoint: str
    data_dir: str
    run_dir: str
    bot: Bot
    python: str = sys.executable
    shards: int | str = "auto"
    nodes: int | str = "auto"
    nodes_max: int = 1
    identify_window_s: float = IDENTIFY_WINDOW_S
    drain_s: float = DRAIN_S
    log_level: str = "info"
    debug: bool = False
    sandbox: Sandbox | None = None
    api_base: str = API_BASE
    token_env: str = TOKEN_VARIABLE
    routes: tuple[Mapping[str, Any], ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    lifecycle: Mapping[str, Any] = field(default_factory=dict)
    balance: Mapping[str, Any] = field(default_factory=dict)
    schema: int = RECORD_SCHEMA

    @property
    def logs_dir(self) -> Path:
        return Path(self.data_dir) / "logs"

    @property
    def sandbox_file(self) -> Path:
        return Path(self.run_dir) / "sandbox.json"

    @property
    def sandbox_state_file(self) -> Path:
        return Path(self.run_dir) / "sandbox-state.json"


class Command(NamedTuple):
    """What to execute, in which environment and folder."""

    argv: list[str]
    env: dict[str, str]
    cwd: str


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace ``path`` atomically with ``value`` as JSON, readable by this user alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=1)
            file.write("\n")
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; None where there is none that can be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def save_record(record: Record, path: Path) -> None:
    """Write the launch record."""
    write_json(path, dataclasses.asdict(record))


def load_record(path: Path) -> Record:
    """The launch record in ``path``. Raises LaunchError for anything but a whole one."""
    value = read_json(path)
    if value is None:
        msg = f"{path} holds no launch record; `shardctl start` writes it"
        raise LaunchError(msg)
    if value.get("schema") != RECORD_SCHEMA:
        msg = f"{path} has schema {value.get('schema')!r}; this version reads {RECORD_SCHEMA}"
        raise LaunchError(msg)
    try:
        bot = Bot(**value.pop("bot"))
        sandbox = value.pop("sandbox", None)
        value["routes"] = tuple(value.get("routes", ()))
        return Record(bot=bot, sandbox=Sandbox(**sandbox) if sandbox else None, **value)
    except (KeyError, TypeError) as error:
        msg = f"{path} is not a whole launch record: {error}"
        raise LaunchError(msg) from None


def daemon_folder() -> Path:
    """The folder that holds ``broker`` and ``store``: in a wheel or in a checkout.

    Raises LaunchError where this installation has neither.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_daemon", package.parent):
        if (folder / "broker" / "__init__.py").is_file():
            return folder
    msg = f"no broker in {package / '_daemon'} nor in {package.parent}: install shardctl again"
    raise LaunchError(msg)


def example_bot() -> Bot:
    """The bot that runs on the sandbox when none is named."""
    spec = importlib.util.find_spec("shard_node")
    if spec is None or not spec.submodule_search_locations:
        raise LaunchError("the package shard_node is not installed beside shardctl")
    folder = Path(spec.submodule_search_locations[0]) / "examples"
    return Bot(str(folder), "bot.py", example=True)


def broker_command(
    record: Record, record_file: Path, info: Mapping[str, Any] | None, environ: Mapping[str, str]
) -> Command:
    """The daemon: its own folder on the path, no PYTHON* variable, ``/`` as folder."""
    folder = str(daemon_folder())
    bootstrap = (
        "import runpy, sys; "
        f"sys.path.insert(0, {folder!r}); "
        "runpy.run_module('broker', run_name='__main__', alter_sys=True)"
    )
    env = {key: value for key, value in _inherited(environ).items() if not _is_python(key)}
    env["SHARDCTL_FLEET_FILE"] = str(record_file)
    env |= _discord(record, info, environ)
    return Command([record.python, "-P", "-c", bootstrap], env, "/")


def node_command(
    record: Record,
    spec: Mapping[str, Any],
    info: Mapping[str, Any] | None,
    environ: Mapping[str, str],
) -> Command:
    """A bot's process. ``spec`` is the broker's ``spawn`` line (name ``node:a``, epoch,
    index, shards, num_shards, role); ``info`` what the sandbox wrote, if there is one."""
    name = str(spec["name"]).removeprefix("node:")
    env = _inherited(environ)
    env.pop("PYTHONSAFEPATH", None)
    env |= _discord(record, info, environ)
    env |= {
        "SHARDCTL_FLEET": record.fleet,
        "SHARDCTL_ENDPOINT": record.endpoint,
        "SHARDCTL_NODE": name,
        "SHARDCTL_NODE_INDEX": str(spec["index"]),
        "SHARDCTL_EPOCH": str(spec["epoch"]),
        "SHARDCTL_SHARDS": ",".join(map(str, spec["shards"])),
        "SHARDCTL_NUM_SHARDS": str(spec["num_shards"]),
        "SHARDCTL_BOT_FOLDER": record.bot.folder,
        "SHARDCTL_BOT_TARGET": record.bot.target,
        "SHARDCTL_BOT_FACTORY": str(int(record.bot.factory)),
        "SHARDCTL_DRAIN_S": str(record.drain_s),
        "SHARDCTL_SANDBOX": str(int(info is not None)),
        "SHARDCTL_DEBUG": str(int(record.debug)),
        "SHARDCTL_DEAF": str(int(record.lifecycle.get("deaf", True))),
        "SHARDCTL_HANG_S": str(record.lifecycle.get("hang_s", HANG_S)),
        "SHARDCTL_RESUME_MAX_S": str(record.lifecycle.get("resume_max_s", RESUME_MAX_S)),
        "SHARDCTL_LINGER_S": str(record.lifecycle.get("linger_s", LINGER_S)),
        "SHARDCTL_ROLE": str(spec.get("role", "first")),
        "SHARDCTL_STATE_DIR": str(Path(record.data_dir) / STATE_FOLDER),
        "SHARDCTL_JOURNAL_DIR": str(Path(record.data_dir) / JOURNAL_FOLDER),
    }
    # The last words of a bot that dies must be in its log.
    env.setdefault("PYTHONUNBUFFERED", "1")
    if info is not None:
        env["SHARDCTL_WITNESS_URL"] = str(info["witness_url"])
        env["SHARDCTL_WITNESS_DIR"] = str(Path(record.run_dir) / WITNESS_FOLDER)
    return Command([record.python, "-P", "-m", "shard_node"], env, record.bot.folder)


def sandbox_command(record: Record, environ: Mapping[str, str], port: int = 0) -> Command:
    """The fleet's own Discord. ``port`` 0 lets the system choose."""
    assert record.sandbox is not None
    sizes = dataclasses.asdict(record.sandbox) | {"port": port or record.sandbox.port}
    argv = [record.python, "-P", "-m", "shard_node.sandbox"]
    for key, value in sizes.items():
        argv += [f"--{key.replace('_', '-')}", str(value)]
    argv += ["--info-file", str(record.sandbox_file)]
    argv += ["--state-file", str(record.sandbox_state_file)]
    env = _inherited(environ)
    for name in (TOKEN_VARIABLE, record.token_env):
        env.pop(name, None)
    return Command(argv, env, "/")


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's environment without our own options: they mean other things in there."""
    return {
        key: value
        for key, value in environ.items()
        if not key.startswith("SHARDCTL_") or key in _KEPT_VARIABLES
    }


def _is_python(key: str) -> bool:
    return key.startswith("PYTHON")


def _discord(
    record: Record, info: Mapping[str, Any] | None, environ: Mapping[str, str]
) -> dict[str, str]:
    """Where Discord is, and the token for it: the sandbox's own where there is one."""
    token = environ.get(TOKEN_VARIABLE, "") if info is None else str(info["token"])
    api_base = record.api_base if info is None else str(info["rest_url"])
    return {TOKEN_VARIABLE: token, record.token_env: token, "SHARDCTL_API_BASE": api_base}
