"""What still waits here for events of shards that were given up: views, modals, handlers,
``wait_for``. Their new holder is told, and passes on what belongs here (`passing`).

A process that has given all its shards to its successor lingers: it ends when nothing waits in
it any more, and after ``linger_s`` in any case.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge import loops
from shard_node.bridge.stop import handlers_running
from shard_node.effects import StopAsked
from shard_node.errors import ShardNodeError
from shard_node.wire.lingering import Living, Waits
from shard_node.wire.targets import Node, Shard, Target
from shard_node.wire.topics import LINGER_WAITS

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
SOON_S: Final = 0.02
"""What changes is told within this time; what changes more often is told together."""
TELL_EVERY_S: Final = 10.0
"""Also where nothing has changed: a holder may be new."""
TELL_TTL_S: Final = 2.5
GUILD_TOLD_S: Final = 0.05
"""How long a guild is held up at most by telling its next owner what waits here for it."""
_INTERACTIONS: Final = frozenset(
    {"interaction", "message_interaction", "button_click", "dropdown", "modal_submit"}
)


class Lingering:
    """Of one bot. The methods are what `moves` calls."""

    def __init__(self, hold: Hold) -> None:
        self._hold, self._node = hold, hold.node
        self.label = f"{hold.node.name}#{hold.node.epoch}"
        self._max_s = hold.node.settings.linger_s
        self._given: dict[int, str] = {}
        """Shards that others have, and the process that each was given to."""
        self._guilds: dict[int, tuple[str, float]] = {}
        """Guilds that others have: the process that each was given to, and until when."""
        self._until = 0.0
        self._lingers = False
        self._told: Waits | None = None
        self._told_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._tasks = set[asyncio.Task[None]]()
        hold.sent.told = self.changed

    def hang_in(self) -> None:
        """Be told of shards that go and come."""
        moves = self._hold.moves
        moves.releasing, moves.settled, moves.busy = self.releasing, self.settled, self.busy

    # --- what moves says

    def releasing(self, shard: int, target: str) -> None:
        """A shard is about to be given up: the journal says what waits here for it."""
        self._given[shard] = target
        self._until = max(self._until, time.monotonic() + self._max_s)
        hold = self._hold
        journal = None if hold.keeping is None else hold.keeping.journals.get(shard)
        if journal is not None:
            living = hold.passing.affinity.living(shard)
            own = (self.waits(),) if self.count() else ()
            if own or living or journal.story.waits:
                journal.waits(Living((*own, *living)))
        if self._timer is None:
            self._watch()

    def taken(self, shard: int) -> None:
        """A shard is this process's, perhaps again."""
        self._given.pop(shard, None)

    def settled(self) -> None:
        """All shards are the successor's for good."""
        if self._lingers:
            return
        self._lingers = True
        ended = loops.stop_all()
        self._until = time.monotonic() + self._max_s
        waits = self.count()
        if waits:
            _log.info(
                "all shards are another process's; %d views, modals or handlers wait here, for "
                "%.0f s at most; %d loops end",
                waits,
                self._max_s,
                ended,
            )
        self._look()

    def busy(self, shard: int) -> bool:
        """Whether something here needs what the caches hold of a shard that was given up."""
        keeping = self._hold.keeping
        if keeping is not None and keeping.busy(shard):
            return True
        return shard in self._given and time.monotonic() < self._until and bool(self.count())

    # --- what hosting says

    async def guild_given(self, guild: int, to: str) -> None:
        """A guild is about to be another process's: it is told what waits here."""
        if not to or to == self.label or not self.count():
            return
        self._guilds[guild] = (to, time.monotonic() + self._max_s)
        waits = self._told = self.waits()
        self._told_at = time.monotonic()
        if self._timer is None:
            self._watch()
        telling = asyncio.create_task(self._send(Node(to), waits), name="shardctl: lingering")
        self._tasks.add(telling)
        telling.add_done_callback(self._tasks.discard)
        await asyncio.wait({telling}, timeout=GUILD_TOLD_S)

    def guild_taken(self, guild: int) -> None:
        """A guild is handled here again."""
        self._guilds.pop(guild, None)

    def guild_views(self, guild: int) -> int:
        """Views on messages that were sent in a guild, as far as is known where that was."""
        client = self._hold.client
        found, state = client.get_guild(guild), client._connection
        if found is None:
            return 0
        views = {
            view.id
            for (_, message, _), (view, _) in state._view_store._views.items()
            if message is not None
            and not view.is_finished()
            and found.get_channel_or_thread(self._hold.sent.channel(message)) is not None
        }
        return len(views)

    def close(self) -> None:
        """The process ends."""
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()

    # --- what waits

    def count(self) -> int:
        """How much waits in this process: views, modals, ``wait_for``; where there are none,
        handlers that run. A view without a message that is persistent waits everywhere."""
        state = self._hold.client._connection
        views = {
            view.id
            for (_, message, _), (view, _) in state._view_store._views.items()
            if not view.is_finished() and not (message is None and view.is_persistent())
        }
        found = len(views) + len(state._modal_store._modals) + len(self._waiters())
        return found or len(handlers_running())

    def _waiters(self) -> list[str]:
        """The events that ``wait_for`` waits for."""
        listeners = self._hold.client._listeners
        return [
            event
            for event, waiting in listeners.items()
            for future, _ in waiting
            if not future.done()
        ]

    def waits(self, *, over: bool = False) -> Waits:
        """As the holders of the shards are told."""
        node, sent = self._node, self._hold.sent
        shards = tuple(sorted(self._given))
        if over:
            return Waits(self.label, node.num_shards, shards, over=True)
        state = self._hold.client._connection
        kinds = tuple(dict.fromkeys(self._waiters()))
        others = bool({*kinds} - _INTERACTIONS)
        channels = {*sent.channels, *self._hold.tracking.channels()} if others else set()
        shown = ((0, modal) for modal in sent.modals) if "modal_submit" in kinds else ()
        return Waits(
            self.label,
            node.num_shards,
            shards,
            components=tuple(
                dict.fromkeys(
                    (message or 0, custom_id)
                    for (_, message, custom_id), (view, _) in state._view_store._views.items()
                    if not view.is_finished()
                )
            ),
            modals=(*state._modal_store._modals, *shown),
            sent=sent.messages(plain=others),
            channels=tuple(sorted(channels)),
            kinds=kinds,
        )

    # --- telling

    def changed(self) -> None:
        """Something was sent, shown or is waited for; told soon where others have shards."""
        if (self._given or self._guilds) and self._soon is None:
            loop = asyncio.get_running_loop()
            self._soon = loop.call_later(SOON_S, self._tell_soon)

    def _tell_soon(self) -> None:
        self._soon = None
        if self._given or self._guilds:
            self._tell(self.waits())

    def _watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """Once a second, as long as others have shards of which something waits here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, count = time.monotonic(), self.count()
        self._node.vitals.lingers = count if self._lingers or not self._node.shards else 0
        self._look_at_guilds(now, count)
        if self._given or self._guilds:
            waits = self.waits()
            if waits != self._told or now >= self._told_at + TELL_EVERY_S:
                self._tell(waits)
        over = not count or now >= self._until
        if over and self._lingers:
            self._end(count)
        elif over and self._given and all(one not in self._node.shards for one in self._given):
            self._tell(self.waits(over=True))
            self._given.clear()
            self._told = None
        if self._given or self._guilds:
            self._watch()

    def _look_at_guilds(self, now: float, count: int) -> None:
        ended = [one for one, (_, until) in self._guilds.items() if not count or now >= until]
        gone = {self._guilds.pop(guild)[0] for guild in ended}
        for to in gone - {to for to, _ in self._guilds.values()}:
            self._later(self._send(Node(to), self.waits(over=True)))

    def _tell(self, waits: Waits) -> None:
        if waits.over and self._told is None:
            return  # nobody knows of anything
        self._told, self._told_at = waits, time.monotonic()
        guilds = {Node(to) for to, _ in self._guilds.values()}
        for target in {*guilds, *(self._holder(shard) for shard in self._given)}:
            self._later(self._send(target, waits))

    def _holder(self, shard: int) -> Target:
        """Until it is settled the shard is still routed to this process."""
        if shard in self._node.shards:
            return Node(self._given[shard])
        return Shard(shard)

    async def _send(self, target: Target, waits: Waits) -> None:
        try:
            await self._node.send(target, LINGER_WAITS, waits, ttl_s=TELL_TTL_S)
        except ShardNodeError as error:  # it is told again
            _log.debug("%s was not told what waits here: %s", target, error)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="shardctl: lingering")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, count: int) -> None:
        if count:
            _log.warning("%d views, modals or handlers still wait here; they end now", count)
        self._tell(self.waits(over=True))
        self._given.clear()
        self._guilds.clear()
        reason = "nothing waits in it any more" if not count else "it has lingered long enough"
        self._later(self._stop(StopAsked(reason, None if count else 0.0, False)))

    async def _stop(self, stop: StopAsked) -> None:
        told = [task for task in self._tasks if task is not asyncio.current_task()]
        if told:
            await asyncio.wait(told, timeout=TELL_TTL_S)
        self._node.ask_stop(stop)
