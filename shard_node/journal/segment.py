"""One file of a journal, to be appended to; what a full disk refuses stays in memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from shard_node.journal.place import FILE_MODE, FOLDER_MODE, generation


class Segment:
    """A new file at ``path``. Raises OSError where there can be none."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, generation(path)
        self.bytes = 0
        """With those that are pending."""
        self.pending = bytearray()
        self.why = ""
        """Why something is pending."""
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, FILE_MODE)

    def append(self, data: bytes) -> bool:
        """False: some of it is pending."""
        self.bytes += len(data)
        if self.pending:
            self.pending += data
            return False
        written = self._write(data)
        if written < len(data):
            self.pending += memoryview(data)[written:]
        return not self.pending

    def retry(self) -> bool:
        """Write what is pending; whether nothing is any more."""
        written = self._write(self.pending) if self.pending else 0
        del self.pending[:written]
        return not self.pending

    def close(self) -> None:
        """Twice does nothing."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _write(self, data: bytes | bytearray) -> int:
        """How much of it the file took."""
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self.why = error.strerror or str(error)
            return 0
        if written < len(data):
            self.why = os.strerror(errno.ENOSPC)
        return written
