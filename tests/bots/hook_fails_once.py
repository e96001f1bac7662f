"""Its hook fails before the first IDENTIFY."""
import os

import disnake


class Bot(disnake.AutoShardedClient):
    failed = False

    async def before_identify_hook(self, shard_id, *, initial=False):
        if not Bot.failed:
            Bot.failed = True
            raise OSError("the hook's own trouble")

    async def on_ready(self):
        print("ready [hook]", flush=True)


Bot(intents=disnake.Intents.default()).run(os.environ["DISCORD_TOKEN"])
