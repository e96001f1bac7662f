"""The primitives for code that does not await: the same names, and every call blocks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

from shard_node.shared.backend import WRITE_TIMEOUT_S
from shard_node.shared.transaction import Transaction
from shard_node.state import arguments

Run = Callable[..., Any]
"""Runs what a function makes on the connection's loop: ``run(begin, timeout_s=...)``."""


class Blocking:
    """One primitive; its methods take the same arguments and return what awaiting them does."""

    def __init__(self, inner: Any, run: Run) -> None:
        self._inner, self._run = inner, run

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        inner, run = self._inner, self._run
        if not hasattr(type(inner), name) and name not in vars(inner):
            raise AttributeError(name)
        if not callable(getattr(type(inner), name, None)):
            return run(lambda: _got(inner, name))

        def call(*args: Any, **kwargs: Any) -> Any:
            timeout_s = arguments.timeout(kwargs.get("timeout_s", WRITE_TIMEOUT_S))
            return run(lambda: _called(inner, name, args, kwargs), timeout_s=timeout_s)

        return call


class BlockingTransaction:
    """A transaction for ``with``: its operations are collected, and committed at the end."""

    def __init__(self, inner: Transaction, run: Run) -> None:
        self._inner, self._run = inner, run

    def __enter__(self) -> Transaction:
        return self._inner

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises as ``Transaction`` does."""
        self._run(lambda: self._inner.__aexit__(kind, error, trace), timeout_s=WRITE_TIMEOUT_S)


async def _got(inner: Any, name: str) -> Any:
    return getattr(inner, name)


async def _called(inner: Any, name: str, args: Any, kwargs: Any) -> Any:
    found = getattr(inner, name)(*args, **kwargs)
    return await found if inspect.isawaitable(found) else found
