"""The supervisor's line to the broker: whole lines, limits, a peer that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shardctl.supervisor import link as module
from shardctl.supervisor.link import Link, LinkBroken


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def test_lines_come_whole_however_they_are_cut(link: Link) -> None:
    link.peer.sendall(b'{"op":"a"}\n{"op"')
    assert link.receive() == ([{"op": "a"}], False)
    link.peer.sendall(b':"b"}\n\n')
    assert link.receive() == ([{"op": "b"}], False)
    assert link.receive() == ([], False)


def test_the_end_of_the_peer_is_seen_after_its_last_line(link: Link) -> None:
    link.peer.sendall(b'{"op":"stopped"}\n')
    link.peer.close()
    assert link.receive() == ([{"op": "stopped"}], True)


@pytest.mark.parametrize("bad", [b"nonsense\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_line_breaks_the_link(link: Link, bad: bytes) -> None:
    link.peer.setblocking(False)
    sent = 0
    with pytest.raises(LinkBroken):
        while sent < len(bad):
            sent += link.peer.send(bad[sent:])
            link.receive()


def test_a_line_without_end_breaks_the_link(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_MAX_BYTES", 1 << 17)
    link.peer.setblocking(False)
    with pytest.raises(LinkBroken, match="over"):
        for _ in range(100):
            link.peer.send(b"x" * (1 << 16))
            link.receive()


def test_what_is_not_read_waits_up_to_a_limit(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUT_MAX_BYTES", 1 << 20)
    line = {"ev": "x", "tail": ["y" * 50_000]}
    with pytest.raises(LinkBroken, match="unread"):
        for _ in range(1000):
            link.send(line)
    assert link.wants_write
    assert json.loads(link.peer.makefile("rb").readline()) == line


def test_a_dead_peer_is_no_error_of_ours(link: Link) -> None:
    link.peer.close()
    link.send({"ev": "x"})
    assert not link.wants_write
