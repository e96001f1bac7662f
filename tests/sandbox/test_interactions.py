from __future__ import annotations

from shard_node.sandbox.answers import Answer
from shard_node.sandbox.interactions import Interaction, InteractionBook


def opened(book: InteractionBook, number: int = 1, now: float = 0.0) -> Interaction:
    interaction = Interaction(number, f"token{number}", 2, 10, 20, 30, now, source_id=77)
    book.open(interaction, now)
    return interaction


def test_single_acknowledgement() -> None:
    book = InteractionBook()
    interaction = opened(book)
    assert book.acknowledge(interaction, 4, 2.9) is Answer.FIRST
    assert book.acknowledge(interaction, 4, 3.5) is Answer.AGAIN
    assert book.counts(4.0).twice == 1


def test_three_seconds() -> None:
    book = InteractionBook()
    interaction = opened(book)
    assert book.acknowledge(interaction, 4, 3.01) is Answer.LATE
    assert not interaction.acknowledged
    assert book.acknowledge(interaction, 4, 3.02) is Answer.LATE
    assert (book.counts(4.0).late, book.counts(4.0).twice) == (1, 0)


def test_token_is_valid_for_fifteen_minutes() -> None:
    book = InteractionBook()
    interaction = opened(book)
    assert book.of_token("token1", 900.0) is interaction
    assert book.of_token("token1", 900.1) is None
    assert book.find(2, "token1", 1.0) is None
    assert book.find(1, "token1", 1.0) is interaction


def test_memory_ends_with_the_token() -> None:
    book = InteractionBook()
    for number in range(1000):
        opened(book, number, now=float(number * 10))
    assert len(book) <= 92
    assert book.counts(1e6).never == 1000


def test_deferral_is_open_until_its_reply() -> None:
    book = InteractionBook()
    interaction = opened(book)
    book.acknowledge(interaction, 5, 1.0)
    assert book.deferred_open() == 1
    book.complete(interaction)
    book.complete(interaction)
    assert book.deferred_open() == 0


def test_update_of_the_source_message_makes_it_the_original() -> None:
    book = InteractionBook()
    interaction = opened(book)
    book.acknowledge(interaction, 6, 1.0)
    assert interaction.original_id == 77
