"""``run``: the one line for bots that say it themselves."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from shard_node import runtime
from shard_node.errors import BotLoadError
from shard_node.settings import TOKEN_ENV

_API_BASE_ENV = "SHARDCTL_API_BASE"
_ALONE = "shard_node: no fleet here, running alone; `shardctl start` starts one\n"


def run(bot: Any, token: str | None = None) -> None:
    """Run ``bot`` until it is closed, as ``bot.run(token)`` does.

    In a process that `shardctl start` began, as a node of the fleet; elsewhere alone, which
    is said once on stderr: the shared state is then in this process's memory, and
    SHARDCTL_API_BASE names another Discord. ``token`` defaults to DISCORD_TOKEN. Raises
    BotLoadError where there is no token, or no URL in the variable.
    """
    node = None
    if runtime.current() is None:
        from shard_node import lone

        node = lone.begin()
        sys.stderr.write(_ALONE)
        _redirect(os.environ.get(_API_BASE_ENV, "").rstrip("/"))
    secret = token or os.environ.get(TOKEN_ENV)
    if not secret:
        raise BotLoadError(
            f"no token: run() was given none and {TOKEN_ENV} is not set",
            code="E_BOT_TOKEN",
            hint=f"set {TOKEN_ENV} in the environment or in the folder's .env",
        )
    if node is not None:
        _feed(node, bot)
    bot.run(secret)


def _feed(node: Any, bot: Any) -> None:
    """What a node's bridge does when it is installed."""
    state = getattr(bot, "_connection", None)
    if state is not None and hasattr(state, "parsers"):
        from shard_node.bridge.feeds import Feeds

        Feeds(node, state)


def _redirect(api_base: str) -> None:
    """What a node's bridge does when it is installed: nobody installs it here."""
    if not api_base:
        return
    try:
        url = urlsplit(api_base)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise BotLoadError(
            f"{_API_BASE_ENV}={api_base} is no http or https URL",
            code="E_API_BASE",
            hint=f"unset {_API_BASE_ENV}",
        )
    # disnake is loaded by the bot that was given, and only the bridge knows of it.
    from shard_node.bridge import origin

    origin.redirect(api_base, cdn=_is_loopback(str(url.hostname)))


def _is_loopback(host: str) -> bool:
    """True where the API is on this machine: a sandbox, which serves the CDN too."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
