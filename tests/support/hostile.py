"""Bots whose folders own the names that the daemon's packages have."""

from __future__ import annotations

from pathlib import Path

_BOT = '''\
"""A bot that uses modules of its own named store, broker and wire."""
import os

import disnake
from disnake.ext import commands

{imports}

assert {check}, "somebody else's module was imported"

bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())


@bot.slash_command(description="what my own modules say")
async def own(inter):
    await inter.response.send_message({answer})


bot.run(os.environ["DISCORD_TOKEN"])
'''


def modules(folder: Path) -> Path:
    """A bot beside its own store.py, broker.py and wire.py."""
    for name in ("store", "broker", "wire"):
        (folder / f"{name}.py").write_text(f"MINE = 'my own {name}'\n")
    return _bot(
        folder,
        "import broker\nimport store\nimport wire",
        "(store.MINE, broker.MINE, wire.MINE) == ('my own store', 'my own broker', 'my own wire')",
        "store.MINE",
    )


def namespace(folder: Path) -> Path:
    """A bot beside its own folder store/ that has no __init__.py."""
    (folder / "store").mkdir()
    (folder / "store" / "shelf.py").write_text("MINE = 'my own shelf'\n")
    return _bot(
        folder,
        "from store import shelf",
        "shelf.MINE == 'my own shelf'",
        "shelf.MINE",
    )


def _bot(folder: Path, imports: str, check: str, answer: str) -> Path:
    main = folder / "main.py"
    main.write_text(_BOT.format(imports=imports, check=check, answer=answer))
    return main
