"""Proof of the money: what all accounts hold is what the sources gave less what the sinks took.

Once from the tables, once from the log, record by record; and both must agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from shard_node.state import economy
from shard_node.state.erasing import FORGOTTEN, ForgetUser, belongs
from shard_node.state.keys import PARTITIONS, Part, Table, parse_key
from shard_node.state.log import Entry, Payload
from shard_node.state.rollback import Rollback
from shard_node.state.rows import Row, read
from shard_node.state.undo import Give, Recount
from shard_node.state.views import Reads

R = TypeVar("R", bound=Row)


class Finding(NamedTuple):
    """Something that is not as it must be. ``code`` is stable, ``where`` an account or an lsn."""

    code: str
    where: str
    text: str


class Sums:
    """Balances by account, and what each source gave and each sink took. ``unknown``: records
    whose payload was erased, of which only ``minted`` tells; then accounts cannot be compared,
    the sum of all still can. ``unknown_to`` is the last of them."""

    def __init__(self) -> None:
        self.accounts: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.sinks: Counter[str] = Counter()
        self.minted = 0
        self.unknown = self.unknown_to = 0

    @property
    def balance(self) -> int:
        """What all accounts hold."""
        return sum(self.accounts.values())

    @property
    def created(self) -> int:
        """What the sources gave less what the sinks took."""
        return sum(self.sources.values()) - sum(self.sinks.values())

    def plain(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "accounts": sum(map(bool, self.accounts.values())),
            "balance": self.balance,
            "sources": dict(sorted(self.sources.items())),
            "sinks": dict(sorted(self.sinks.items())),
            "created": self.created,
        }


def audit(view: Reads) -> tuple[Sums, list[Finding]]:
    """From the tables: the sums, and what is wrong."""
    sums = Sums()
    findings: list[Finding] = []
    for parts, account in _rows(view, Table.ACCOUNT, economy.Account, findings):
        name = str(parts[0])
        sums.accounts[name] = account.balance
        if not account.floor <= account.balance <= economy.AMOUNT_MAX:
            text = f"its balance {account.balance} is beyond its limit {account.floor}"
            findings.append(Finding("limit", name, text))
    for parts, total in _rows(view, Table.TOTAL, economy.Total, findings):
        side, name = map(str, parts)
        (sums.sources if side == economy.SOURCE else sums.sinks)[name] = total.amount
        if total.amount < 0:
            findings.append(Finding("total", name, f"the {side} came to {total.amount} in all"))
    sums.minted = sums.created
    if sums.balance != sums.created:
        text = f"all accounts hold {sums.balance}; sources less sinks are {sums.created}"
        findings.append(Finding("sum", "", text))
    return sums, findings


def audit_log(entries: Iterable[Entry], start: Sums | None = None) -> tuple[Sums, list[Finding]]:
    """From the log: the sums that its records lead to, and what is wrong with them.

    ``start``: what was before the first of them, where the log is trimmed; it is added to.
    """
    sums = start or Sums()
    findings: list[Finding] = []
    for entry in entries:
        sums.minted += entry.minted
        payload = entry.payload()
        if payload is None:
            sums.unknown += 1
            sums.unknown_to = entry.lsn
            continue
        findings += _record(entry, payload, sums)
    if not sums.unknown and sums.balance != sums.minted:
        text = f"all accounts hold {sums.balance}; the records created {sums.minted}"
        findings.append(Finding("sum", "", text))
    return sums, findings


def compare(tables: Sums, log: Sums) -> list[Finding]:
    """Where the tables and the log do not agree."""
    findings = []
    if tables.balance != log.minted:
        text = f"all accounts hold {tables.balance}; the records created {log.minted}"
        findings.append(Finding("log_sum", "", text))
    if log.unknown:
        return findings
    for code, mine, theirs in (
        ("log_account", tables.accounts, log.accounts),
        ("log_source", tables.sources, log.sources),
        ("log_sink", tables.sinks, log.sinks),
    ):
        findings += [
            Finding(code, name, f"{mine[name]} in the tables, {theirs[name]} from the log")
            for name in sorted(mine.keys() | theirs.keys())
            if mine[name] != theirs[name]
        ]
    return findings


def _record(entry: Entry, payload: Payload, sums: Sums) -> list[Finding]:
    """Add a record's money: as its way back says it, which its operations must agree with."""
    moved, minted = Counter[str](), Counter[tuple[str, str]]()
    for step in payload.undo:
        if isinstance(step, Give):
            moved[step.account] -= step.amount
        elif isinstance(step, Recount):
            minted[step.side, step.name] -= step.amount
    if ForgetUser.__name__ in entry.kinds:
        if sums.unknown:
            return []
        _forget(payload, sums, moved, minted)
    elif Rollback.__name__ not in entry.kinds:
        said = _said(payload)
        if said != _nonzero(moved):
            text = f"its operations move {said}, its way back {_nonzero(moved)}"
            return [Finding("record", str(entry.lsn), text)]
    sums.accounts.update(moved)
    for (side, name), amount in minted.items():
        (sums.sources if side == economy.SOURCE else sums.sinks)[name] += amount
    created = sum(n if side == economy.SOURCE else -n for (side, _), n in minted.items())
    if (created, created) != (entry.minted, sum(moved.values())):
        text = f"it created {created} of {entry.minted}, and accounts got {sum(moved.values())}"
        return [Finding("record", str(entry.lsn), text)]
    return []


def _said(payload: Payload) -> dict[str, int]:
    moved = Counter[str]()
    for op in payload.ops:
        match op:
            case economy.Transfer(source=source, target=target, amount=amount):
                moved[source] -= amount
                moved[target] += amount
            case economy.Deposit(account=account, amount=amount):
                moved[account] += amount
            case economy.Withdraw(account=account, amount=amount):
                moved[account] -= amount
    return _nonzero(moved)


def _forget(
    payload: Payload, sums: Sums, moved: Counter[str], minted: Counter[tuple[str, str]]
) -> None:
    """A record that a person was forgotten has no way back: his accounts went with all in
    them. It is its transaction's only operation."""
    users = [op.user for op in payload.ops if isinstance(op, ForgetUser)]
    for name in sorted(sums.accounts):
        held = sums.accounts[name]
        if held and any(belongs(name, user) for user in users):
            moved[name] -= held
            side = economy.SINK if held > 0 else economy.SOURCE
            minted[side, FORGOTTEN] += abs(held)


def _nonzero(moved: Counter[str]) -> dict[str, int]:
    return {name: amount for name, amount in moved.items() if amount}


def _rows(
    view: Reads, table: Table, kind: type[R], findings: list[Finding]
) -> Iterator[tuple[tuple[Part, ...], R]]:
    for partition in range(PARTITIONS):
        for key, data in view.scan(bytes((partition, table))):
            try:
                row = read(kind, data)
            except msgspec.MsgspecError as error:
                findings.append(Finding("row", key.hex(), f"it cannot be read: {error}"))
                continue
            if row is not None:
                yield parse_key(key)[1], row
