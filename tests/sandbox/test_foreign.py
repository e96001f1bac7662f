"""Clients that are not ours: they wait for most of their time, 5 s between two IDENTIFYs, and so
all play at once, each on a sandbox of its own."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.foreign.driver import GUILDS, SHARDS, exercise
from tests.support.sandbox import sandbox

CLIENTS = ("disnake", "discord_py", "hikari")
COMPRESSIONS = ("zlib", "plain")
ALL_S = 110.0


async def play(client: str, compression: str) -> None:
    async with sandbox(guilds=GUILDS, shards=SHARDS, max_concurrency=1) as box:
        await exercise(f"client_{client}.py", box, compression)


@pytest.fixture(scope="module")
def ends() -> dict[tuple[str, str], BaseException | None]:
    """How each ended."""
    pairs = [(client, compression) for client in CLIENTS for compression in COMPRESSIONS]

    async def everybody() -> list[BaseException | None]:
        plays = (asyncio.wait_for(play(*pair), ALL_S) for pair in pairs)
        return await asyncio.gather(*plays, return_exceptions=True)

    return dict(zip(pairs, asyncio.run(everybody()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sees_a_discord(
    ends: dict[tuple[str, str], BaseException | None], client: str, compression: str
) -> None:
    error = ends[client, compression]
    if error is not None:
        raise error
