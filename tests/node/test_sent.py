"""What the bot has sent, and who hears of it."""

from __future__ import annotations

import asyncio
from typing import Any

import disnake
from disnake.http import Route

from shard_node.bridge import sent
from shard_node.bridge.mute import Mute
from shard_node.bridge.sent import Sent

CALLBACK = Route(
    "POST", "/interactions/{interaction_id}/{token}/callback", interaction_id=9, token="t"
)
POST = Route("POST", "/channels/{channel_id}/messages", channel_id=3)
GET = Route("GET", "/channels/{channel_id}/messages/{id}", channel_id=3, id=5)


def message(identifier: int, components: Any = ()) -> dict[str, Any]:
    return {"id": str(identifier), "channel_id": "3", "author": {}, "components": components}


def test_messages_answers_and_modals_are_noted() -> None:
    told: list[None] = []
    noted = Sent()
    noted.told = lambda: told.append(None)
    noted.answered(POST, message(5, [{"type": 1}]))
    noted.answered(POST, message(6))
    noted.asked(CALLBACK, {"type": 4, "data": {"components": [{"type": 1}]}})
    noted.asked(CALLBACK, {"type": 9, "data": {"custom_id": "m"}})
    assert noted.messages(plain=False) == (5, 9)
    assert set(noted.messages(plain=True)) == {5, 6, 9}
    assert noted.modals == ("m",)
    assert noted.channels == {3}
    assert len(told) == 4


def test_what_was_only_read_or_is_no_message_is_not() -> None:
    noted = Sent()
    noted.answered(GET, message(5))
    for answer in (None, [], {"id": "5"}, ""):
        noted.answered(POST, answer)
    noted.asked(POST, {"components": [1]})
    assert noted.messages(plain=True) == ()


def test_the_answer_to_a_callback_and_a_thread_have_their_message_within() -> None:
    noted = Sent()
    noted.answered(CALLBACK, {"interaction": {}, "resource": {"message": message(5, [1])}})
    noted.answered(POST, {"id": "8", "message": message(6, [1])})
    assert noted.messages(plain=False) == (5, 6)


def test_the_oldest_are_forgotten() -> None:
    noted = Sent()
    for number in range(sent.SENT_MAX + 3):
        noted.answered(POST, message(number))
    assert len(noted.messages(plain=True)) == sent.SENT_MAX
    assert 2 not in noted.messages(plain=True)


def test_waiters_alone_hear_what_handlers_must_not() -> None:
    async def live() -> tuple[Any, list[str]]:
        heard: list[str] = []

        class Bot(disnake.Client):
            async def on_thing(self, word: str) -> None:
                heard.append(word)

        bot = Bot(intents=disnake.Intents.none())
        mute = Mute(bot.dispatch)
        waiting = asyncio.ensure_future(bot.wait_for("thing", check=lambda word: word == "b"))
        await asyncio.sleep(0)
        with mute.waiters_only(bot):
            mute("thing", "a")
            assert bot._listeners
            mute("thing", "b")
        found = await waiting
        assert not bot._listeners
        assert heard == []
        mute("thing", "c")
        await asyncio.sleep(0)
        return found, heard

    assert asyncio.run(live()) == ("b", ["c"])
