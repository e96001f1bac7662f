"""Socket identities: how a peer is named on the ROUTER socket.

| peer | routing id |
| --- | --- |
| node | ``name#epoch`` |
| its heartbeat thread | ``name#epoch!hb`` |
| operator (the command line) | ``op-<pid>-<counter>`` |
| client (a program outside a bot) | ``cl-<name>-<pid>-<token>`` |

A dead letter that is tried again has the sender ``dl-<number>#1``, which no socket may have.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from shard_node.wire.limits import NAME_MAX_CHARS

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]*")
_HEARTBEAT = "!hb"
_OPERATOR = "op-"
_CLIENT = "cl-"
_LETTER = "dl-"
_LETTER_PATTERN = re.compile(r"(dl-[0-9]{1,18})#([0-9]{1,18})")
_CLIENT_PATTERN = re.compile(r"cl-[a-z][a-z0-9_-]*-[0-9]{1,10}-[0-9]{1,18}")
CLIENT_MAX_CHARS = NAME_MAX_CHARS + 33
CLIENT_TOKENS = 10**18
OPERATOR_PREFIX = _OPERATOR.encode()
"""How the routing id of every command line begins, and that of no node."""


class Peer(NamedTuple):
    """A parsed routing id. ``role`` is ``node``, ``heartbeat``, ``operator`` or ``client``,
    or ``letter``, which is the sender of a frame and nobody's socket.

    The ``name`` of an operator or client is its whole routing id, the epoch 0.
    """

    role: str
    name: str
    epoch: int


def is_node_name(name: str) -> bool:
    """Whether ``name`` can name a node: lower-case letters, digits, ``_`` and ``-``."""
    return (
        len(name) <= NAME_MAX_CHARS
        and NAME_PATTERN.fullmatch(name) is not None
        and not name.startswith((_OPERATOR, _CLIENT, _LETTER))
    )


def process_name(name: str, epoch: int) -> str:
    """What answers to a process are for: it alone, as its node may have several; a client or a
    dead letter goes by its name."""
    return f"{name}#{epoch}" if epoch and not is_letter(name) else name


def node_id(name: str, epoch: int) -> bytes:
    """The routing id of a node's main socket."""
    return f"{name}#{epoch}".encode()


def heartbeat_id(name: str, epoch: int) -> bytes:
    """The routing id of the socket of a node's heartbeat thread."""
    return node_id(name, epoch) + _HEARTBEAT.encode()


def operator_id(pid: int, counter: int) -> bytes:
    """The routing id of a command line."""
    return f"{_OPERATOR}{pid}-{counter}".encode()


def client_id(name: str, pid: int, token: int) -> bytes:
    """The routing id of a program outside a bot. ``token``, below CLIENT_TOKENS, is drawn at
    random: receivers remember what an id has said, so none may come again, and the pid alone
    does (in a container it is often 1)."""
    return f"{_CLIENT}{name}-{pid}-{token}".encode()


def letter_sender(number: int, incarnation: int) -> str:
    """The sender of a dead letter that is tried again: new to every receiver, whatever an
    earlier broker sent again under the same number."""
    return f"{_LETTER}{number}#{incarnation}"


def is_letter(name: str) -> bool:
    """Whether answers to this name are answers to a dead letter."""
    return name.startswith(_LETTER)


def parse_peer(routing_id: bytes) -> Peer | None:
    """Who is behind a routing id; None where it has no form that we give out."""
    try:
        text = routing_id.decode("ascii")
    except UnicodeDecodeError:
        return None
    if text.startswith(_OPERATOR):
        return Peer("operator", text, 0)
    if text.startswith(_CLIENT):
        good = len(text) <= CLIENT_MAX_CHARS and _CLIENT_PATTERN.fullmatch(text)
        return Peer("client", text, 0) if good else None
    if letter := _LETTER_PATTERN.fullmatch(text):
        return Peer("letter", letter[1], int(letter[2]))
    role = "node"
    if text.endswith(_HEARTBEAT):
        role, text = "heartbeat", text.removesuffix(_HEARTBEAT)
    name, _, epoch = text.partition("#")
    if not is_node_name(name) or not epoch.isdecimal() or len(epoch) > 18:
        return None
    return Peer(role, name, int(epoch))


def application_key(api_base: str, token: str) -> str:
    """A name for the application behind a token (its first segment) at an API."""
    public = token.partition(".")[0]
    return hashlib.sha256(f"{api_base}\0{public}".encode()).hexdigest()[:32]
