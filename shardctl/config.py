"""Settings from ``shardctl.toml`` or ``[tool.shardctl]`` of ``pyproject.toml``.

Both lie in the bot's folder; with both, ``shardctl.toml`` is read. Flags and SHARDCTL_*
variables come before it. Keys are strict: an unknown one is an error with its line.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from shardctl import keeping, lifecycles
from shardctl.errors import ConfigError
from shardctl.launch import LOG_LEVELS
from shardctl.paths import FLEET_NAME_RULE, is_fleet_name
from shardctl.routes import read_rules

SHARDS_MAX: Final = 65_536
NODES_MAX: Final = 256
DRAIN_MAX_S: Final = 3600.0
FILE_NAME: Final = "shardctl.toml"
_PROJECT_FILE: Final = "pyproject.toml"


class Key(NamedTuple):
    """A key that a file may hold: what is accepted, in words and as a test."""

    allowed: str
    accepts: Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _fleet(value: Any) -> bool:
    return isinstance(value, str) and is_fleet_name(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _between(low: float, high: float, kind: type) -> Callable[[Any], bool]:
    kinds = (int, float) if kind is float else (int,)
    return lambda v: isinstance(v, kinds) and not isinstance(v, bool) and low <= v <= high


def _auto_or(high: int) -> Callable[[Any], bool]:
    whole = _between(1, high, int)
    return lambda v: v == "auto" or whole(v)


KEYS: Final[dict[str, Key]] = {
    "target": Key('a text such as "main.py" or "main:bot"', _text),
    "factory": Key("true or false", _flag),
    "fleet": Key(f"a text of {FLEET_NAME_RULE}", _fleet),
    "shards": Key(f'"auto" or a whole number from 1 to {SHARDS_MAX}', _auto_or(SHARDS_MAX)),
    "nodes": Key(f'"auto" or a whole number from 1 to {NODES_MAX}', _auto_or(NODES_MAX)),
    "token_file": Key("the path of a file that holds the token", _text),
    "token_env": Key("the name of an environment variable", _text),
    "drain_s": Key(f"seconds from 0 to {DRAIN_MAX_S:g}", _between(0, DRAIN_MAX_S, float)),
    "log_level": Key(" or ".join(f'"{level}"' for level in LOG_LEVELS), lambda v: v in LOG_LEVELS),
    "debug": Key("true or false", _flag),
    "sandbox": Key("a table", lambda v: isinstance(v, dict)),
    "routes": Key("tables [[routes]]", lambda v: isinstance(v, list)),
    "state": Key("a table", lambda v: isinstance(v, dict)),
    "lifecycle": Key("a table", lambda v: isinstance(v, dict)),
    "balance": Key("a table", lambda v: isinstance(v, dict)),
}
LIFECYCLE_KEYS: Final[dict[str, Key]] = {
    "deaf": Key("true or false", _flag),
    "hang_s": Key(
        f"seconds from {lifecycles.HANG_MIN_S:g} to {lifecycles.HANG_MAX_S:g}",
        _between(lifecycles.HANG_MIN_S, lifecycles.HANG_MAX_S, float),
    ),
    "lag_s": Key(
        f"seconds from {lifecycles.LAG_MIN_S:g} to less than hang_s",
        _between(lifecycles.LAG_MIN_S, lifecycles.HANG_MAX_S, float),
    ),
    "ready_s": Key(
        f"seconds from {lifecycles.READY_MIN_S:g} to {lifecycles.READY_MAX_S:g}",
        _between(lifecycles.READY_MIN_S, lifecycles.READY_MAX_S, float),
    ),
    "release_s": Key(
        f"seconds from {lifecycles.RELEASE_MIN_S:g} to {lifecycles.RELEASE_MAX_S:g}",
        _between(lifecycles.RELEASE_MIN_S, lifecycles.RELEASE_MAX_S, float),
    ),
    "linger": Key('a length up to "1h", such as "15m", or "never"', lifecycles.is_linger),
    "survivors": Key('"auto", "always" or "never"', lambda v: v in lifecycles.SURVIVORS),
    "resume_max": Key('a length up to "1h", such as "10m", or "never"', lifecycles.is_resume_max),
}
BALANCE_KEYS: Final[dict[str, Key]] = {
    "auto": Key("true or false", _flag),
    "every": Key('a length from "1m", such as "10m"', lifecycles.is_every),
}
STATE_KEYS: Final[dict[str, Key]] = {
    "keep_log": Key('a length such as "90d", or "forever"', keeping.is_age),
    "keep_records": Key(
        f"a whole number from {keeping.RECORDS_MIN}, or 0 for any number", keeping.is_count
    ),
    "backup_every": Key('a length from "1m", such as "24h", or "never"', keeping.is_interval),
    "backups": Key(
        f"a whole number from 1 to {keeping.BACKUPS_MAX}", _between(1, keeping.BACKUPS_MAX, int)
    ),
    "backup_folder": Key("the path of a folder", _text),
}
SANDBOX_KEYS: Final[dict[str, Key]] = {
    "guilds": Key("a whole number from 0 to 1000000", _between(0, 1_000_000, int)),
    "shards": Key("a whole number from 1 to 16384", _between(1, 16_384, int)),
    "max_concurrency": Key("a whole number from 1 to 16384", _between(1, 16_384, int)),
    "seed": Key("a whole number from 0", _between(0, 2**63 - 1, int)),
    "identify_window_s": Key("seconds from 0 to 3600", _between(0, 3600, float)),
    "port": Key("a whole number from 0 to 65535", _between(0, 65_535, int)),
}


@dataclass(frozen=True)
class FileConfig:
    """What a file says. ``sandbox``, ``state``, ``lifecycle`` and ``balance`` hold the keys of
    their sub-tables, ``routes`` the rules as the launch record has them. ``path``: which file."""

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    routes: tuple[Mapping[str, Any], ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict)
    lifecycle: Mapping[str, Any] = field(default_factory=dict)
    balance: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """The value of a key of the table; None where the file has none."""
        return self.values.get(key)


def load(folder: Path) -> FileConfig:
    """The settings in ``folder``; empty where no file has any.

    Raises ConfigError with file, line, key and what is allowed.
    """
    own, project = folder / FILE_NAME, folder / _PROJECT_FILE
    if own.is_file():
        text = _read(own)
        return _checked(own, text, _parse(own, text), ())
    if project.is_file():
        text = _read(project)
        if "shardctl" in text:
            table = _parse(project, text).get("tool", {}).get("shardctl")
            if table is not None:
                return _checked(project, text, table, ("tool", "shardctl"))
        else:
            _warn_of_broken(project, text)
    return FileConfig()


def _warn_of_broken(project: Path, text: str) -> None:
    """A project file without our name in it is another tool's matter, but is worth a word."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        print(f"warning: {project} is not TOML: {error}; it is not read", file=sys.stderr)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}.", consequence="Nothing was done."
        ) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not TOML: {error}.",
            consequence="Nothing was done.",
            hint=_toml_hint(str(error)),
        ) from None


