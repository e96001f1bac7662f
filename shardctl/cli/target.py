"""What TARGET names: a file, or an object in a module, seen from the bot's folder."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final, NamedTuple

from shardctl.errors import EXIT_NOT_FOUND, ShardctlError
from shardctl.launch import Bot

DEFAULT_FILES: Final = ("main.py", "bot.py")


class TargetError(ShardctlError):
    """TARGET names no file that can be run."""

    code = "E_TARGET"
    exit_code = EXIT_NOT_FOUND


def find_bot(target: str, base: Path, *, factory: bool = False) -> Bot:
    """The bot that ``target`` names, seen from ``base``.

    Forms: ``main.py``, ``bots/main.py``, ``main:bot``, ``main.py:bot``, ``pkg.mod:bot``,
    and a folder with a main.py or bot.py in it. The bot's folder is that of the file, or
    ``base`` for a dotted module. Raises TargetError before anything is started.
    """
    left, colon, name = target.partition(":")
    path = (base / left).resolve()
    if path.is_dir() and not colon:
        return default_bot(path)
    if colon and not name.isidentifier():
        raise TargetError(
            f"{target!r} names no object: {name!r} is no name.", hint="shardctl start main:bot"
        )
    if factory and not colon:
        raise TargetError(
            f"--factory needs the name of a function; {target!r} names a file.",
            hint=f"shardctl start --factory {left}:make_bot",
        )
    found = _find(left, base.resolve())
    if found is None:
        raise _missing(target, path)
    return Bot(str(found.folder), f"{found.module}:{name}" if colon else found.file, factory)


class _Found(NamedTuple):
    """A module: the folder that imports see, its name there, its file as seen from it."""

    folder: Path
    module: str
    file: str


def _find(left: str, base: Path) -> _Found | None:
    path = base / left
    if path.suffix == ".py":
        return _Found(path.parent, path.stem, path.name) if path.is_file() else None
    if path.with_name(f"{path.name}.py").is_file():
        return _Found(path.parent, path.name, f"{path.name}.py")
    if (path / "__init__.py").is_file():
        return _Found(path.parent, path.name, f"{path.name}/__init__.py")
    dotted = base.joinpath(*left.split("."))
    if "/" not in left and dotted.with_name(f"{dotted.name}.py").is_file():
        return _Found(base, left, f"{left.replace('.', '/')}.py")
    return None


def has_bot(folder: Path) -> bool:
    """Whether ``default_bot`` finds one in ``folder``."""
    return any((folder / name).is_file() for name in DEFAULT_FILES)


def default_bot(folder: Path) -> Bot:
    """The bot in ``folder`` when no TARGET is given."""
    for name in DEFAULT_FILES:
        if (folder / name).is_file():
            return Bot(str(folder.resolve()), name)
    raise TargetError(
        f"there is no {' or '.join(DEFAULT_FILES)} in {folder}.",
        consequence="No bot was named, so nothing was started.",
        hint="shardctl start YOUR_FILE.py\ntry it without a bot: shardctl start --sandbox",
    )


def _missing(target: str, path: Path) -> TargetError:
    folder = path.parent
    files = sorted(file.name for file in folder.glob("*.py")) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, files, n=1, cutoff=0.5)
    shown = path if path.suffix == ".py" else f"{path}.py"
    return TargetError(
        f"there is no file {shown}.",
        consequence=f"{target!r} names no bot, so nothing was started.",
        hint=f"did you mean {near[0]!r}?" if near else "shardctl start YOUR_FILE.py",
    )
