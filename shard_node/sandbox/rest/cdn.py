"""The CDN: avatars, icons and emoji as small PNG pictures, at the root and under /cdn.

A library's CDN base (`https://cdn.discordapp.com`) is replaced by the sandbox's root.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from shard_node.sandbox.rest.png import SIDE_MAX_PX, picture
from shard_node.sandbox.state import SandboxState

_PATHS: Final = (
    "/emojis/{emoji:\\d+}.{ext}",
    "/avatars/{user:\\d+}/{hash:\\w+}.{ext}",
    "/embed/avatars/{number:\\d}.{ext}",
    "/icons/{guild:\\d+}/{hash:\\w+}.{ext}",
    "/app-icons/{application:\\d+}/{hash:\\w+}.{ext}",
)
_CACHE: Final = {"Cache-Control": "public, max-age=31536000"}


def routes(state: SandboxState) -> list[web.RouteDef]:
    """All pictures; only PNG is drawn (415 for another extension)."""

    async def get(request: web.Request) -> web.Response:
        if request.match_info["ext"] != "png":
            raise web.HTTPUnsupportedMediaType(text="the sandbox draws png only")
        if not _exists(state, request):
            raise web.HTTPNotFound
        body = picture(request.path.removeprefix("/cdn"), _side_px(request))
        return web.Response(body=body, content_type="image/png", headers=_CACHE)

    return [web.get(base + path, get) for base in ("", "/cdn") for path in _PATHS]


def _exists(state: SandboxState, request: web.Request) -> bool:
    """Users and their avatars are known; anything else that is well named is drawn."""
    user_id = request.match_info.get("user")
    if user_id is None:
        return True
    try:
        avatar: object = state.world.user(int(user_id))["avatar"]
    except KeyError:
        return False
    return avatar == request.match_info["hash"]


def _side_px(request: web.Request) -> int:
    size = request.query.get("size", "")
    return min(int(size), SIDE_MAX_PX) if size.isdecimal() else SIDE_MAX_PX
