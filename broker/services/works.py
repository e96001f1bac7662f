"""All who work on the steps of operations, each on its kinds."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects
from broker.core.events import Exited, StepFlipped
from broker.core.fleet import Fleet
from broker.core.operation import GUILD_KINDS, Operation
from broker.services.migrating import Migrating
from broker.services.moving import Moving
from broker.services.respawns import Respawns
from broker.services.scaling import SCALE, Scaling
from broker.services.transfers import Transfers
from store.records import Durable

RESPAWN: Final = "respawn"


class Works:
    """Of one fleet. How steps ended stands in ``transfers.ended``."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self.transfers = Transfers(fleet)
        self.respawns = Respawns(fleet, self.transfers)
        self.moving = Moving(fleet, self.transfers)
        self.migrating = Migrating(fleet, self.transfers)
        self.scaling = Scaling(fleet, durable, self.transfers, self.moving)

    @property
    def busy(self) -> bool:
        """Whether somebody is to be looked at again and again."""
        return self.respawns.busy or self.moving.busy or self.scaling.busy

    def deadlines(self) -> list[float | None]:
        """When each wants to be looked at, at the latest."""
        parts = (self.transfers, self.respawns, self.migrating)
        return [part.next_deadline() for part in parts]

    def of(self, operation: Operation) -> Respawns | Moving | Scaling | Migrating:
        """Who works on the steps of an operation."""
        if operation.kind in GUILD_KINDS:
            return self.migrating
        if operation.kind == SCALE:
            return self.scaling
        return self.respawns if operation.kind == RESPAWN else self.moving

    def look(self, now: float) -> Effects:
        """Everybody looks at what is."""
        return [
            *self.transfers.look(now),
            *self.respawns.look(now),
            *self.moving.look(now),
            *self.migrating.look(now),
            *self.scaling.look(now),
        ]

    def flipped(self, event: StepFlipped, now: float) -> Effects:
        """A step's flip is in the store, or is not."""
        of_scale = self.scaling.flipped(event, now)
        of_guild = self.migrating.flipped(event, now)
        return self.transfers.flipped(event, now) + of_scale + of_guild

    def exited(self, event: Exited) -> None:
        """A process has ended."""
        self.respawns.exited(event)
        self.scaling.exited(event)
        self.transfers.exited(event)

    def forget(self) -> None:
        """The fleet stops."""
        for part in (self.transfers, self.respawns, self.moving, self.migrating, self.scaling):
            part.forget()
