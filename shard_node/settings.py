"""What the supervisor tells a node through the environment, read once into one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shard_node.wire.identity import is_node_name
from shard_node.wire.lifecycle import RESUME_MAX_S
from shard_node.wire.limits import HEARTBEAT_LOST_S, SHARDS_MAX
from shard_node.wire.lingering import LINGER_MAX_S

TOKEN_ENV = "DISCORD_TOKEN"
_PREFIX = "SHARDCTL_"
_NEEDED = ("ENDPOINT", "NODE", "EPOCH", "NUM_SHARDS", "BOT_FOLDER", "BOT_TARGET")
FIRST, SUCCESSOR = "first", "successor"
DRAIN_DEFAULT_S = 8.0


class NotANode(Exception):
    """The environment is not that of a node. The message names the variable."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A node's settings. ``drain_s`` bounds how long handlers may run on after a stop;
    ``debug``: who asked gets the traceback of what a handler raised."""

    fleet: str
    endpoint: str
    name: str
    index: int
    epoch: int
    shards: tuple[int, ...]
    num_shards: int
    folder: Path
    target: str
    factory: bool
    api_base: str
    sandbox: bool
    witness_url: str
    drain_s: float
    lifeline_fd: int | None
    debug: bool = False
    state_dir: Path | None = None
    """The folder of the shared state's file."""
    hang_s: float = HEARTBEAT_LOST_S
    """An event loop that does not turn for so long makes the broker kill the node."""
    journal_dir: Path | None = None
    """The folder of the shards' journals; None: none is written, each start IDENTIFYs."""
    resume_max_s: float = RESUME_MAX_S
    witness_dir: Path | None = None
    """Where the sandbox's witness keeps what it saw."""
    deaf: bool = True
    """Whether shards that hear nothing are looked for, and connected again."""
    linger_s: float = LINGER_MAX_S
    """How long the process may answer its buttons once another one has its shards."""
    role: str = FIRST
    """FIRST takes its shards as soon as nobody has them; SUCCESSOR has a living predecessor, and
    takes them when it is told to."""


def read_settings(env: Mapping[str, str]) -> NodeSettings:
    """The settings in ``env``. Raises NotANode for a variable that is missing or wrong."""
    missing = [_PREFIX + name for name in _NEEDED if not env.get(_PREFIX + name)]
    if "SHARDCTL_SHARDS" not in env:
        missing.append("SHARDCTL_SHARDS")
    if missing:
        raise NotANode(f"{', '.join(missing)} not set")
    name = env["SHARDCTL_NODE"]
    if not is_node_name(name):
        raise NotANode(f"SHARDCTL_NODE={name!r} is no node name")
    num_shards = _number(env, "NUM_SHARDS", minimum=1, maximum=SHARDS_MAX)
    lifeline = _number(env, "LIFELINE_FD", default=-1)
    return NodeSettings(
        fleet=env.get("SHARDCTL_FLEET", ""),
        endpoint=env["SHARDCTL_ENDPOINT"],
        name=name,
        index=_number(env, "NODE_INDEX", default=0),
        epoch=_number(env, "EPOCH"),
        shards=_shards(env["SHARDCTL_SHARDS"], num_shards),
        num_shards=num_shards,
        folder=Path(env["SHARDCTL_BOT_FOLDER"]),
        target=env["SHARDCTL_BOT_TARGET"],
        factory=_flag(env, "BOT_FACTORY"),
        api_base=env.get("SHARDCTL_API_BASE", "").rstrip("/"),
        sandbox=_flag(env, "SANDBOX"),
        witness_url=env.get("SHARDCTL_WITNESS_URL", ""),
        drain_s=_seconds(env, "DRAIN_S", DRAIN_DEFAULT_S),
        lifeline_fd=None if lifeline < 0 else lifeline,
        debug=_flag(env, "DEBUG"),
        hang_s=_seconds(env, "HANG_S", HEARTBEAT_LOST_S),
        state_dir=_folder(env, "STATE_DIR"),
        journal_dir=_folder(env, "JOURNAL_DIR"),
        deaf=_flag(env, "DEAF", "1"),
        resume_max_s=_seconds(env, "RESUME_MAX_S", RESUME_MAX_S),
        witness_dir=_folder(env, "WITNESS_DIR"),
        linger_s=_seconds(env, "LINGER_S", LINGER_MAX_S),
        role=_role(env),
    )


def _role(env: Mapping[str, str]) -> str:
    role = env.get("SHARDCTL_ROLE", FIRST)
    if role not in (FIRST, SUCCESSOR):
        raise NotANode(f"SHARDCTL_ROLE={role!r} is neither {FIRST} nor {SUCCESSOR}")
    return role


def _flag(env: Mapping[str, str], name: str, default: str = "0") -> bool:
    return env.get(_PREFIX + name, default) == "1"


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(_PREFIX + name)
    return Path(text) if text else None


def _number(
    env: Mapping[str, str],
    name: str,
    *,
    default: int = 0,
    minimum: int = 0,
    maximum: int | None = None,
) -> int:
    text = env.get(_PREFIX + name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) < minimum or (maximum and int(text) > maximum):
        raise NotANode(f"{_PREFIX}{name}={text!r} is no number from {minimum}")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(_PREFIX + name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise NotANode(f"{_PREFIX}{name}={text!r} is no time in seconds")
    return value


def _shards(text: str, num_shards: int) -> tuple[int, ...]:
    """Empty: a node that waits for shards of others."""
    parts = text.split(",") if text else []
    if not all(part.isdecimal() and int(part) < num_shards for part in parts):
        raise NotANode(f"SHARDCTL_SHARDS={text!r} is no list of shards below {num_shards}")
    return tuple(dict.fromkeys(int(part) for part in parts))
