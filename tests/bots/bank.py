"""Makes its node's transfers, 64 at a time, and writes down each answer before it counts.

After its death it goes on where its file ends: what has no answer is asked for again, under
the same key. What is done for the file `go` only.
"""

import asyncio
import json
import os
from pathlib import Path

import shard_node
from shard_node.examples.bot import bot

NODE = os.environ["SHARDCTL_NODE"]
IN_FLIGHT = 64
AGAIN_S = 0.02
node = shard_node.node
file = os.open(f"said-{NODE}-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
working = None


def say(word, key, rest):
    os.write(file, f"{word} {key.replace(' ', '_')} {rest}\n".encode())


def left():
    """What has no answer so far; half a line is none."""
    settled = set()
    for path in Path().glob(f"said-{NODE}-*"):
        for line in path.read_text().split("\n")[:-1]:
            word, key, _ = line.split(" ", 2)
            if word in ("ok", "no"):
                settled.add(key.replace("_", " "))
    ops = json.loads(Path(f"plan-{NODE}.json").read_text())
    return [op for op in ops if op[0] not in settled]


async def transfer(key, source, target, amount, timeout_s):
    """Why it was refused; None: confirmed. A refusal is written down by the caller, when no
    other call with this key is on its way, which may still be applied."""
    while True:
        try:
            tx = await node.economy.transfer(
                source, target, amount, idempotency_key=key, timeout_s=timeout_s
            )
        except shard_node.InsufficientFunds as error:
            return error.code
        except shard_node.ShardNodeError as error:
            if not error.retryable:
                return say("error", key, repr(error))
            say("unsure", key, error.code)
            await asyncio.sleep(AGAIN_S)
        except Exception as error:
            return say("error", key, repr(error))
        else:
            return say("ok", key, tx.id)


async def pair(key, one):
    """Two calls at once. A refusal after a confirmation is written down: it is a fault."""
    refused = None
    confirmed = False
    for call in asyncio.as_completed([transfer(*one), transfer(*one)]):
        code = await call
        confirmed |= code is None
        if code is not None and (confirmed or refused is not None):
            say("no", key, code)
        refused = refused or code


async def worker(ops):
    for key, source, target, amount, how, timeout_s in ops:
        one = (key, source, target, amount, timeout_s)
        if how == "pair":
            await pair(key, one)
            continue
        code = await transfer(*one)
        if code is not None:
            say("no", key, code)
        elif how == "again" and (code := await transfer(*one)) is not None:
            say("no", key, code)


async def work():
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    ops = iter(left())
    await asyncio.gather(*(worker(ops) for _ in range(IN_FLIGHT)))


@bot.listen()
async def on_ready():
    global working
    if working is None:
        working = asyncio.create_task(work())


bot.run(os.environ["DISCORD_TOKEN"])
