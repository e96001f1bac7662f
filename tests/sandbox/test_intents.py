import pytest

from shard_node.sandbox import intents


@pytest.mark.parametrize(
    ("event", "direct", "need"),
    [
        ("MESSAGE_CREATE", False, intents.GUILD_MESSAGES),
        ("MESSAGE_CREATE", True, intents.DIRECT_MESSAGES),
        ("MESSAGE_REACTION_ADD", True, intents.DIRECT_MESSAGE_REACTIONS),
        ("TYPING_START", True, intents.DIRECT_MESSAGE_TYPING),
        ("INTERACTION_CREATE", False, 0),
        ("INTERACTION_CREATE", True, 0),
        ("VOICE_SERVER_UPDATE", False, 0),
        ("PRESENCE_UPDATE", False, intents.GUILD_PRESENCES),
        ("GUILD_MEMBER_ADD", False, intents.GUILD_MEMBERS),
    ],
)
def test_what_an_event_needs(event: str, direct: bool, need: int) -> None:
    assert intents.required(event, direct=direct) == need


def test_a_member_update_of_the_bot_needs_no_intent() -> None:
    def got(user_id: str) -> bool:
        data = {"user": {"id": user_id}}
        return intents.receives(1, "GUILD_MEMBER_UPDATE", data, direct=False, bot_id="9")

    assert got("9")
    assert not got("8")


@pytest.mark.parametrize(
    ("data", "direct", "hidden"),
    [
        ({"author": {"id": "1"}, "content": "x", "mentions": []}, False, True),
        ({"author": {"id": "1"}, "content": "x"}, True, False),
        ({"author": {"id": "9"}, "content": "x"}, False, False),
        ({"author": {"id": "1"}, "mentions": [{"id": "9"}]}, False, False),
        ({"author": {"id": "1"}, "mentions": [{"id": "8"}]}, False, True),
    ],
)
def test_when_content_is_hidden(data: dict, direct: bool, hidden: bool) -> None:
    found = intents.content_hidden("MESSAGE_CREATE", data, direct=direct, bot_id="9")
    assert found is hidden
    assert not intents.content_hidden("TYPING_START", data, direct=direct, bot_id="9")


def test_blanking_leaves_the_original_alone() -> None:
    data = {"id": "5", "content": "secret", "embeds": [{}], "poll": {}}
    assert intents.without_content(data) == {"id": "5", "content": "", "embeds": []}
    assert data["content"] == "secret"


def test_bits_that_discord_does_not_know_are_not_in_all() -> None:
    assert not intents.ALL & (1 << 17 | 1 << 18 | 1 << 19 | 1 << 22 | 1 << 23 | 1 << 26)
    assert intents.ALL & intents.PRIVILEGED == intents.PRIVILEGED
