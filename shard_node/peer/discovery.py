"""Where the broker of a fleet listens, by the rules of the command line (shardctl.paths)."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shard_node.errors import BrokerUnavailable

SOCKET_PATH_MAX_BYTES: Final = 107 if sys.platform == "linux" else 103
"""``sun_path`` of unix(7) is 108 bytes with its NUL (104 on macOS)."""
_SOCKET_NAME: Final = "broker.sock"
_SLUG_MAX_CHARS: Final = 40
_HASH_CHARS: Final = 6
_SHORT_HASH_CHARS: Final = 12


def find_endpoint(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> str:
    """The endpoint of the fleet meant: SHARDCTL_ENDPOINT, else the fleet SHARDCTL_FLEET, else
    that of ``folder`` (the working folder).

    Raises BrokerUnavailable where the folder's fleet was not started.
    """
    endpoint = environ.get("SHARDCTL_ENDPOINT", "")
    if endpoint:
        return endpoint
    fleet = environ.get("SHARDCTL_FLEET", "")
    if fleet:
        return endpoint_of(fleet, environ)
    here = (folder or Path.cwd()).resolve()
    endpoint = endpoint_of(fleet_name(here), environ)
    if not Path(endpoint.removeprefix("ipc://")).exists():
        raise BrokerUnavailable(
            f"no fleet runs from {here}",
            hint="set SHARDCTL_FLEET to the fleet's name (`shardctl status` prints it), "
            "or pass connect(endpoint=...)",
        )
    return endpoint


def endpoint_of(fleet: str, environ: Mapping[str, str] = os.environ) -> str:
    """The endpoint of the fleet of this name."""
    wanted = _run_root(environ) / fleet
    if len(os.fsencode(wanted / _SOCKET_NAME)) > SOCKET_PATH_MAX_BYTES:
        wanted = _short_root() / _digest(str(wanted), _SHORT_HASH_CHARS)
    return f"ipc://{wanted / _SOCKET_NAME}"


def fleet_name(folder: Path) -> str:
    """The name of the fleet of a bot in ``folder``."""
    path = folder.resolve()
    slug = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:_SLUG_MAX_CHARS] or "bot"
    return f"{slug}-{_digest(str(path), _HASH_CHARS)}"


def _run_root(environ: Mapping[str, str]) -> Path:
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and runtime.is_dir() and os.access(runtime, os.W_OK | os.X_OK):
        return runtime / "shardctl"
    return _short_root()


def _short_root() -> Path:
    return Path("/tmp") / f"shardctl-{os.geteuid()}"


def _digest(text: str, chars: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:chars]
