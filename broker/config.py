"""The launch record and the environment, read once into one frozen value."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from broker.core.balance import EVERY_MIN_S as BALANCE_EVERY_MIN_S
from broker.core.balance import Balancing
from broker.core.keeping import Keeping
from broker.core.limits import LifecycleLimits
from broker.core.rules import NOBODY, POOL, Rule
from broker.core.settings import Settings
from broker.errors import ByHand, ConfigError
from shard_node.journal import found
from shard_node.wire.identity import application_key, is_node_name
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import ROUTES_MAX, SHARDS_MAX, TOPIC_MAX_CHARS
from shard_node.wire.memory import available_bytes

RECORD_SCHEMA: Final = 1
NODES_MAX: Final = 4096
API_BASE: Final = "https://discord.com/api/v10"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
ROUTE_FORM: Final = (
    'each must be {"category": NAME, "to": [NODE, ...] | "pool:NAME" | "nobody", '
    '"lane": "control" | "high" | "normal" | "low"}'
)
STATE_FORM: Final = (
    "no number in it may be negative, backups must be 1 or more, and folder an absolute path"
)
LIFECYCLE_FORM: Final = "hang_s must be more than lag_s, and lag_s more than 0"
TIMES_FORM: Final = "ready_s and release_s must be more than 0, linger_s and resume_max_s not less"
BALANCE_FORM: Final = f"every_s must be {BALANCE_EVERY_MIN_S:g} seconds or more"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_KEPT: Final = Keeping()
_LIMITS: Final = LifecycleLimits()
_BALANCING: Final = Balancing()
_KEY: Final = re.compile(r"`\$\.([^`]*)`")


class RouteEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A routing rule: ``to`` is a list of nodes, ``pool:NAME`` or ``nobody``."""

    category: str
    to: list[str] | str | None = None
    lane: str | None = None


class StateEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the state's log is kept, and backed up: ``broker.core.keeping.Keeping``."""

    log_ms: int = _KEPT.log_ms
    records: int = _KEPT.records
    backup_every_s: float = _KEPT.backup_every_s
    backups: int = _KEPT.backups
    folder: str = ""


class LifecycleEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long processes may take: ``broker.core.limits.LifecycleLimits``."""

    hang_s: float = _LIMITS.hang_s
    lag_s: float = _LIMITS.lag_s
    ready_s: float = _LIMITS.ready_s
    release_s: float = _LIMITS.release_s
    linger_s: float = _LIMITS.linger_s
    resume_max_s: float = _LIMITS.resume_max_s
    survivors: Literal["auto", "always", "never"] = "auto"
    deaf: bool = True
    """The nodes' matter."""


class BalanceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether shards move by themselves, and how often: ``broker.core.balance.Balancing``."""

    auto: bool = _BALANCING.auto
    every_s: float = _BALANCING.every_s


class LaunchRecord(msgspec.Struct, frozen=True):
    """`fleet.json`, as far as the broker reads it. Unknown keys are let be."""

    schema: int
    fleet: str
    endpoint: str
    data_dir: str
    run_dir: str
    shards: int | str = "auto"
    nodes: int | str = "auto"
    nodes_max: int | None = None
    identify_window_s: float = 5.0
    drain_s: float = 8.0
    log_level: str = "info"
    sandbox: dict[str, Any] | None = None
    api_base: str = API_BASE
    token_env: str = "DISCORD_TOKEN"
    routes: list[RouteEntry] = []
    state: StateEntry = StateEntry()
    lifecycle: LifecycleEntry = LifecycleEntry()
    balance: BalanceEntry = BalanceEntry()


@dataclass(frozen=True)
class Config:
    """All that the daemon is told. ``token`` is never printed.

    ``supervisor_fd`` carries JSON lines both ways; end of file on ``lifeline_fd`` means that
    the supervisor is dead.
    """

    record: LaunchRecord
    token: str = field(repr=False)
    api_base: str
    supervisor_fd: int
    lifeline_fd: int | None

    @property
    def data_dir(self) -> Path:
        """The fleet's data folder."""
        return Path(self.record.data_dir)

    def settings(self) -> Settings:
        """What the pure core needs of it."""
        record = self.record
        boot_id = _boot_id()
        application = application_key(self.api_base, self.token)
        folder = self.data_dir / found.FOLDER
        return Settings(
            fleet=record.fleet,
            application=application,
            boot_id=boot_id,
            broker_pid=os.getpid(),
            shards=_count(record.shards),
            nodes=_count(record.nodes),
            nodes_max=record.nodes_max or max(1, _cores() - 1),
            sandbox=record.sandbox is not None,
            identify_window_s=_window_s(record),
            drain_s=record.drain_s,
            routes=tuple(_rule(entry) for entry in record.routes),
            keeping=Keeping(**msgspec.structs.asdict(record.state)),
            lifecycle=_limits(record.lifecycle),
            balancing=Balancing(record.balance.auto, record.balance.every_s),
            seed=int.from_bytes(os.urandom(8), "big"),
            incarnation=max(1, int(time.time())),
            memory=available_bytes,
            journals=partial(
                found.resumable, folder, boot_id, application, record.lifecycle.resume_max_s
            ),
        )


def read_config(environ: Mapping[str, str]) -> Config:
    """The config in the environment and the file that it names.

    Raises ByHand where the environment is not a supervisor's, ConfigError for bad content.
    """
    file, supervisor = environ.get("SHARDCTL_FLEET_FILE"), environ.get("SHARDCTL_SUPERVISOR_FD")
    if not file or not supervisor:
        text = "the broker is started by the supervisor, not by hand"
        raise ByHand(text, "run: shardctl start")
    record = read_record(Path(file))
    token = environ.get("DISCORD_TOKEN") or environ.get(record.token_env) or ""
    if not token:
        text = f"no token: the environment variable {record.token_env} is not set"
        raise ConfigError(text, f"set {record.token_env}, or write it to .env in the bot's folder")
    return Config(
        record=record,
        token=token,
        api_base=(environ.get("SHARDCTL_API_BASE") or record.api_base).rstrip("/"),
        supervisor_fd=_descriptor("SHARDCTL_SUPERVISOR_FD", supervisor),
        lifeline_fd=_optional_descriptor(environ),
    )


def read_record(path: Path) -> LaunchRecord:
    """The launch record in ``path``. Raises ConfigError with the file and the key."""
    hint = "run: shardctl start   (it writes the file anew)"
    try:
        record = msgspec.json.decode(path.read_bytes(), type=LaunchRecord)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint) from error
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: {_where(error)}", hint) from None
    problem = _problem(record)
    if problem:
        raise ConfigError(f"{path}: {problem}", hint)
    return record


def _problem(record: LaunchRecord) -> str:
    checks = (
        (record.schema == RECORD_SCHEMA, "schema", f"must be {RECORD_SCHEMA}"),
        (_is_count(record.shards, SHARDS_MAX), "shards", f'must be "auto" or 1-{SHARDS_MAX}'),
        (_is_count(record.nodes, NODES_MAX), "nodes", f'must be "auto" or 1-{NODES_MAX}'),
        ((record.nodes_max or 1) >= 1, "nodes_max", "must be a number from 1"),
        (0 < record.identify_window_s <= 3600, "identify_window_s", "must be 0-3600 seconds"),
        (0 <= record.drain_s <= 3600, "drain_s", "must be 0-3600 seconds"),
        (record.log_level in LOG_LEVELS, "log_level", f"must be one of {', '.join(LOG_LEVELS)}"),
        (len(record.routes) <= ROUTES_MAX, "routes", f"must be at most {ROUTES_MAX} rules"),
        (all(map(_is_rule, record.routes)), "routes", ROUTE_FORM),
        (_is_kept(record.state), "state", STATE_FORM),
        (0 < record.lifecycle.lag_s < record.lifecycle.hang_s, "lifecycle", LIFECYCLE_FORM),
        (_are_times(record.lifecycle), "lifecycle", TIMES_FORM),
        (record.balance.every_s >= BALANCE_EVERY_MIN_S, "balance", BALANCE_FORM),
        (record.endpoint.startswith("ipc://"), "endpoint", "must begin with ipc://"),
        (record.data_dir.startswith("/"), "data_dir", "must be an absolute path"),
        (record.run_dir.startswith("/"), "run_dir", "must be an absolute path"),
        (bool(record.fleet), "fleet", "must not be empty"),
        (record.api_base.startswith(("http://", "https://")), "api_base", "must be an http(s) URL"),
    )
    return next((f"key {key}: {rule}" for good, key, rule in checks if not good), "")


