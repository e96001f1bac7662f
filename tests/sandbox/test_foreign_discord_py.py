import pytest

from tests.support.aio import async_test
from tests.support.foreign.driver import GUILDS, SHARDS, exercise
from tests.support.sandbox import sandbox


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["zlib", "plain"])
@async_test
async def test_discord_py(compression: str) -> None:
    async with sandbox(guilds=GUILDS, shards=SHARDS, max_concurrency=1) as box:
        await exercise("client_discord_py.py", box, compression)
