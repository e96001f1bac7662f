"""Checks of the fleet's folders, and the lock that keeps a second broker out."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from broker.errors import EndpointError, FolderError, LockedError

FOLDER_MODE: Final = 0o700
SOCKET_PATH_MAX_BYTES: Final = 107
"""sun_path holds 108 bytes with the NUL; unix(7)."""
LOCK_FILE: Final = "broker.lock"
MOUNTS: Final = Path("/proc/self/mountinfo")
NETWORK_TYPES: Final = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "9p",
        "afs",
        "ceph",
        "coda",
        "glusterfs",
        "lustre",
        "gpfs",
        "orangefs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.rclone",
        "fuse.gcsfuse",
    ]
)


def check_folder(folder: Path, what: str, *, local: bool) -> None:
    """Refuses a folder that is missing, of another owner, open to others, or (``local``) on a
    network file system. Raises FolderError.
    """
    try:
        status = folder.stat()
    except OSError as error:
        text = f"the {what} folder {folder}: {error.strerror}"
        raise FolderError(text, "shardctl start makes it; check the path") from error
    if not stat.S_ISDIR(status.st_mode):
        raise FolderError(f"the {what} folder {folder} is not a folder", f"remove {folder}")
    if status.st_uid != os.geteuid():
        text = f"the {what} folder {folder} belongs to user {status.st_uid}, not to you"
        raise FolderError(text, "choose another folder, or have it given to you")
    if status.st_mode & 0o077:
        text = f"the {what} folder {folder} is open to others (mode {status.st_mode & 0o777:o})"
        raise FolderError(text, f"run: chmod 700 {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise FolderError(f"no permission in the {what} folder {folder}", "check its mode")
    if local:
        _check_local(folder, what)


def file_system_type(folder: Path, mounts: str) -> str:
    """The type of the file system under ``folder``, from the text of mountinfo (proc(5))."""
    found, length = "", -1
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        point = Path(_unescaped(head.split(" ")[4]))
        if folder.is_relative_to(point) and len(point.parts) >= length:
            found, length = tail.split(" ")[0], len(point.parts)
    return found


def take_lock(folder: Path) -> int:
    """The descriptor of the folder's lock; it holds until the process ends.

    Raises LockedError where another process has it, FolderError where it cannot be made.
    """
    path = folder / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}", "check the folder's mode") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        raise _lock_error(folder, holder, error) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def check_endpoint(endpoint: str) -> Path:
    """The socket's path in an ``ipc://`` endpoint. Raises EndpointError where it is too long."""
    path = endpoint.removeprefix("ipc://")
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_MAX_BYTES:
        text = f"the socket's path has {size} bytes; the system allows {SOCKET_PATH_MAX_BYTES}"
        raise EndpointError(f"{text}: {path}", "set XDG_RUNTIME_DIR to a shorter folder")
    return Path(path)


def _check_local(folder: Path, what: str) -> None:
    try:
        mounts = MOUNTS.read_text()
    except OSError:
        return
    kind = file_system_type(folder.resolve(), mounts)
    if kind in NETWORK_TYPES:
        text = f"the {what} folder {folder} is on a network file system ({kind})"
        raise FolderError(
            f"{text}: the store's locks do not work there",
            "set XDG_STATE_HOME to a folder on a local disk",
        )


def _lock_error(folder: Path, holder: str, error: OSError) -> FolderError | LockedError:
    if error.errno not in (errno.EAGAIN, errno.EACCES):
        return FolderError(f"{folder} cannot be locked: {error.strerror}", "use a local disk")
    text = f"another broker (pid {holder or 'unknown'}) runs on {folder}"
    return LockedError(text, "run: shardctl status   (or: shardctl stop)")


def _unescaped(text: str) -> str:
    """mountinfo writes a blank as \\040."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
