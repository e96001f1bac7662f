"""The REST surface that a bot touches, API v10: one table of routes by area."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from shard_node.sandbox.rest import (
    cdn,
    commands,
    gateway,
    guilds,
    hooks,
    members,
    messages,
    pins,
    reactions,
    roles,
    threads,
    webhooks,
)
from shard_node.sandbox.rest.call import Route
from shard_node.sandbox.rest.shell import endpoint, unknown
from shard_node.sandbox.state import SandboxState

ROUTES: Final[tuple[Route, ...]] = (
    *gateway.ROUTES,
    *commands.ROUTES,
    *pins.ROUTES,
    *messages.ROUTES,
    *threads.ROUTES,
    *reactions.ROUTES,
    *guilds.ROUTES,
    *members.ROUTES,
    *roles.ROUTES,
    *hooks.ROUTES,
    *webhooks.ROUTES,
)
"""First match wins: a literal path stands before the pattern that would take it."""


def routes(state: SandboxState) -> list[web.RouteDef]:
    """All routes under /api, and the CDN."""
    return [
        *(endpoint(state, route) for route in ROUTES),
        *cdn.routes(state),
        web.route("*", "/api/{tail:.*}", unknown(state)),
    ]
