"""The four priority lanes. A smaller number is more urgent."""

from __future__ import annotations

import enum


class Lane(enum.IntEnum):
    """Priority of a frame; a waiting frame of a more urgent lane overtakes all others."""

    CONTROL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
