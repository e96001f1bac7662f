"""Where the broker of a fleet listens, by the rules of the command line (shardctl.paths)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from shard_node.errors import BrokerUnavailable

SOCKET_PATH_MAX_BYTES: Final = 107 if sys.platform == "linux" else 103
"""``sun_path`` of unix(7) is 108 bytes with its NUL (104 on macOS)."""
_SOCKET_NAME: Final = "broker.sock"
_NOTE_NAME: Final = "supervisor.json"
_STATE_NAME: Final = "state"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME_MAX_CHARS: Final = 64
_NAME_RULE: Final = "a-z 0-9 _ -, a letter or digit first"
_SLUG_MAX_CHARS: Final = 40
_HASH_CHARS: Final = 6
_SHORT_HASH_CHARS: Final = 12


def find_endpoint(
    environ: Mapping[str, str] = os.environ, folder: Path | None = None, fleet: str = ""
) -> str:
    """The endpoint of the fleet meant: ``fleet``, else SHARDCTL_ENDPOINT, else the fleet
    SHARDCTL_FLEET, else the one that the settings in ``folder`` (the working folder) name,
    else that of a bot in it.

    Raises BrokerUnavailable where the folder's fleet was not started, for settings that
    cannot be read and for a name that no fleet can have.
    """
    endpoint = environ.get("SHARDCTL_ENDPOINT", "")
    if endpoint and not fleet:
        return endpoint
    fleet = fleet or environ.get("SHARDCTL_FLEET", "")
    if fleet:
        return running_endpoint(fleet, environ)
    here = _here() if folder is None else folder.resolve()
    endpoint = running_endpoint(_configured(here) or fleet_name(here), environ)
    if not Path(endpoint.removeprefix("ipc://")).exists():
        raise BrokerUnavailable(
            f"no fleet runs from {here}",
            hint="set SHARDCTL_FLEET to the fleet's name (`shardctl status` prints it), "
            "or pass connect(fleet=...) or connect(endpoint=...)",
        )
    return endpoint


def find_state(
    endpoint: str, environ: Mapping[str, str] = os.environ, fleet: str = ""
) -> Path | None:
    """The folder of the shared state's file of the fleet at ``endpoint``; None where it is
    not known: the state is then read through the broker."""
    given = environ.get("SHARDCTL_STATE_DIR", "")
    if given and not fleet:
        return Path(given)
    run_dir = str(Path(endpoint.removeprefix("ipc://")).parent)
    for record_file in sorted(_data_root(environ).glob(f"{fleet or '*'}/fleet.json")):
        record = _json(record_file)
        if record.get("run_dir") == run_dir and (record_file.parent / _STATE_NAME).is_dir():
            return record_file.parent / _STATE_NAME
    return None


def running_endpoint(fleet: str, environ: Mapping[str, str] = os.environ) -> str:
    """The endpoint of the fleet of this name, in the run folder of its last start where
    something of it is left there: XDG_RUNTIME_DIR is another one by ssh than by cron."""
    endpoint = endpoint_of(fleet, environ)
    run_dir = Path(endpoint.removeprefix("ipc://")).parent
    record = _json(_data_root(environ) / fleet / "fleet.json")
    last = Path(str(record.get("run_dir") or run_dir))
    if last == run_dir or not (last / _NOTE_NAME).is_file() or _lives(run_dir):
        return endpoint
    return f"ipc://{last / _SOCKET_NAME}"


def endpoint_of(fleet: str, environ: Mapping[str, str] = os.environ) -> str:
    """The endpoint of a fleet of this name that is started here and now."""
    if len(fleet) > _NAME_MAX_CHARS or not _NAME.fullmatch(fleet):
        raise BrokerUnavailable(f"{fleet!r} cannot name a fleet", hint=_NAME_RULE, retryable=False)
    wanted = _run_root(environ) / fleet
    if len(os.fsencode(wanted / _SOCKET_NAME)) > SOCKET_PATH_MAX_BYTES:
        wanted = _short_root() / _digest(str(wanted), _SHORT_HASH_CHARS)
    return f"ipc://{wanted / _SOCKET_NAME}"


def fleet_name(folder: Path) -> str:
    """The name of the fleet of a bot in ``folder``."""
    path = folder.resolve()
    slug = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:_SLUG_MAX_CHARS] or "bot"
    return f"{slug}-{_digest(str(path), _HASH_CHARS)}"


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        hint = "set SHARDCTL_FLEET, or pass connect(fleet=...)"
        raise BrokerUnavailable("this folder is gone", hint=hint) from None


def _configured(folder: Path) -> str:
    """The fleet that the settings in a folder name: shardctl.toml, else pyproject.toml."""
    own, project = folder / "shardctl.toml", folder / "pyproject.toml"
    try:
        if own.is_file():
            table = tomllib.loads(own.read_text(encoding="utf-8"))
        else:
            text = project.read_text(encoding="utf-8") if project.is_file() else ""
            tables = tomllib.loads(text) if "shardctl" in text else {}
            table = tables.get("tool", {}).get("shardctl", {})
        name = table.get("fleet", "")
        if not isinstance(name, str):
            raise ValueError(f"fleet = {name!r}")
    except (OSError, ValueError, AttributeError) as error:
        text = f"the settings in {folder} cannot be read: {error}"
        raise BrokerUnavailable(text, hint="mend them", retryable=False) from None
    return name


def _lives(run_dir: Path) -> bool:
    """Whether the supervisor that left its note in a run folder still runs."""
    pid = _json(run_dir / _NOTE_NAME).get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _data_root(environ: Mapping[str, str]) -> Path:
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return state / "shardctl"


def _run_root(environ: Mapping[str, str]) -> Path:
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir() and os.access(runtime, os.W_OK | os.X_OK):
        return runtime / "shardctl"
    return _short_root()


def _short_root() -> Path:
    return Path("/tmp") / f"shardctl-{os.geteuid()}"


def _digest(text: str, chars: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:chars]
