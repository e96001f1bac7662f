from typing import Any

import pytest

from shard_node.sandbox import intents
from shard_node.sandbox.members import chunks, parse, permitted
from tests.support.sandbox import core_state


def guild() -> Any:
    state = core_state(guilds=1, members_per_guild=300)
    return state.world.guild(state.world.guild_ids()[0])


def ask(target: Any, **fields: Any) -> list[dict[str, Any]]:
    return chunks(target, parse({"guild_id": str(target.id), **fields}))


def test_by_user_ids_tells_who_was_not_found() -> None:
    target = guild()
    some = list(target.members)[:3]
    (chunk,) = ask(target, user_ids=[*map(str, some), "7"], presences=True)
    assert [m["user"]["id"] for m in chunk["members"]] == [str(i) for i in sorted(some)]
    assert chunk["not_found"] == ["7"]
    assert {p["user"]["id"] for p in chunk["presences"]} == {
        str(i) for i in some if i in target.presences
    }


def test_by_one_user_id() -> None:
    target = guild()
    (chunk,) = ask(target, user_ids=str(target.owner_id))
    assert [m["user"]["id"] for m in chunk["members"]] == [str(target.owner_id)]
    assert "presences" not in chunk
    assert "nonce" not in chunk


def test_by_prefix_of_name_or_nick_and_limit() -> None:
    target = guild()
    (chunk,) = ask(target, query="USER", limit=7)
    assert len(chunk["members"]) == 7
    target.members[target.owner_id]["nick"] = "Zebra"
    (chunk,) = ask(target, query="zeb", limit=7)
    assert [m["nick"] for m in chunk["members"]] == ["Zebra"]
    (chunk,) = ask(target, query="user", limit=5_000)
    assert len(chunk["members"]) == 100


def test_nobody_is_one_empty_chunk() -> None:
    (chunk,) = ask(guild(), query="nobody", limit=1)
    assert (chunk["members"], chunk["chunk_index"], chunk["chunk_count"]) == ([], 0, 1)


def test_a_nonce_over_32_bytes_is_ignored() -> None:
    assert "nonce" not in ask(guild(), query="x", nonce="n" * 33)[0]
    assert ask(guild(), query="x", nonce="n" * 32)[0]["nonce"] == "n" * 32


@pytest.mark.parametrize(
    ("fields", "bits", "allowed"),
    [
        ({"query": "", "limit": 0}, intents.GUILDS, False),
        ({"query": "", "limit": 0}, intents.GUILD_MEMBERS, True),
        ({"query": "", "limit": 1}, intents.GUILDS, True),
        ({"user_ids": ["1"]}, intents.GUILDS, True),
        ({"user_ids": ["1"], "presences": True}, intents.GUILDS, False),
        ({"user_ids": ["1"], "presences": True}, intents.GUILD_PRESENCES, True),
    ],
)
def test_intents(fields: dict[str, Any], bits: int, allowed: bool) -> None:
    assert permitted(parse({"guild_id": "1", **fields}), bits) is allowed


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"guild_id": "1"},
        {"guild_id": "x", "query": ""},
        {"guild_id": ["1", "2"], "query": ""},
        {"guild_id": "1", "user_ids": ["1"] * 101},
        {"guild_id": "1", "query": 5},
        {"guild_id": "1", "user_ids": ["x"]},
    ],
)
def test_what_cannot_be_decoded(data: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse(data)
