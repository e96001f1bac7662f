"""Life of an interaction: three seconds to acknowledge it, once; fifteen minutes of its token.

Pure: every call takes ``now`` in monotonic seconds. Source: Discord documentation,
"Interactions: Receiving and Responding" (deadline, token) and "Opcodes and Status Codes"
(10062, 10015, 40060).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from shard_node.sandbox.answers import Answer, AnswerCounts, AnswerLedger

ACKNOWLEDGE_WITHIN_S: Final = 3.0
TOKEN_VALID_S: Final = 900.0

DEFERRED_REPLY: Final = 5
DEFERRED_UPDATE: Final = 6
UPDATE_MESSAGE: Final = 7
_TOKEN_PREFIX: Final = "interaction:"


def make_token(interaction_id: int, secret: str) -> str:
    """A token of the real shape: base64 of ``interaction:<id>:<secret>``."""
    text = f"{_TOKEN_PREFIX}{interaction_id}:{secret}"
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def looks_like_token(text: str) -> bool:
    """Whether a text has the shape of an interaction's token, however old."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return False
    return raw.startswith(_TOKEN_PREFIX.encode())


@dataclass(slots=True)
class Interaction:
    """What the sandbox remembers of one interaction while its token is valid.

    ``original_id``: message that ``@original`` names, None before there is one.
    ``source_id``: message on which a component was pressed. ``deferred``: type 5 was answered
    and the reply is still owed.
    """

    id: int
    token: str
    kind: int
    guild_id: int | None
    channel_id: int
    user_id: int
    created_at: float
    source_id: int | None = None
    name: str = ""
    acknowledged: bool = False
    deferred: bool = False
    original_id: int | None = None


class InteractionBook:
    """Interactions by id and by token, with the audit of their acknowledgements."""

    def __init__(
        self,
        *,
        acknowledge_within_s: float = ACKNOWLEDGE_WITHIN_S,
        token_valid_s: float = TOKEN_VALID_S,
    ) -> None:
        self._token_valid_s = token_valid_s
        self._answers = AnswerLedger(
            deadline_s=acknowledge_within_s, keep_s=token_valid_s, late_is_refused=True
        )
        self._by_token: dict[str, Interaction] = {}
        self._deferred_open = 0

    def __len__(self) -> int:
        return len(self._by_token)

    def open(self, interaction: Interaction, now: float) -> None:
        """A user did something; the bot has the deadline from ``now``."""
        self._forget_old(now)
        self._by_token[interaction.token] = interaction
        self._answers.ask(interaction.id, now)

    def find(self, interaction_id: int, token: str, now: float) -> Interaction | None:
        """The interaction that a callback names; None when unknown or its token expired."""
        interaction = self.of_token(token, now)
        return interaction if interaction and interaction.id == interaction_id else None

    def acknowledge(self, interaction: Interaction, callback_type: int, now: float) -> Answer:
        """Count one callback. Only FIRST may have an effect: LATE is 10062, AGAIN is 40060."""
        answer = self._answers.answer(interaction.id, now)
        if answer is Answer.FIRST:
            interaction.acknowledged = True
            interaction.deferred = callback_type == DEFERRED_REPLY
            self._deferred_open += interaction.deferred
            if callback_type in (DEFERRED_UPDATE, UPDATE_MESSAGE):
                interaction.original_id = interaction.source_id
        return answer

    def complete(self, interaction: Interaction) -> None:
        """The reply that a deferral promised has come."""
        if interaction.deferred:
            interaction.deferred = False
            self._deferred_open -= 1

    def of_token(self, token: str, now: float) -> Interaction | None:
        """Interaction whose token this is; None when unknown or older than fifteen minutes."""
        interaction = self._by_token.get(token)
        if interaction is None or now - interaction.created_at > self._token_valid_s:
            return None
        return interaction

    def counts(self, now: float) -> AnswerCounts:
        """Classes of all interactions since the last reset."""
        return self._answers.counts(now)

    def unanswered(self, now: float, most: int) -> tuple[list[int], list[int]]:
        """Ids of those never acknowledged, and of those late; at most so many of each."""
        return self._answers.unanswered(now, most)

    def deferred_open(self) -> int:
        """Deferrals ("is thinking...") without their reply so far, since the sandbox began."""
        return self._deferred_open

    def reset(self) -> None:
        """Counts begin at zero; open interactions keep their deadline and token."""
        self._answers.reset()

    def _forget_old(self, now: float) -> None:
        self._answers.forget_old(now)
        while self._by_token:
            token, oldest = next(iter(self._by_token.items()))
            young = now - oldest.created_at <= self._token_valid_s
            if young and len(self._by_token) <= len(self._answers):
                return
            del self._by_token[token]
