"""`dev` ends at Ctrl-C, wherever it arrives."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from shardctl.cli import dev


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "raised"])
def test_a_ctrl_c_ends_it_even_where_nobody_gets_the_exception(
    lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look() -> None:
        looks.append(1)
        assert len(looks) == 1, "it goes on"
        with contextlib.suppress(KeyboardInterrupt) if lost else contextlib.nullcontext():
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    session = object.__new__(dev._Session)
    session._ends = False
    monkeypatch.setattr(session, "_look", look)
    monkeypatch.setattr(session, "_end", lambda: 0)
    assert session.run() == 0
    assert looks == [1]
    assert signal.getsignal(signal.SIGINT) is before
