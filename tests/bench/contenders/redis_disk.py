"""redis-server that syncs every write before it answers, and scripts that do what ours does.

Used as redis-py's users do: one `redis.asyncio.Redis` a process with hiredis, each request in
flight on a connection of its pool, a script by its hash. Redis answers all that it read in one
turn of its loop after one fsync.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

import msgspec
import redis
import redis.asyncio

from tests.bench.contenders.state_base import (
    ACCOUNTS,
    AMOUNT,
    BALANCE,
    CONFIG,
    COOLDOWN_S,
    COOLDOWN_USES,
    GUILD,
    GUILDS,
    REASON,
    USER,
    BotConfig,
    account,
    disk_folder,
)
from tests.support.waiting import wait_for

TRANSFER: Final = """
local done = redis.call('GET', KEYS[1])
if done then return tonumber(done) end
local src = tonumber(redis.call('GET', KEYS[2]))
if not src then return redis.error_reply('E_NO_ACCOUNT') end
local amount = tonumber(ARGV[4])
if src < amount then return redis.error_reply('E_FUNDS') end
local dst = tonumber(redis.call('GET', KEYS[3])) or 0
redis.call('DECRBY', KEYS[2], ARGV[4])
redis.call('INCRBY', KEYS[3], ARGV[4])
local now = redis.call('TIME')
local lsn = redis.call('RPUSH', KEYS[4], cmsgpack.pack({KEYS[1], now[1], now[2], ARGV[1], ARGV[2],
    ARGV[3], KEYS[2], KEYS[3], amount, src, dst}))
redis.call('SET', KEYS[1], lsn)
return lsn
"""
"""What was done under this key; the balance; both balances; a record with what they were."""
ACQUIRE: Final = """
local uses = redis.call('INCR', KEYS[1])
if uses == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if uses <= tonumber(ARGV[1]) then return {1, ARGV[1] - uses} end
return {0, redis.call('PTTL', KEYS[1])}
"""
"""A window from the first use, as ours."""


class Server:
    """The server, with the accounts and the configurations."""

    # The file is not rewritten in the middle of a run.
    settings: ClassVar[tuple[str, ...]] = (
        "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0",
    )  # fmt: skip

    def start(self) -> str:
        self._folder = disk_folder()
        path = Path(self._folder.name) / "redis.sock"
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: make bench says how to install it"
        given = ["--port", "0", "--unixsocket", str(path), "--save", "", *self.settings]
        self._process = subprocess.Popen(
            [binary, *given, "--dir", self._folder.name], stdout=subprocess.DEVNULL
        )
        self.pid = self._process.pid
        wait_for("redis-server", path.exists)
        config = msgspec.msgpack.encode(BotConfig())
        with redis.Redis(unix_socket_path=str(path)) as client:
            client.mset({account(number): BALANCE for number in range(ACCOUNTS)})
            client.mset({f"config:{GUILD + number}": config for number in range(GUILDS)})
        return str(path)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


class Member:
    """A client and its pool; a second client that does not await, for reads."""

    async def open(self, address: str, name: str) -> None:
        self._name = name
        self._client = redis.asyncio.Redis(unix_socket_path=address)
        self._reads = redis.Redis(unix_socket_path=address)
        self._transfer = await self._client.script_load(TRANSFER)
        self._acquire = await self._client.script_load(ACQUIRE)

    async def transfer(self, key: str, src: int, dst: int) -> None:
        names = (f"done:{key}", account(src), account(dst), "log")
        lsn = await self._client.evalsha(
            self._transfer, len(names), *names, self._name, USER, REASON, AMOUNT
        )
        assert lsn

    async def acquire(self, key: str) -> bool:
        allowed, _ = await self._client.evalsha(
            self._acquire, 1, f"cooldown:{key}", COOLDOWN_USES, COOLDOWN_S * 1000
        )
        return bool(allowed)

    def reader(self, what: str) -> Callable[[int], object]:
        get = self._reads.get
        if what == CONFIG:
            decode = msgspec.msgpack.Decoder(BotConfig).decode
            keys = [f"config:{GUILD + number}" for number in range(GUILDS)]
            return lambda number: decode(get(keys[number % GUILDS]))
        names = [account(number) for number in range(ACCOUNTS)]
        return lambda number: int(get(names[number % ACCOUNTS]))

    async def close(self) -> None:
        self._reads.close()
        await self._client.aclose()
