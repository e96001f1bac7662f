"""Where disnake finds Discord: its REST base, and on the sandbox the CDN's."""

from __future__ import annotations

from typing import Final

from disnake.asset import Asset
from disnake.http import Route

_CDN_PATH: Final = "/cdn"


def redirect(api_base: str, *, cdn: bool) -> None:
    """Send REST to ``api_base`` unless it is empty; with ``cdn`` assets come from there too."""
    if not api_base:
        return
    Route.BASE = api_base
    if cdn:
        Asset.BASE = Asset.BASE_MEDIA = api_base.partition("/api/")[0] + _CDN_PATH
