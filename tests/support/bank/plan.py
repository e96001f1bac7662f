"""What the bank's nodes are to transfer: decided by a seed, so that all is known beforehand."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

ACCOUNTS: Final = 100
START: Final = 1_000
"""Of each account at its opening."""
MONEY: Final = ACCOUNTS * START
AMOUNT_MAX: Final = 100
NODES: Final = ("a", "b", "c", "d")
PATIENT_S: Final = 10.0
HASTY_S: Final = (0.05, 1.0)
"""How long some wait: less than a dead broker is away, so that nobody knows what became of it."""
MOMENT_S: Final = 0.05
STARTING_S: Final = 0.4
"""A broker's start takes less."""

ONCE: Final = "once"
OVER: Final = "over"
"""For more than all the money there is."""
PAIR: Final = "pair"
"""Twice at the same time, under one key."""
AGAIN: Final = "again"
"""Once more after it was confirmed, under one key."""


class Op(NamedTuple):
    """One transfer, and how it is asked for."""

    key: str
    source: str
    target: str
    amount: int
    how: str
    timeout_s: float


class Kill(NamedTuple):
    """SIGKILL for ``who`` once ``at`` transfers have their answer and ``delay_s`` is over."""

    at: int
    who: str
    delay_s: float


def accounts() -> list[str]:
    """The names of all accounts."""
    return [f"account:{number}" for number in range(ACCOUNTS)]


def opening_key(account: str) -> str:
    """The idempotency key of an account's first deposit."""
    return f"open {account}"


def plan(seed: int, count: int) -> dict[str, list[Op]]:
    """``count`` transfers, by the node that makes them."""
    draw, names = random.Random(seed), accounts()
    ops: dict[str, list[Op]] = {node: [] for node in NODES}
    for number in range(count):
        node = NODES[number % len(NODES)]
        source, target = draw.sample(names, 2)
        (how,) = draw.choices((ONCE, OVER, PAIR, AGAIN), (85, 5, 5, 5))
        amount = draw.randint(1, AMOUNT_MAX) + (MONEY if how == OVER else 0)
        timeout_s = draw.uniform(*HASTY_S) if draw.random() < 0.25 else PATIENT_S
        ops[node].append(Op(f"{node} {seed} {number}", source, target, amount, how, timeout_s))
    return ops


def kills(seed: int, count: int, brokers: int, nodes: int) -> list[Kill]:
    """When who dies, in order. Every fifth broker or so dies while it starts."""
    draw = random.Random(seed + 1)
    who = ["broker"] * brokers + ["node"] * nodes
    draw.shuffle(who)
    moments = sorted(draw.randrange(count // 50, count - count // 20) for _ in who)
    found: list[Kill] = []
    for at, name in zip(moments, who, strict=True):
        after_another = name == "broker" and any(kill.who == name for kill in found)
        early = after_another and draw.random() < 0.2
        at, within_s = (found[-1].at, STARTING_S) if early else (at, MOMENT_S)
        found.append(Kill(at, name, draw.uniform(0, within_s)))
    return found
