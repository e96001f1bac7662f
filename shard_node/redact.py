"""Keeps the token out of all that the process writes: records, tracebacks, prints."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO

MASK = "[token]"
SECRET_MIN_CHARS = 8
"""Shorter strings occur in ordinary text; Discord's tokens have over fifty."""

_secrets: list[str] = []


def add_secret(secret: str | None) -> None:
    """From now on ``secret`` is written as ``[token]``."""
    if secret and len(secret) >= SECRET_MIN_CHARS and secret not in _secrets:
        _secrets.append(secret)


def redact(text: str) -> str:
    """``text`` without any secret."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


class RedactingStream:
    """A text stream that masks secrets; everything but writing is the inner stream's."""

    def __init__(self, inner: TextIO) -> None:
        self._inner = inner

    def write(self, text: str) -> int:
        """Write ``text`` masked. Returns the length of what the caller gave."""
        self._inner.write(redact(text) if isinstance(text, str) else text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each line masked."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def install() -> Callable[[], None]:
    """Guard stdout, stderr and every logging handler. Returns what undoes it.

    Handlers are guarded where they format (``logging.Handler.format``), because a filter on
    a logger does not see the records of its children.
    """
    stdout, stderr, plain = sys.stdout, sys.stderr, logging.Handler.format

    def masked(self: logging.Handler, record: logging.LogRecord) -> str:
        return redact(plain(self, record))

    logging.Handler.format = masked  # type: ignore[method-assign]
    sys.stdout = RedactingStream(stdout)
    sys.stderr = RedactingStream(stderr)

    def undo() -> None:
        logging.Handler.format = plain  # type: ignore[method-assign]
        sys.stdout, sys.stderr = stdout, stderr

    return undo
