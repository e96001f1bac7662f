"""Ours: a real broker daemon with its state on a disk, and programs that `connect`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec

from broker.ports.state import FOLDER
from shard_node.peer.connect import Client
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
from tests.support.broker_rig import Rig


class Server:
    """The broker daemon, with the accounts and the configurations."""

    def start(self) -> str:
        self._folder = disk_folder()
        self.rig = Rig(Path(self._folder.name), shards=1, nodes=1)
        self.rig.launch()
        self.rig.hear("serving")
        assert self.rig.process is not None
        self.pid = self.rig.process.pid
        state = str(self.rig.data / FOLDER)
        address = json.dumps({"endpoint": self.rig.endpoint, "state": state})
        asyncio.run(_fill(address))
        return address

    def stop(self) -> None:
        self.rig.__exit__(None, None, None)
        self._folder.cleanup()


async def _fill(address: str) -> None:
    member = Member()
    await member.open(address, "fill")
    node, fields = member.client, msgspec.structs.asdict(BotConfig())
    await asyncio.gather(
        *(node.economy.deposit(account(number), BALANCE) for number in range(ACCOUNTS)),
        *(node.guild_config(GUILD + n, BotConfig).update(**fields) for n in range(GUILDS)),
    )
    await member.close()


class Member:
    """A client of the fleet, that reads the state's file."""

    async def open(self, address: str, name: str) -> None:
        found = json.loads(address)
        # What `connect` makes, told where the state is as a bot's node is.
        self.client = Client(found["endpoint"], name, Path(found["state"]))
        await self.client.open()

    async def transfer(self, key: str, src: int, dst: int) -> None:
        done = await self.client.economy.transfer(
            account(src), account(dst), AMOUNT, idempotency_key=key, user=USER, reason=REASON
        )
        assert done.id

    async def acquire(self, key: str) -> bool:
        found = await self.client.cooldowns.acquire(
            key, COOLDOWN_USES, COOLDOWN_S, broker_down="raise"
        )
        return bool(found)

    def reader(self, what: str) -> Callable[[int], object]:
        if what == CONFIG:
            configs = [self.client.guild_config(GUILD + n, BotConfig) for n in range(GUILDS)]
            return lambda number: configs[number % GUILDS].get()
        balance = self.client.economy.balance
        names = [account(number) for number in range(ACCOUNTS)]
        return lambda number: balance(names[number % ACCOUNTS])

    async def close(self) -> None:
        await self.client.flush()
        self.client.close()
