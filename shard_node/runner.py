"""``run``: the one line for bots that say it themselves."""

from __future__ import annotations

import os
import sys
from typing import Any

from shard_node import runtime
from shard_node.errors import BotLoadError
from shard_node.settings import TOKEN_ENV

_ALONE = "shard_node: no fleet here, running alone; `shardctl start` starts one\n"


def run(bot: Any, token: str | None = None) -> None:
    """Run ``bot`` until it is closed, as ``bot.run(token)`` does.

    In a process that `shardctl start` began, as a node of the fleet; elsewhere alone, which
    is said once on stderr. ``token`` defaults to DISCORD_TOKEN. Raises BotLoadError where
    there is no token.
    """
    if runtime.current() is None:
        sys.stderr.write(_ALONE)
    secret = token or os.environ.get(TOKEN_ENV)
    if not secret:
        raise BotLoadError(
            f"no token: run() was given none and {TOKEN_ENV} is not set",
            code="E_BOT_TOKEN",
            hint=f"set {TOKEN_ENV} in the environment or in the folder's .env",
        )
    bot.run(secret)
