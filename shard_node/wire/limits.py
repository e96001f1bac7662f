"""Every limit of the wire, with its unit last in the name."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1
OLDEST_PROTOCOL_VERSION: Final = 1
"""The previous version is accepted; there is none before 1."""

HEADER_MAX_BYTES: Final = 4096
BODY_MAX_BYTES: Final = 1 << 20
FRAME_MAX_BYTES: Final = HEADER_MAX_BYTES + BODY_MAX_BYTES
"""A part larger than this is refused by the socket itself (ZMQ_MAXMSGSIZE)."""

NAME_MAX_CHARS: Final = 64
TOPIC_MAX_CHARS: Final = 128
TTL_MAX_MS: Final = 24 * 3600 * 1000
SHARDS_MAX: Final = 65_536
TOPICS_PER_NODE_MAX: Final = 1024

QUEUE_MAX_FRAMES: Final = (1024, 8192, 8192, 8192)
"""Frames waiting for one destination, lane by lane: control, high, normal, low."""
QUEUE_MAX_BYTES: Final = (4 << 20, 16 << 20, 16 << 20, 16 << 20)
REQUESTS_IN_FLIGHT_MAX: Final = 65_536

HEARTBEAT_INTERVAL_S: Final = 1.0
HEARTBEAT_LOST_S: Final = 15.0
"""A node whose heartbeat thread is silent for so long is given up."""
BROKER_SILENT_S: Final = 3.0
"""A node that hears nothing from the broker for so long reports it as away and goes on."""
