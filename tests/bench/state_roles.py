"""What the processes of the state's lines do, whoever the contender is."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from shardctl.bench.measure import now_ns
from shardctl.bench.worker import Link
from tests.bench.contenders.state_base import ACCOUNTS, Member

WARM_UP = 32
STEP = 7919
"""Coprime to ACCOUNTS: the accounts of transfers in flight differ."""


async def _opened(module: str, address: str, name: str) -> Member:
    member: Member = importlib.import_module(module).Member()
    await member.open(address, name)
    return member


async def payer(
    link: Link, module: str, address: str, name: str, count: int, in_flight: int
) -> dict[str, Any]:
    """``count`` transfers, ``in_flight`` of them at any time."""
    member = await _opened(module, address, name)

    async def transfer(number: int) -> None:
        src = number * STEP % ACCOUNTS
        await member.transfer(f"{name}:{number}", src, (src + 1 + number % 97) % ACCOUNTS)

    # One after the other, then all at once: whatever is made when first used is there.
    for number in range(WARM_UP):
        await transfer(number)
    await asyncio.gather(*(transfer(WARM_UP + place) for place in range(in_flight)))
    link.say({})
    await link.hear()
    result = await _timed(transfer, WARM_UP + in_flight, count, in_flight)
    await member.close()
    return result


async def _timed(
    act: Callable[[int], Awaitable[None]], first: int, count: int, in_flight: int
) -> dict[str, Any]:
    numbers = iter(range(first, first + count))
    took_ns: list[int] = []

    async def one_after_another() -> None:
        for number in numbers:
            start_ns = now_ns()
            await act(number)
            took_ns.append(now_ns() - start_ns)

    first_ns = now_ns()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return {"first_ns": first_ns, "last_ns": now_ns(), "took_ns": took_ns}
