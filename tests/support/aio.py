"""Runs a coroutine test in a loop of its own, with a deadline."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

DEADLINE_S = 110.0


def async_test(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test function that pytest can call."""

    @functools.wraps(test)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), DEADLINE_S))

    return call
