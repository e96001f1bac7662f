from __future__ import annotations

import random

from shard_node.sandbox.answers import Answer, AnswerLedger


def ledger(**changes) -> AnswerLedger:
    return AnswerLedger(**{"deadline_s": 3.0, "keep_s": 900.0} | changes)


def test_an_answer_in_time_counts_once() -> None:
    book = ledger()
    book.ask(1, now=0.0)
    assert book.counts(1.0).pending == 1
    assert book.answer(1, now=3.0) is Answer.FIRST
    counts = book.counts(100.0)
    assert (counts.sent, counts.once, counts.never, counts.pending) == (1, 1, 0, 0)


def test_silence_is_pending_and_then_never() -> None:
    book = ledger()
    book.ask(1, now=0.0)
    assert (book.counts(3.0).pending, book.counts(3.0).never) == (1, 0)
    assert (book.counts(3.1).pending, book.counts(3.1).never) == (0, 1)


def test_a_late_answer_leaves_never() -> None:
    book = ledger()
    book.ask(1, now=0.0)
    assert book.counts(4.0).never == 1
    assert book.answer(1, now=4.0) is Answer.LATE
    counts = book.counts(4.0)
    assert (counts.late, counts.never) == (1, 0)


def test_a_second_answer_moves_once_to_twice_and_a_third_changes_nothing() -> None:
    book = ledger()
    book.ask(1, now=0.0)
    answers = [book.answer(1, now=1.0) for _ in range(3)]
    assert answers == [Answer.FIRST, Answer.AGAIN, Answer.AGAIN]
    counts = book.counts(1.0)
    assert (counts.once, counts.twice) == (0, 1)


def test_a_refused_late_answer_is_no_first_answer() -> None:
    refused, taken = ledger(late_is_refused=True), ledger()
    for book in (refused, taken):
        book.ask(1, now=0.0)
        book.answer(1, now=4.0)
    assert refused.answer(1, now=5.0) is Answer.LATE
    assert taken.answer(1, now=5.0) is Answer.AGAIN
    assert (refused.counts(5.0).late, taken.counts(5.0).twice) == (1, 1)


def test_unknown_question() -> None:
    assert ledger().answer(9, now=0.0) is Answer.UNKNOWN


def test_reset_keeps_the_protocol_and_zeroes_the_counts() -> None:
    book = ledger()
    book.ask(1, now=0.0)
    book.ask(2, now=0.0)
    book.answer(1, now=1.0)
    book.reset()
    assert book.answer(1, now=1.5) is Answer.AGAIN
    assert book.answer(2, now=1.5) is Answer.FIRST
    assert book.counts(1.5) == ledger().counts(0.0)


def test_forgotten_questions_keep_their_class() -> None:
    book = ledger(tracked_max=10)
    for key in range(100):
        book.ask(key, now=float(key))
        if key % 2:
            book.answer(key, now=float(key))
    counts = book.counts(1000.0)
    assert len(book) <= 10
    assert (counts.sent, counts.once, counts.never, counts.pending) == (100, 50, 50, 0)
    assert book.answer(0, now=1000.0) is Answer.UNKNOWN


def test_classes_always_add_up() -> None:
    rng = random.Random(7)
    book, now = ledger(tracked_max=50), 0.0
    for key in range(2000):
        now += rng.random()
        book.ask(key, now)
        for _ in range(rng.randrange(3)):
            book.answer(rng.randrange(max(0, key - 60), key + 1), now)
        if rng.random() < 0.01:
            book.reset()
        c = book.counts(now)
        assert c.sent == c.once + c.late + c.never + c.twice + c.pending
        assert min(c.once, c.late, c.never, c.twice, c.pending) >= 0
