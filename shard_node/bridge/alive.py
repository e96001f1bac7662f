"""disnake's keep-alive, held: the latency of a beat."""

from __future__ import annotations

from disnake.gateway import KeepAliveHandler


class NodeKeepAlive(KeepAliveHandler):
    """Measures latency from the beat's sending.

    disnake notes the sending in its thread, after it: an answer that was there before
    counts from the beat before, a whole heartbeat interval too long.
    """

    def ack(self) -> None:
        """The gateway has acknowledged the last beat."""
        self._last_send = getattr(self.ws, "beat_at", self._last_send)
        super().ack()
