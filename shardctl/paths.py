"""Where a fleet keeps its things: names, folders, sockets. Standard library only.

| what | where |
| --- | --- |
| data | ``$XDG_STATE_HOME/shardctl/<fleet>`` (default ``~/.local/state``) |
| run | ``$XDG_RUNTIME_DIR/shardctl/<fleet>`` or ``/tmp/shardctl-<uid>/<fleet>`` |

Both are ours alone (mode 0700). Where the path of the socket would exceed what the system
takes, the run folder gets a short hashed name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shardctl.errors import EXIT_USAGE, PathError

SOCKET_PATH_MAX_BYTES: Final = 107 if sys.platform == "linux" else 103
"""``sun_path`` of unix(7) is 108 bytes with its NUL (104 on macOS)."""
FLEET_NAME_MAX_CHARS: Final = 64
FLEET_NAME_RULE: Final = (
    f"at most {FLEET_NAME_MAX_CHARS} of a-z 0-9 _ -, and begins with a letter or digit"
)
_SLUG_MAX_CHARS: Final = 40
_HASH_CHARS: Final = 6
_SHORT_HASH_CHARS: Final = 12
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SOCKET_NAME: Final = "broker.sock"
# fmt: off
_NETWORK_FILE_SYSTEMS: Final = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph",
    "glusterfs", "lustre", "gpfs", "beegfs", "9p", "coda", "fuse.sshfs",
    "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs", "davfs",
})
# fmt: on


@dataclass(frozen=True)
class FleetPaths:
    """All places of one fleet. Nothing exists before ``create_private`` made it."""

    fleet: str
    data_dir: Path
    run_dir: Path

    @property
    def record_file(self) -> Path:
        """The launch record that `start` writes."""
        return self.data_dir / "fleet.json"

    @property
    def store_dir(self) -> Path:
        return self.data_dir / "store"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def socket_file(self) -> Path:
        return self.run_dir / _SOCKET_NAME

    @property
    def endpoint(self) -> str:
        """The broker's address for zmq."""
        return f"ipc://{self.socket_file}"

    @property
    def supervisor_file(self) -> Path:
        return self.run_dir / "supervisor.json"

    @property
    def sandbox_file(self) -> Path:
        return self.run_dir / "sandbox.json"

    @property
    def sandbox_state_file(self) -> Path:
        return self.run_dir / "sandbox-state.json"


def fleet_name(folder: Path) -> str:
    """The name of the fleet of a bot in ``folder``: its slug and a short hash of its path."""
    path = folder.resolve()
    slug = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:_SLUG_MAX_CHARS] or "bot"
    return f"{slug}-{_digest(str(path), _HASH_CHARS)}"


def is_fleet_name(name: str) -> bool:
    """Whether ``name`` can name a fleet."""
    return len(name) <= FLEET_NAME_MAX_CHARS and _NAME.fullmatch(name) is not None


def check_fleet_name(name: str) -> str:
    """``name`` itself. Raises PathError (exit 2) where it cannot name a fleet."""
    if is_fleet_name(name):
        return name
    raise PathError(
        f"{name!r} cannot name a fleet.",
        consequence=f"A name is {FLEET_NAME_RULE}.",
        hint="for example --fleet mybot",
        code="E_FLEET_NAME",
        exit_code=EXIT_USAGE,
    )


def fleet_paths(fleet: str, environ: Mapping[str, str] = os.environ) -> FleetPaths:
    """The places of the fleet of this name. Creates nothing."""
    check_fleet_name(fleet)
    return FleetPaths(fleet, data_root(environ) / fleet, _run_dir(fleet, environ))


def data_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the data folders of all fleets."""
    # The XDG specification: a relative path in one of its variables is to be ignored.
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return state / "shardctl"


def run_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds the run folders of all fleets."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and not _runtime_problem(Path(runtime)):
        return Path(runtime) / "shardctl"
    return _short_root()


def run_fallback(environ: Mapping[str, str] = os.environ) -> str:
    """What to say of an XDG_RUNTIME_DIR that is set and not used; empty where all is well."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    problem = _runtime_problem(Path(runtime)) if runtime else ""
    if not problem:
        return ""
    return f"XDG_RUNTIME_DIR={runtime} {problem}; sockets go to {_short_root()}"


def _runtime_problem(runtime: Path) -> str:
    if not runtime.is_absolute():
        return "is a relative path"
    try:
        if not runtime.is_dir():
            return "is not a folder" if runtime.exists() else "does not exist"
    except OSError as error:
        return f"cannot be used ({error.strerror})"
    return "" if os.access(runtime, os.W_OK | os.X_OK) else "cannot be written to"


def _short_root() -> Path:
    return Path("/tmp") / f"shardctl-{os.geteuid()}"


