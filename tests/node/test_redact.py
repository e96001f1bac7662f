"""No secret in streams or records."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from shard_node import redact


@contextmanager
def guarded() -> Iterator[io.StringIO]:
    out, before = io.StringIO(), sys.stderr
    sys.stderr = out
    undo = redact.install()
    known = list(redact._secrets)
    redact.add_secret("s3cret-s3cret-s3cret")
    yield out
    redact._secrets[:] = known
    undo()
    sys.stderr = before


def test_a_secret_is_masked_in_streams_and_records() -> None:
    with guarded() as out:
        print("it is s3cret-s3cret-s3cret", file=sys.stderr)
        sys.stderr.writelines(["s3cret-s3cret-s3cret\n"])
        handler = logging.StreamHandler(stream := io.StringIO())
        record = logging.LogRecord("x", 20, "f", 1, "%s", ("s3cret-s3cret-s3cret",), None)
        handler.handle(record)
    assert out.getvalue() == "it is [token]\n[token]\n"
    assert stream.getvalue() == "[token]\n"


def test_short_strings_are_no_secrets() -> None:
    with guarded():
        redact.add_secret("a")
        redact.add_secret(None)
        assert redact.redact("a banana") == "a banana"
