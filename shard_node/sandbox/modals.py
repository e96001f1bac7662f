"""Modals that users have before them: shown, not yet submitted. Pure."""

from __future__ import annotations

from typing import Final

from shard_node.sandbox.interactions import Interaction
from shard_node.sandbox.payloads import Payload

MODALS_MAX: Final = 1024
"""Modals remembered; the oldest is taken for dismissed, which the bot is never told."""


class Modals:
    """Who was shown which modal, by the interaction that it answered."""

    def __init__(self, modals_max: int = MODALS_MAX) -> None:
        self._modals_max = modals_max
        self._shown: dict[int, tuple[Interaction, Payload]] = {}

    def __len__(self) -> int:
        return len(self._shown)

    def show(self, opener: Interaction, modal: Payload) -> None:
        """The bot answered ``opener`` with a modal."""
        if len(self._shown) >= self._modals_max:
            del self._shown[next(iter(self._shown))]
        self._shown[opener.id] = (opener, modal)

    def take(self, guild_id: int, prefix: str) -> tuple[Interaction, Payload] | None:
        """The latest of a guild whose custom_id begins so; it can be submitted once."""
        for key, (opener, modal) in reversed(self._shown.items()):
            if opener.guild_id == guild_id and str(modal["custom_id"]).startswith(prefix):
                return self._shown.pop(key)
        return None
