"""The daemon's log: JSON lines in a file that rotates, and lines for people on stderr."""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import time
from pathlib import Path
from typing import Any, Final

from broker.errors import FolderError

FILE: Final = "broker.log"
FILE_MAX_BYTES: Final = 20 << 20
FILES_KEPT: Final = 4
"""Besides the one that is written: five in all."""
LOGGER: Final = "shardctl.broker"
HIDDEN: Final = "[token]"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ``secret`` never stands in it."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        value: dict[str, Any] = {
            "at": _stamp(record),
            "level": record.levelname.lower(),
            "text": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, default=str).replace(self._secret, HIDDEN)


class HumanFormatter(logging.Formatter):
    """A line for people; ``secret`` never stands in it."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        fields = getattr(record, "fields", {})
        more = "".join(f" {key}={value}" for key, value in fields.items() if value)
        text = f"{_stamp(record)} {record.levelname.lower():7} broker: {record.getMessage()}{more}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return text.replace(self._secret, HIDDEN)


def open_log(folder: Path, level: str, secret: str) -> logging.Logger:
    """The daemon's logger. Raises FolderError where the file cannot be written."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(level.upper())
    logger.propagate = False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(
            folder / FILE, maxBytes=FILE_MAX_BYTES, backupCount=FILES_KEPT
        )
    except OSError as error:
        raise FolderError(
            f"{folder / FILE}: {error.strerror}", "check the folder's mode"
        ) from error
    file.setFormatter(JsonFormatter(secret))
    human = logging.StreamHandler(sys.stderr)
    human.setFormatter(HumanFormatter(secret))
    # A full disk must not fill stderr with tracebacks of the logging module.
    logging.raiseExceptions = False
    logger.handlers = [file, human]
    return logger


def close_log(logger: logging.Logger) -> None:
    """Closes the log's files."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def _stamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"
