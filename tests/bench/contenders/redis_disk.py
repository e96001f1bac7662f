"""redis-server that syncs every write before it answers, and a script that does a transfer.

Used as redis-py's users do: one `redis.asyncio.Redis` a process with hiredis, each request in
flight on a connection of its pool, the script by its hash. Redis answers all that it read in
one turn of its loop after one fsync.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import redis

# The file is not rewritten in the middle of a run.
from tests.bench.contenders.state_base import (
    ACCOUNTS,
    AMOUNT,
    BALANCE,
    REASON,
    USER,
    account,
    disk_folder,
)
from tests.support.waiting import wait_for

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
TRANSFER = """
local done = redis.call('GET', KEYS[1])
if done then return done end
local src = tonumber(redis.call('GET', KEYS[2]))
if not src then return redis.error_reply('E_NO_ACCOUNT') end
local amount = tonumber(ARGV[4])
if src < amount then return redis.error_reply('E_FUNDS') end
local dst = tonumber(redis.call('GET', KEYS[3])) or 0
redis.call('DECRBY', KEYS[2], ARGV[4])
redis.call('INCRBY', KEYS[3], ARGV[4])
local now = redis.call('TIME')
local entry = cmsgpack.pack({KEYS[1], now[1], now[2], ARGV[1], ARGV[2], ARGV[3],
    KEYS[2], KEYS[3], amount, src, dst})
local lsn = redis.call('RPUSH', KEYS[4], entry)
redis.call('SET', KEYS[1], lsn)
return lsn
"""
"""What was done under this key; the balance; both balances; a record with what they were."""


class Server:
    """The server, with the accounts."""

    durable = DURABLE

    def start(self) -> str:
        self._folder = disk_folder()
        path = Path(self._folder.name) / "redis.sock"
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: make bench says how to install it"
        settings = ["--port", "0", "--unixsocket", str(path), "--save", "", *self.durable]
        self._process = subprocess.Popen(
            [binary, *settings, "--dir", self._folder.name], stdout=subprocess.DEVNULL
        )
        self.pid = self._process.pid
        wait_for("redis-server", path.exists)
        with redis.Redis(unix_socket_path=str(path)) as client:
            client.mset({account(number): BALANCE for number in range(ACCOUNTS)})
        return str(path)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


class Member:
    """One client and its pool."""

    async def open(self, address: str, name: str) -> None:
        from redis.asyncio import Redis

        self._name = name
        self._client = Redis(unix_socket_path=address)
        self._transfer = await self._client.script_load(TRANSFER)

    async def transfer(self, key: str, src: int, dst: int) -> None:
        lsn = await self._client.evalsha(
            self._transfer,
            4,
            f"done:{key}",
            account(src),
            account(dst),
            "log",
            self._name,
            USER,
            REASON,
            AMOUNT,
        )
        assert int(lsn)

    async def close(self) -> None:
        await self._client.aclose()
