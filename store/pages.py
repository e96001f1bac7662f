"""The skeleton of an LMDB 0.9 file, looked at before the engine is given it.

A changed bit in a row, a record or a key is found when it is read. One in a page's number
within a branch page is not: the engine would follow it to another page that is whole, an old
one perhaps, or abort the process. So at the start the branch pages (one in a hundred) are
walked: each page that they name is named once, is none of the free ones, and their number is
right. The layout is that of lmdb's mdb.c, which ``lmdb.verify`` describes as well.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from pathlib import Path
from typing import Final, NamedTuple

META_PAGES: Final = 2
_MAGIC: Final = 0xBEEFC0DE
_HEAD: Final = struct.Struct("=QHHHH")
"""Number, padding, flags, end of the pointers, begin of the nodes."""
_META: Final = struct.Struct("=IIQQ")
_DB: Final = struct.Struct("=IHHQQQQQ")
_TAIL: Final = struct.Struct("=QQ")
_NODE: Final = struct.Struct("=HHHH")
_BRANCH, _LEAF = 1, 2
_BIG, _SUB = 1, 2
"""Flags of a node: its data lie in pages of their own; it is a database."""
_NEW_MAX_BYTES: Final = META_PAGES * (64 << 10)
"""The meta pages where pages are as large as they get."""
_NO_PAGE: Final = (1 << 64) - 1
_META_BYTES: Final = _HEAD.size + _META.size + 2 * _DB.size + _TAIL.size


class Skeleton(Exception):
    """What is wrong with it."""


class _Tree(NamedTuple):
    depth: int
    branches: int
    leaves: int
    root: int


def fault(path: Path) -> str:
    """What is wrong with the skeleton of the file; "" for nothing, or where there is no file, or
    none of this format (the engine says that itself). Nobody may write it meanwhile."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        _File(handle).check()
    except Skeleton as error:
        return str(error)
    except (struct.error, IndexError, ValueError):
        return "a page's own figures lead out of it"
    finally:
        os.close(handle)
    return ""


def blank(path: Path) -> bool:
    """Whether it is what a power cut leaves of a file whose first commit never was: the meta
    pages at most, and nothing in them."""
    try:
        size = path.stat().st_size
        return size <= _NEW_MAX_BYTES and not any(path.read_bytes())
    except OSError:
        return False


class _Meta(NamedTuple):
    page_bytes: int
    free: _Tree
    main: _Tree
    last: int
    txn: int


class _File:
    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._page_bytes = 0
        self._seen = bytearray()

    def check(self) -> None:
        meta = self._newest_meta()
        if meta is None:
            return
        self._seen = bytearray(meta.last + 1)
        for leaf in self._leaves(meta.main):
            for flags, data in self._nodes(leaf):
                if flags & _SUB:
                    self._count(_tree(data, 0))
        for leaf in self._leaves(meta.free):
            for _, data in self._nodes(leaf):
                numbers = array("Q", data)
                self._mark(numbers[1 : 1 + numbers[0]].tolist())

    def _newest_meta(self) -> _Meta | None:
        """None where it is no file of this format. They take turns: one of the two is that of
        the last commit, the other that of the one before."""
        first = _meta(os.pread(self._handle, _META_BYTES, 0))
        if first is None:
            return None
        self._page_bytes = first.page_bytes
        second = _meta(os.pread(self._handle, _META_BYTES, first.page_bytes))
        if second is None or second.page_bytes != first.page_bytes:
            raise Skeleton("the second meta page is none")
        apart = abs(first.txn - second.txn)
        if apart > 1 or (apart and (first.txn % 2 or not second.txn % 2)):
            text = f"the meta pages are of the commits {first.txn} and {second.txn}"
            raise Skeleton(text)
        return max(first, second, key=lambda meta: meta.txn)

    def _leaves(self, tree: _Tree) -> list[int]:
        """The leaf pages of a small tree."""
        if tree.root == _NO_PAGE:
            return []
        level = [tree.root]
        self._mark(level)
        for _ in range(tree.depth - 1):
            level = [child for number in level for child in self._children(number)]
        return level

    def _count(self, tree: _Tree) -> None:
        """That a tree has as many pages as it says. Its leaves, which are many, are not kept."""
        if tree.root == _NO_PAGE:
            return
        level, branches, leaves = [tree.root], 0, 1
        self._mark(level)
        for depth in range(tree.depth - 1, 0, -1):
            branches, leaves, below = branches + len(level), 0, []
            for number in level:
                children = self._children(number)
                leaves += len(children)
                if depth > 1:
                    below += children
            level = below
        if (branches, leaves) != (tree.branches, tree.leaves):
            text = f"a tree has {branches} branch and {leaves} leaf pages"
            raise Skeleton(f"{text}, and says {tree.branches} and {tree.leaves}")

    def _children(self, number: int) -> list[int]:
        """What a branch page names, each for the first time."""
        page, read = self._page(number, _BRANCH), int.from_bytes
        children = [read(page[at : at + 6], "little") for at in _offsets(page)]
        self._mark(children)
        return children

    def _nodes(self, number: int) -> list[tuple[int, bytes]]:
        """Flags and data of what a leaf page has."""
        page, found = self._page(number, _LEAF), []
        for at in _offsets(page):
            low, high, flags, key_bytes = _NODE.unpack_from(page, at)
            size, data = low | high << 16, page[at + _NODE.size + key_bytes :]
            if flags & _BIG:
                start = int.from_bytes(data[:8], "little") * self._page_bytes + _HEAD.size
                data = os.pread(self._handle, size, start)
            found.append((flags, data[:size]))
        return found

    def _page(self, number: int, kind: int) -> bytes:
        page = os.pread(self._handle, self._page_bytes, number * self._page_bytes)
        found, _, flags, _, _ = _HEAD.unpack_from(page)
        if found != number or not flags & kind:
            raise Skeleton(f"page {number} is not what names it")
        return page

    def _mark(self, numbers: list[int]) -> None:
        """They are named now. Whole lists at once: there are hundreds of thousands."""
        seen = self._seen
        if numbers and not META_PAGES <= min(numbers) <= max(numbers) < len(seen):
            raise Skeleton("a page is named that is not there")
        if any(map(seen.__getitem__, numbers)) or len(set(numbers)) < len(numbers):
            raise Skeleton("a page is named twice")
        for number in numbers:
            seen[number] = 1


def _meta(page: bytes) -> _Meta | None:
    if sys.byteorder != "little" or len(page) < _META_BYTES:
        return None
    at = _HEAD.size
    if _META.unpack_from(page, at)[0] != _MAGIC:
        return None
    at += _META.size
    page_bytes: int = _DB.unpack_from(page, at)[0]  # in the padding of the first tree
    last, txn = _TAIL.unpack_from(page, at + 2 * _DB.size)
    return _Meta(page_bytes, _tree(page, at), _tree(page, at + _DB.size), last, txn)


def _tree(data: bytes, at: int) -> _Tree:
    _, _, depth, branches, leaves, _, _, root = _DB.unpack_from(data, at)
    return _Tree(depth, branches, leaves, root)


def _offsets(page: bytes) -> tuple[int, ...]:
    """Where the nodes of a page lie in it."""
    _, _, _, lower, upper = _HEAD.unpack_from(page)
    if not _HEAD.size <= lower <= upper <= len(page):
        raise Skeleton("a page's own figures are wrong")
    found: tuple[int, ...] = struct.unpack_from(f"={(lower - _HEAD.size) // 2}H", page, _HEAD.size)
    if found and (min(found) < upper or max(found) + _NODE.size > len(page)):
        raise Skeleton("a page's own figures lead out of it")
    return found