def _run_dir(fleet: str, environ: Mapping[str, str]) -> Path:
    wanted = run_root(environ) / fleet
    if socket_fits(wanted):
        return wanted
    return _short_root() / _digest(str(wanted), _SHORT_HASH_CHARS)


def socket_fits(run_dir: Path) -> bool:
    """Whether the system takes the path of the broker's socket in ``run_dir``."""
    return len(os.fsencode(run_dir / _SOCKET_NAME)) <= SOCKET_PATH_MAX_BYTES


def _digest(text: str, chars: int) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:chars]


def running_names(names: list[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Those of ``names`` whose supervisor has left no goodbye: they run, or died."""
    return [n for n in names if fleet_paths(n, environ).supervisor_file.exists()]


def known_fleets(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of all fleets that were ever started here, sorted."""
    root = data_root(environ)
    if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
        return []
    return sorted(entry.name for entry in root.iterdir() if (entry / "fleet.json").is_file())


def create_folders(paths: FleetPaths) -> None:
    """Make all folders of a fleet, 0700, or raise PathError saying which cannot be used."""
    if not socket_fits(paths.run_dir):
        raise _socket_too_long(paths.run_dir)
    _make_base(paths.data_dir.parent.parent)
    for folder in (paths.data_dir.parent, paths.data_dir, paths.logs_dir):
        create_private(folder)
    kind = network_file_system(paths.data_dir)
    if kind is not None:
        raise _network(paths.data_dir, kind)
    for folder in (paths.run_dir.parent, paths.run_dir):
        create_private(folder, follow_symlinks=False)


def _make_base(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None


def create_private(folder: Path, *, follow_symlinks: bool = True) -> None:
    """Make ``folder`` with mode 0700, or see that the existing one is ours alone.

    Below /tmp, where anybody may have made the name before us, ``follow_symlinks`` is
    False. Raises PathError for a folder of another user, no folder, or no permission.
    """
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.stat(follow_symlinks=follow_symlinks)
        _check_owner(folder, found)
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise _unusable(folder, error) from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(folder, PermissionError("no permission to write in it"))


def check_run_folder(paths: FleetPaths) -> None:
    """Raises PathError where the run folder is somebody else's: no socket in it is ours."""
    for folder in (paths.run_dir.parent, paths.run_dir):
        try:
            found = folder.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unusable(folder, error) from None
        _check_owner(folder, found)


def _check_owner(folder: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise PathError(
            f"{folder} is not a folder.",
            consequence="shardctl keeps its files in a folder of that name; nothing was started.",
            hint=f"move {folder} away, or set XDG_STATE_HOME and XDG_RUNTIME_DIR.",
            code="E_NOT_A_FOLDER",
        )
    if found.st_uid != os.geteuid():
        raise PathError(
            f"{folder} belongs to user {found.st_uid}; this process is user {os.geteuid()}.",
            consequence="Its owner could read the bot's data and replace its socket; "
            "nothing was done.",
            hint="run as that user, or set XDG_STATE_HOME and XDG_RUNTIME_DIR to folders "
            "of your own.",
            code="E_NOT_OURS",
        )


def _unusable(folder: Path, error: OSError) -> PathError:
    reason = error.strerror or str(error)
    return PathError(
        f"cannot use the folder {folder}: {reason}.",
        consequence="A fleet keeps its data and its socket there; nothing was started.",
        hint="give this user the right to write there, or set XDG_STATE_HOME "
        "(data) and XDG_RUNTIME_DIR (sockets).",
        code="E_PERMISSION" if isinstance(error, PermissionError) else "E_FOLDER",
    )


def _socket_too_long(run_dir: Path) -> PathError:
    size = len(os.fsencode(run_dir / _SOCKET_NAME))
    return PathError(
        f"the socket's path {run_dir / _SOCKET_NAME} has {size} bytes; "
        f"the system takes {SOCKET_PATH_MAX_BYTES}.",
        consequence="No process could connect to the broker; nothing was started.",
        hint="set XDG_RUNTIME_DIR to a shorter folder, or give a shorter --fleet name.",
        code="E_SOCKET_PATH",
    )


def _network(folder: Path, kind: str) -> PathError:
    return PathError(
        f"the data folder {folder} is on a network file system ({kind}).",
        consequence="Locks and memory maps do not hold there, and the store would be "
        "damaged; nothing was started.",
        hint="set XDG_STATE_HOME to a folder on a local disk.",
        code="E_NETWORK_FS",
    )


def network_file_system(folder: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system that holds ``folder``; None for a local one.

    ``mounts`` is text in the form of /proc/self/mountinfo (proc(5)), for tests. Where the
    system has no such file, every folder counts as local.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            return None
    kind = _file_system(str(folder.resolve()), mounts)
    return kind if kind in _NETWORK_FILE_SYSTEMS else None


def _file_system(path: str, mounts: str) -> str:
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = _unescape(fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
