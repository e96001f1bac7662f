"""What the processes of the state's lines do, whoever the contender is."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from shardctl.bench.measure import latency, now_ns
from shardctl.bench.worker import Link
from tests.bench.contenders.state_base import ACCOUNTS, COOLDOWN_USES, Member

WARM_UP = 32
ACCOUNT_STEP = 7919
"""Coprime to ACCOUNTS: transfers that are in flight together are of other accounts."""
BATCH_READS = 20
"""One read is too short for the clock."""


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
        src = number * ACCOUNT_STEP % ACCOUNTS
        await member.transfer(f"{name}:{number}", src, (src + 1 + number % 97) % ACCOUNTS)

    first = await _warm_up(transfer, in_flight)
    link.say({})
    await link.hear()
    result = await _timed(transfer, range(first, first + count), in_flight)
    await member.close()
    return result


async def checker(
    link: Link, module: str, address: str, name: str, count: int, in_flight: int
) -> dict[str, Any]:
    """``count`` checks of cooldowns, ``in_flight`` at any time; one of four is refused."""
    member, keys = await _opened(module, address, name), count // (COOLDOWN_USES + 1)
    allowed = 0

    async def check(number: int) -> None:
        nonlocal allowed
        if await member.acquire(f"{name}:{number % keys}"):
            allowed += 1

    async def warm(number: int) -> None:
        assert await member.acquire(f"{name}:warm:{number}")

    await _warm_up(warm, in_flight)
    timed = await _timed(check, range(keys * (COOLDOWN_USES + 1)), in_flight)
    assert allowed == keys * COOLDOWN_USES
    await member.close()
    took_ns = timed["took_ns"]
    checks_s = len(took_ns) * 1e9 / (timed["last_ns"] - timed["first_ns"])
    return {"checks_s": checks_s, **latency(took_ns)}


async def reader(
    link: Link, module: str, address: str, name: str, count: int, what: str
) -> dict[str, Any]:
    """``count`` reads, each decoded; the times are of the mean read of a batch."""
    member = await _opened(module, address, name)
    read = member.reader(what)
    found = read(0)
    took_ns = []
    for batch in range(max(1, count // BATCH_READS)):
        start_ns = now_ns()
        for number in range(batch * BATCH_READS, (batch + 1) * BATCH_READS):
            found = read(number)
        took_ns.append((now_ns() - start_ns) // BATCH_READS)
    assert found
    await member.close()
    return latency(took_ns)


async def _warm_up(act: Callable[[int], Awaitable[None]], in_flight: int) -> int:
    """One after the other, then all at once, so that whatever is made when it is first used is
    there. Returns the first number that is not used yet."""
    for number in range(WARM_UP):
        await act(number)
    await asyncio.gather(*(act(WARM_UP + place) for place in range(in_flight)))
    return WARM_UP + in_flight


async def _timed(
    act: Callable[[int], Awaitable[None]], numbers: range, in_flight: int
) -> dict[str, Any]:
    left = iter(numbers)
    took_ns: list[int] = []

    async def one_after_another() -> None:
        for number in left:
            start_ns = now_ns()
            await act(number)
            took_ns.append(now_ns() - start_ns)

    first_ns = now_ns()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return {"first_ns": first_ns, "last_ns": now_ns(), "took_ns": took_ns}
