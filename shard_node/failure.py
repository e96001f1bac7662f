"""How an error of the bot's file is told: what failed, where, and what to type next."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from shard_node.errors import ShardNodeError

_HERE = str(Path(__file__).parent)
_EXAMPLES = str(Path(__file__).parent / "examples")
_STRANGERS = ("site-packages", "dist-packages", ".venv")


def told(error: ShardNodeError) -> str:
    """The error in the words of the terminal."""
    text = f"error[{error.code}]: {error}"
    if error.hint:
        text += f"\n  hint: {error.hint}"
    return text


def author_line(folder: Path, frame: FrameType | None = None) -> str | None:
    """``main.py:12``: the innermost line of the author's own code on the stack."""
    frame = frame if frame is not None else sys._getframe(1)
    while frame is not None:
        where = _place(folder, frame.f_code.co_filename, frame.f_lineno)
        if where is not None:
            return where
        frame = frame.f_back
    return None


def author_line_of(folder: Path, error: BaseException) -> str | None:
    """``main.py:12``: where in the author's own code an exception passed last."""
    if isinstance(error, SyntaxError) and error.filename:
        return _place(folder, error.filename, error.lineno or 0) or (
            f"{error.filename}:{error.lineno}"
        )
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        found = _place(folder, frame.f_code.co_filename, line) or found
    return found


def author_traceback(error: BaseException) -> str:
    """The traceback from the author's first line on, without the frames that ran it."""
    step = _skip_ours(error.__traceback__)
    if step is None and not isinstance(error, SyntaxError):
        step = error.__traceback__  # nothing but ours: then it is ours to mend
    return "".join(traceback.format_exception(type(error), error, step)).rstrip()


def _skip_ours(tb: TracebackType | None) -> TracebackType | None:
    step = tb
    while step is not None and _is_runner(step.tb_frame.f_code.co_filename):
        step = step.tb_next
    return step


def _is_runner(filename: str) -> bool:
    return filename.startswith((_HERE, "<frozen")) and not filename.startswith(_EXAMPLES)


def _place(folder: Path, filename: str, line: int) -> str | None:
    try:
        inside = Path(filename).resolve().relative_to(folder.resolve())
    except (ValueError, OSError):
        return None
    if any(part in _STRANGERS for part in inside.parts):
        return None
    return f"{inside}:{line}"