def _is_rule(entry: RouteEntry) -> bool:
    """Whether a rule can be followed."""
    to = entry.to
    if isinstance(to, str):
        good = to == NOBODY or (to.startswith(POOL) and is_node_name(to.removeprefix(POOL)))
    else:
        good = to is None or (bool(to) and all(map(is_node_name, to)))
    lanes = {lane.name.lower() for lane in Lane}
    return good and 0 < len(entry.category) <= TOPIC_MAX_CHARS and entry.lane in {None, *lanes}


def _is_kept(entry: StateEntry) -> bool:
    whole = min(entry.log_ms, entry.records, entry.backup_every_s) >= 0
    return whole and entry.backups >= 1 and entry.folder[:1] in ("", "/")


def _are_times(entry: LifecycleEntry) -> bool:
    return min(entry.ready_s, entry.release_s) > 0 <= min(entry.linger_s, entry.resume_max_s)


def _limits(entry: LifecycleEntry) -> LifecycleLimits:
    """A process that may take longer to be warm than others at most, may take that at most."""
    times = {key: value for key, value in msgspec.structs.asdict(entry).items() if key != "deaf"}
    found = LifecycleLimits(**times)
    return dataclasses.replace(found, ready_max_s=max(found.ready_s, found.ready_max_s))


def _rule(entry: RouteEntry) -> Rule:
    lane = Lane[entry.lane.upper()] if entry.lane is not None else None
    to = entry.to
    if not isinstance(to, str):
        return Rule(entry.category, tuple(to) if to is not None else None, "", lane)
    if to == NOBODY:
        return Rule(entry.category, (), "", lane)
    return Rule(entry.category, None, to.removeprefix(POOL), lane)


def _where(error: Exception) -> str:
    """msgspec names the key as a path, ``$.drain_s``; people want the key."""
    text = str(error)
    found = _KEY.search(text)
    return f"key {found[1]}: {text.partition(' - at')[0]}" if found else text


def _is_count(value: int | str, most: int) -> bool:
    return value == "auto" or (isinstance(value, int) and 1 <= value <= most)


def _count(value: int | str) -> int | None:
    return value if isinstance(value, int) else None


def _window_s(record: LaunchRecord) -> float:
    """The sandbox may have a shorter window of its own."""
    own = (record.sandbox or {}).get("identify_window_s")
    return float(own) if isinstance(own, int | float) else record.identify_window_s


def _descriptor(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{name}={text!r} is no file descriptor", "run: shardctl start")
    try:
        os.fstat(int(text))
    except OSError as error:
        raise ByHand(f"{name}={text} is not open", "run: shardctl start") from error
    return int(text)


def _optional_descriptor(environ: Mapping[str, str]) -> int | None:
    text = environ.get("SHARDCTL_LIFELINE_FD")
    return _descriptor("SHARDCTL_LIFELINE_FD", text) if text else None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _boot_id() -> str:
    """What changes with each boot; where the system has none, no time outlives the daemon."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return f"process-{os.getpid()}"
