"""Bodies of the state's topics: transactions in, outcomes, rows, the log.

A transaction, a row, a key and a record travel as the bytes that ``shard_node.state`` makes of
them, so that one that cannot be read spoils no other.
"""

from __future__ import annotations

from typing import Any, Final

from shard_node.wire.bodies import Body, ErrorBody

MESSAGE_CUT_CHARS: Final = 200
"""What is left of each error's message where a reply is too large."""


class StateDo(Body, frozen=True):
    """Apply these transactions (``shard_node.state.tx.Tx``), each by itself, in this order.
    ``rows``: the sender reads the state's file, and wants to know at once what it wrote."""

    txs: tuple[bytes, ...]
    rows: bool = False


class StateOutcome(Body, frozen=True):
    """What became of one: its lsn and the results of its operations, or ``error`` (lsn 0).
    ``cut``: results or the error's details did not fit into the reply. ``rows``: the bytes of a map
    of what it wrote, keys to rows (None: deleted), since few are ever read there; None where
    they were not asked for, are too many, or were written before."""

    lsn: int
    results: tuple[Any, ...] = ()
    error: ErrorBody | None = None
    cut: bool = False
    rows: bytes | None = None


class StateDone(Body, frozen=True):
    """Reply to ``state.do``, after the commit: an outcome for each transaction, in order."""

    outcomes: tuple[StateOutcome, ...]

    def smaller(self) -> StateDone:
        """The same without results and details: what was committed is said in any case."""
        return StateDone(tuple(map(_cut, self.outcomes)))


def _cut(outcome: StateOutcome) -> StateOutcome:
    error = outcome.error
    if error is not None:
        message = error.message[:MESSAGE_CUT_CHARS]
        error = ErrorBody(error.code, message, retryable=error.retryable)
    return StateOutcome(outcome.lsn, (), error, cut=True)


class StateRead(Body, frozen=True):
    """Ask for rows by their keys."""

    keys: tuple[bytes, ...]


class StateRows(Body, frozen=True):
    """Committed rows as of ``lsn``; None where there is none."""

    lsn: int
    rows: tuple[bytes | None, ...]


class StateScan(Body, frozen=True):
    """Ask for the rows whose keys begin with ``prefix`` and are greater than ``after``."""

    prefix: bytes
    after: bytes = b""
    limit: int = 1000


class StateScanned(Body, frozen=True):
    """Keys and rows in order, as of ``lsn``; ``more``: the limit cut it."""

    lsn: int
    rows: tuple[tuple[bytes, bytes], ...]
    more: bool = False


class StateLog(Body, frozen=True):
    """Ask for records of the log after the lsn ``after`` (``newest``: the last ones instead).

    Only those with an operation among ``kinds``, of the user or of the account, where given.
    """

    after: int = 0
    limit: int = 100
    newest: bool = False
    kinds: tuple[str, ...] = ()
    user: int = 0
    account: str = ""


class StateLogged(Body, frozen=True):
    """Records (``shard_node.state.log.Entry``) in the order of the log. ``read_to``: the last
    lsn that was looked at; ``first`` and ``last`` are the log's own ends."""

    entries: tuple[bytes, ...]
    read_to: int
    first: int
    last: int
    more: bool = False


class StateGuild(Body, frozen=True):
    """Ask for all records of a guild, those after the place ``after``; reply: a GuildSync."""

    guild: int
    after: bytes = b""


class StateMark(Body, frozen=True):
    """Ask where the log stands; a ``wait_lsn`` above it is waited for until the deadline. -1:
    what is durable now."""

    wait_lsn: int = 0


class StateAt(Body, frozen=True):
    """Reply to ``state.mark``, and the event ``state.committed``: the last committed lsn, its
    log time in ms since the epoch, the first lsn that the log still has (one after the last
    where it has none). ``now_ms``: what log time it is now. ``era``: another one since the last
    time means that the rows do not follow by the log from what they were: a backup was restored,
    or rows were imported."""

    lsn: int
    at_ms: int
    first: int = 1
    now_ms: int = 0
    era: str = ""


class StateTrim(Body, frozen=True):
    """Trim the log, behind a backup that is made and verified for it: to its ``records`` newest
    records, or to those of the last ``log_ms`` of log time; both 0: as the settings say."""

    records: int = 0
    log_ms: int = 0
    dry_run: bool = False


class StateTrimming(Body, frozen=True):
    """Reply to ``state.trim``, at once: that records ``first`` to ``up_to`` would go of a log
    that ends at ``last`` (none where ``up_to`` is less than ``first``). It is done when
    `status` counts more than ``runs`` backups."""

    first: int
    up_to: int
    last: int
    runs: int


class CooldownUse(Body, frozen=True):
    """One use of a cooldown's key: one of ``rate`` in ``per_ms``, at most 60,000 of them;
    longer ones are transactions (``state.do``)."""

    key: str
    rate: int
    per_ms: int


class CooldownAcquire(Body, frozen=True):
    """Take these uses, each by itself, in this order."""

    uses: tuple[CooldownUse, ...]


class CooldownStep(Body, frozen=True):
    """What became of a use: allowed where ``retry_after_ms`` is 0, or ``error``. ``remaining``
    uses are left in the window."""

    retry_after_ms: int = 0
    remaining: int = 0
    error: ErrorBody | None = None


class CooldownSteps(Body, frozen=True):
    """Reply to ``cooldown.acquire``: for each use, in order."""

    steps: tuple[CooldownStep, ...]


class CooldownShow(Body, frozen=True):
    """Ask for the short cooldowns that run, of keys with this prefix."""

    prefix: str = ""
    limit: int = 1000


class CooldownShown(Body, frozen=True):
    """Key, start, end (ms of log time), and uses that are gone, in the keys' order."""

    windows: tuple[tuple[str, int, int, int], ...]
    at_ms: int
    more: bool = False


class CooldownClear(Body, frozen=True):
    """Forget the uses of short cooldowns. Reply: a CooldownCleared."""

    keys: tuple[str, ...]


class CooldownCleared(Body, frozen=True):
    """How many of them there were."""

    count: int
