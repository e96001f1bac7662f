"""Which part each living process has, by what is kept of the operations: for a new broker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from broker.core.events import Process
from broker.core.operation import OpState
from broker.core.procs import Role
from store.records import OperationRecord

_OPEN = frozenset({OpState.WAITING, OpState.RUNNING})


class Parts(NamedTuple):
    """At most one ``current`` process of a name. ``beside``: with its role and the id of its
    operation. ``strangers`` have none, and shall end."""

    current: tuple[Process, ...]
    beside: tuple[tuple[Process, Role, str], ...]
    strangers: tuple[Process, ...]


def part_of_each(living: Iterable[Process], operations: Iterable[OperationRecord]) -> Parts:
    """The newest process of a name is the current one, but for a successor whose step was not
    flipped, and for what one that was flipped left behind."""
    processes = sorted(living, key=lambda process: (process.name, process.epoch))
    coming, left = _named(operations)
    current: dict[str, Process] = {}
    others = []
    for process in processes:
        key = process.name, process.epoch
        if key in coming or key in left:
            others.append(process)
            continue
        older = current.get(process.name)
        if older is not None:
            others.append(older)
        current[process.name] = process
    beside, strangers = [], []
    for process in others:
        key = process.name, process.epoch
        if key in left:
            beside.append((process, Role.LINGERING, left[key]))
        elif coming.get(key):
            beside.append((process, Role.SUCCESSOR, coming[key]))
        else:
            strangers.append(process)
    return Parts(tuple(current.values()), tuple(beside), tuple(strangers))


def _named(
    operations: Iterable[OperationRecord],
) -> tuple[dict[tuple[str, int], str], dict[tuple[str, int], str]]:
    """Successors that have nothing yet (with "" where their operation is over), and processes
    that successors took the place of: by name and epoch, with the operation."""
    coming: dict[tuple[str, int], str] = {}
    left: dict[tuple[str, int], str] = {}
    for operation in sorted(operations, key=lambda record: record.number):
        for step in operation.steps:
            if not step.new_epoch or step.target not in ("", step.node):
                continue
            if not step.flipped:
                is_open = operation.state in _OPEN
                coming[step.node, step.new_epoch] = operation.id if is_open else ""
            elif step.old_epoch:
                left[step.node, step.old_epoch] = operation.id
    return coming, left
