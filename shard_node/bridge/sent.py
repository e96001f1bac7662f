"""What the bot has sent of late: which messages, in which channels, and which modals.

An event names a message; whether this process sent it nobody else could say later.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

SENT_MAX: Final = 2048
"""Messages with components, and as many without; the oldest are forgotten."""
MODALS_MAX: Final = 256
_MODAL: Final = 9
_CALLBACK: Final = re.compile(r"/interactions/(\d+)/[^/]+/callback")
_MAKES: Final = ("POST", "PATCH")


class Sent:
    """Of one process. ``told`` is called when there is something new; ``made`` gets each
    message that was sent."""

    def __init__(self) -> None:
        self.told: Callable[[], None] | None = None
        self.made: Callable[[Mapping[str, Any]], None] | None = None
        self._pressable: OrderedDict[int, int] = OrderedDict()
        self._plain: OrderedDict[int, int] = OrderedDict()
        self._modals: OrderedDict[str, None] = OrderedDict()

    def messages(self, *, plain: bool) -> tuple[int, ...]:
        """Messages with components, and interactions that were answered with some; with
        ``plain`` those without as well."""
        return (*self._pressable, *(self._plain if plain else ()))

    @property
    def modals(self) -> tuple[str, ...]:
        """Custom ids of modals that were shown."""
        return tuple(self._modals)

    @property
    def channels(self) -> set[int]:
        """Where something was sent, as far as that is known."""
        return {*self._pressable.values(), *self._plain.values()} - {0}

    def channel(self, message: int) -> int:
        """Where a message was sent; 0: nobody knows."""
        return self._pressable.get(message) or self._plain.get(message) or 0

    def asked(self, route: Any, payload: Any) -> None:
        """Before a request goes out: what answers an interaction has no id of its own yet.
        ``payload`` None: it has files, and is not looked into."""
        found = _CALLBACK.search(route.url) if route.path.endswith("/callback") else None
        if found is None:
            return
        data = (payload or {}).get("data") or {}
        if payload is not None and payload.get("type") == _MODAL:
            _keep(self._modals, str(data.get("custom_id", "")), None, MODALS_MAX)
        else:
            self._note(int(found[1]), 0, payload is None or bool(data.get("components")))
        self._tell()

    def answered(self, route: Any, answer: Any) -> None:
        """What a request made, as it came back: a message, or something that has one."""
        if route.method not in _MAKES or not isinstance(answer, Mapping):
            return
        message = (answer.get("resource") or answer).get("message") or answer
        if not isinstance(message, Mapping) or not {"id", "channel_id", "author"} <= {*message}:
            return
        pressable = bool(message.get("components"))
        self._note(int(message["id"]), int(message["channel_id"]), pressable)
        self._tell()
        if self.made is not None and route.method == "POST":
            self.made(message)

    def _note(self, identifier: int, channel: int, pressable: bool) -> None:
        store = self._pressable if pressable else self._plain
        _keep(store, identifier, channel, SENT_MAX)

    def _tell(self) -> None:
        if self.told is not None:
            self.told()


def _keep(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    store[key] = value
    store.move_to_end(key)
    if len(store) > most:
        store.popitem(last=False)