def _toml_hint(error: str) -> str:
    if "overwrite" in error or "twice" in error:
        return "each key and each table stands once"
    return 'texts stand in quotes: shards = 4, target = "main.py"'


def _checked(path: Path, text: str, table: Any, under: tuple[str, ...]) -> FileConfig:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [{'.'.join(under)}] must be a table.")
    _check(path, text, table, KEYS, under)
    sandbox = table.get("sandbox", {})
    _check(path, text, sandbox, SANDBOX_KEYS, (*under, "sandbox"))
    state = table.get("state", {})
    _check(path, text, state, STATE_KEYS, (*under, "state"))
    lifecycle = table.get("lifecycle", {})
    _check(path, text, lifecycle, LIFECYCLE_KEYS, (*under, "lifecycle"))
    problem = lifecycles.problem(lifecycle)
    if problem:
        where = f"{path}:{find_line(text, (*under, 'lifecycle'))}"
        raise ConfigError(
            f"{where}: [lifecycle] {problem}.",
            consequence="A loop is called degraded before it is called hung. Nothing was done.",
        )
    balance = table.get("balance", {})
    _check(path, text, balance, BALANCE_KEYS, (*under, "balance"))
    rules = read_rules(path, text, table.get("routes", []), under)
    tables = ("sandbox", "routes", "state", "lifecycle", "balance")
    values = {k: v for k, v in table.items() if k not in tables}
    return FileConfig(path, values, sandbox, rules, state, lifecycle, balance)


def _check(
    path: Path,
    text: str,
    table: Mapping[str, Any],
    keys: Mapping[str, Key],
    under: tuple[str, ...],
) -> None:
    for name, value in table.items():
        where = f"{path}:{find_line(text, (*under, name))}"
        key = keys.get(name)
        if key is None:
            raise _unknown(where, name, keys)
        if not key.accepts(value):
            raise ConfigError(
                f"{where}: {name} = {_as_toml(value)} is not allowed.",
                consequence=f"Allowed: {key.allowed}. Nothing was done.",
            )


def _as_toml(value: Any) -> str:
    """The value as the file's author wrote it, or nearly."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _unknown(where: str, name: str, keys: Mapping[str, Key]) -> ConfigError:
    if name in ("token", "discord_token"):
        return ConfigError(
            f"{where}: {name} is not allowed: a token does not belong in a file of settings.",
            consequence="Nothing was done.",
            hint='token_file = "path of a file of its own", or DISCORD_TOKEN in .env',
        )
    near = difflib.get_close_matches(name, keys, n=1)
    return ConfigError(
        f"{where}: unknown key {name!r}.",
        consequence=f"Allowed: {', '.join(keys)}. Nothing was done.",
        hint=f"did you mean {near[0]!r}?" if near else "",
    )


_HEADER: Final = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_ASSIGNMENT: Final = re.compile(r"^\s*([A-Za-z0-9_\-.\"' ]+?)\s*=")


def find_line(text: str, path: tuple[str, ...]) -> int:
    """The line, from 1, that sets the dotted ``path``; 1 where it is written otherwise."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _dotted(header[1])
            if table[: len(path)] == path:
                return number
        elif assignment := _ASSIGNMENT.match(line):
            key = (*table, *_dotted(assignment[1]))
            if key[: len(path)] == path or (len(key) < len(path) and path[: len(key)] == key):
                return number
    return 1


def _dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
