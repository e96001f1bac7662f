"""Waiting times that grow, with a jitter that a seed fixes."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 1.0
LAST_S: Final = 60.0
JITTER: Final = 0.2
_MASK: Final = (1 << 64) - 1


def uniform(seed: int, count: int) -> float:
    """A number in [0, 1) for the ``count``-th draw of a seed (splitmix64's finaliser)."""
    value = (seed + (count + 1) * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((value ^ (value >> 31)) >> 11) / (1 << 53)


def delay_s(failures: int, seed: int, count: int) -> float:
    """1, 2, 4 .. 60 seconds after ``failures`` (at least 1) in a row, give or take a fifth."""
    exponent = min(failures - 1, 16)
    base = min(LAST_S, FIRST_S * (1 << exponent))
    return base * (1 + JITTER * (2 * uniform(seed, count) - 1))
