"""What is asked of ours alone: the form of such a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A figure, at least or at most so much."""

    figure: str
    limit: float
    at_most: bool = True

    def reached(self, value: float) -> bool:
        """Whether the part may end with this figure."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True)
class Check:
    """``run(quick)`` measures once."""

    key: str
    title: str
    run: Callable[[bool], dict[str, float]]
    limits: tuple[Limit, ...]
