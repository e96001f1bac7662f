"""Who has premium: ``node.premium``. Discord's entitlement events feed it as well.

A subject is ``"user:ID"`` or ``"guild:ID"``; tiers of one subject stand beside each other,
each with its own end. They end by log time, which follows no jump of the wall clock.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime

from shard_node.shared.backend import Tx
from shard_node.shared.changes import PremiumChanged
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state import premium
from shard_node.state.rows import read


class Premium:
    """Grants of tiers. Changes raise StateError's children, and BrokerUnavailable,
    RequestTimeout or QueueFull (retryable)."""

    def __init__(self, sink: Sink, watching: Watching) -> None:
        self._sink, self._watching = sink, watching
        self.tier_of_sku: dict[int, str] = {}
        """What an entitlement to one of Discord's SKUs gives; else it is "sku:ID"."""

    def grant(
        self,
        subject: str,
        tier: str,
        until: datetime | float | None = None,
        *,
        source: str = "",
        user: int = 0,
        reason: str = "",
    ) -> Awaitable[Tx]:
        """Give a tier until ``until`` (a datetime with a zone, or seconds since the epoch; None:
        for ever). One that is active only gets longer. Raises BadName, BadValue."""
        premium.subject_key(subject)
        premium.check_tier(tier, source)
        until_ms = self._sink.backend.clock.until_ms(until) or premium.FOREVER_MS
        op = premium.GrantPremium(subject, tier, until_ms, 0, source)
        return self._sink.do(op, user=user, reason=reason)

    def revoke(
        self, subject: str, tier: str = "", *, user: int = 0, reason: str = ""
    ) -> Awaitable[Tx]:
        """Take a tier away; ``""``: all of them. Raises BadName, NotThere."""
        premium.subject_key(subject)
        _check_tier(tier)
        return self._sink.do(premium.RevokePremium(subject, tier), user=user, reason=reason)

    def is_active(self, subject: str, tier: str = "") -> bool:
        """Whether the subject has this tier now (``""``: any), as this process knows it.

        Raises BadName, BadValue.
        """
        _check_tier(tier)
        backend = self._sink.backend
        row = read(premium.Premium, backend.get(premium.subject_key(subject)))
        return premium.is_active(row, backend.clock.at_ms(), tier)

    def tiers(self, subject: str) -> dict[str, float | None]:
        """The tiers that are active, as this process knows them, and when each ends: seconds
        since the epoch by today's wall clock, None for never."""
        return self._tiers(self._sink.backend.get(premium.subject_key(subject)))

    def source(self, subject: str, tier: str) -> str | None:
        """Where the tier came from, as this process knows it; None where it is not active."""
        premium.check_tier(tier)
        backend = self._sink.backend
        row = read(premium.Premium, backend.get(premium.subject_key(subject)))
        found = premium.active(row, backend.clock.at_ms()).get(tier)
        return None if found is None else found.source

    async def fetch(self, subject: str) -> dict[str, float | None]:
        """As ``tiers``, as the broker has it now."""
        (data,) = await self._sink.backend.fetch((premium.subject_key(subject),))
        return self._tiers(data)

    def watch(self, handler: Watcher, subject: str | None = None) -> Unwatch:
        """Call ``handler`` with each PremiumChanged, of one subject or of all."""
        if subject is not None:
            premium.subject_key(subject)
        wanted = {} if subject is None else {"subject": subject}
        return self._watching(PremiumChanged, handler, wanted)

    def _tiers(self, data: bytes | None) -> dict[str, float | None]:
        clock = self._sink.backend.clock
        return {
            tier: None if grant.until_ms == premium.FOREVER_MS else clock.wall_s(grant.until_ms)
            for tier, grant in premium.active(read(premium.Premium, data), clock.at_ms()).items()
        }


def _check_tier(tier: str) -> None:
    if tier != "":
        premium.check_tier(tier)
