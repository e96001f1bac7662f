"""What a bot that cannot be loaded says of itself leads."""

from __future__ import annotations

from broker.core.last_words import BotError, bot_error

TAIL = (
    "error[E_BOT_FILE]: an older one",
    "  hint: an older hint",
    "Traceback (most recent call last):",
    "error[E_BOT_MODULE]: main.py:1: there is no module 'x'",
    "  hint: install it",
)


def test_the_last_error_is_found() -> None:
    error = bot_error(TAIL)
    assert error == BotError("E_BOT_MODULE", "main.py:1: there is no module 'x'", "install it")
    assert error.told() == "E_BOT_MODULE: main.py:1: there is no module 'x'; hint: install it"
    assert bot_error(TAIL[:1]) == BotError("E_BOT_FILE", "an older one", "")
    assert bot_error(("ValueError: error[E_BOT_FILE]: not at the start",)) is None
    assert bot_error(()) is None
