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

BATCH_MAX_MESSAGES: Final = 256
BATCH_MAX_BYTES: Final = 128 << 10
"""Of the bodies in one BATCH; a single larger body makes a BATCH of its own."""
LINE_WINDOW_MESSAGES: Final = 2048
"""What a sender may have at the broker for one target and lane that is not forwarded yet: a
slow target does not hold up the others."""
SEND_WINDOW_MESSAGES: Final = 16_384
SEND_WINDOW_BYTES: Final = 8 << 20
"""The same for all targets and lanes; the two upper lanes may go over it by
CREDIT_RESERVE_MESSAGES."""
CREDIT_TELL_MESSAGES: Final = 512
CREDIT_TELL_S: Final = 0.005
"""Credit waits so long for a BATCH that carries it, then goes in a frame of its own."""
CREDIT_MIN_MESSAGES: Final = 16
CREDIT_MAX_MESSAGES: Final = 4096
CREDIT_MAX_BYTES: Final = 8 << 20
CREDIT_RESERVE_MESSAGES: Final = 64
"""What the broker may have at a node whose handlers have not returned yet."""
CREDIT_LENT_MESSAGES: Final = 4096
CREDIT_LENT_BYTES: Final = 32 << 20
"""What a node gives back for handlers that only wait: they take none of its time."""
STUCK_S: Final = 0.05
"""A receiver that frames wait for and that gave no credit for so long is stuck: its senders
have their window back. Longer than a busy machine's hiccups."""
QUEUE_MAX_MESSAGES: Final = (16_384, 65_536, 65_536, 65_536)
"""Messages of BATCH frames that wait for one destination, lane by lane."""
MESSAGE_MIN_BYTES: Final = 5
"""No message of a BATCH is encoded in fewer; a ``count`` that cannot be true is refused."""
DEAD_LETTERS_MAX: Final = 1000
DEAD_LETTERS_MAX_BYTES: Final = 8 << 20
"""Of bodies that are kept for another try; a letter beyond it keeps its header only."""
WAITING_MAX_BYTES: Final = 256 << 20
"""Of BATCH frames that wait in the broker, for all destinations together."""
PARKED_MAX_BYTES: Final = 64 << 20
PARKED_MAX_S: Final = 60.0
"""How long a frame without a deadline waits for an owner that is away."""
CLIENTS_MAX: Final = 1024
ROUTES_MAX: Final = 256
"""Routing rules of an operator."""

STATE_TXS_MAX: Final = 1024
"""Transactions in one ``state.do``."""
STATE_OPS_MAX: Final = 8192
"""Operations in all of them: their results must fit into one body."""
STATE_WAITING_MAX: Final = 16_384
"""Transactions that the broker holds and that are not durable yet."""
STATE_WAITING_MAX_BYTES: Final = 32 << 20
STATE_KEYS_MAX: Final = 1024
"""Rows in one ``state.read`` or ``state.scan``."""
STATE_RECORDS_MAX: Final = 1000
"""Records in one ``state.log``."""
STATE_SCANNED_MAX: Final = 2000
"""Records that one ``state.log`` looks at: whoever wants more asks again."""
STATE_ANSWER_MAX_BYTES: Final = 900 << 10
"""Of rows or records in one answer, so that it fits into a body."""
STATE_MARKS_MAX: Final = 4096
"""Requests that wait for a log sequence number."""

HEARTBEAT_INTERVAL_S: Final = 1.0
CLIENT_BEATS_MAX_S: Final = 150
"""Heartbeats a second of all clients together: of more clients each beats less often."""
CLIENT_INTERVAL_MAX_S: Final = 6.0
HEARTBEAT_LOST_S: Final = 15.0
"""A node whose heartbeat thread is silent for so long is given up."""
BROKER_SILENT_S: Final = 3.0
"""A node that hears nothing from the broker for so long reports it as away and goes on."""

STATE_OWN_ROWS_MAX_BYTES: Final = 16 << 10
"""Of the rows that a transaction wrote, in its outcome; its sender waits for the file where
they are more."""
