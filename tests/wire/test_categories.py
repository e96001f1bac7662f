"""Bodies of the protocol's types and categories: typed, and as small as what changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from shard_node.wire import bodies
from shard_node.wire import categories as c
from shard_node.wire.codec import WireError, decode_body, encode_body
from shard_node.wire.topics import BY_BODY, TOPICS

EXAMPLES: dict[str, Any] = {
    "SHARD_READY": bodies.ShardReady(1, 4, 7),
    "SHARD_DISCONNECT": bodies.ShardDisconnect(1, 4, 4000),
    "GUILD_SYNC": c.GuildSync(5, 9, (c.Record("config", "5", 2, {"prefix": "!"}),)),
    "STATE_UPDATE": c.StateUpdate("config", 5, "5", {"prefix": "?"}, 1, 2, 10, "op", ("lang",)),
    "BROADCAST": c.Broadcast({"cog": "trade"}, "reload"),
    "GUILD_INFO": c.GuildInfo(
        5, c.GuildFields(name="n", roles={8: c.RoleInfo("r", 1 << 40), 9: None}), 1, 2
    ),
    "MEMBER_UPDATE": c.MemberUpdate(5, 6, c.MemberFields(nick=None, roles=(8,)), 1, 2),
    "COMMAND_SYNC": bodies.CommandSync("d"),
    "STATS_UPDATE": c.StatsUpdate("a", 1, 1.5, 2.5, 3, 4.5, 5.5, (c.ShardStats(0, 1, 2, 3.5),)),
    "USER_UPDATE": c.UserUpdate(6, c.UserFields(global_name="g"), 0, 1),
    "PRESENCE_UPDATE": c.PresenceUpdate(5, 6, "idle", ("chess",), 1.5),
    "COMMAND_EXEC": c.CommandExec(5, "add", {"a": True, "b": 2, "c": 2.5, "d": "x"}, 6, 7, 1.5),
    "CACHE_INVALIDATE": c.CacheInvalidate("config", ("5",)),
}


def test_every_category_has_an_example() -> None:
    assert EXAMPLES.keys() == {name for name in TOPICS if name.isupper()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_body_comes_back_as_it_was(name: str) -> None:
    example = EXAMPLES[name]
    data = encode_body(example)
    assert isinstance(msgspec.msgpack.decode(data), list)
    assert decode_body(data, TOPICS[name].body) == example
    assert BY_BODY[type(example)] == name


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_body_of_another_shape_is_refused(name: str) -> None:
    for wrong in ([], {"a": 1}, 5, [None] * 9):
        with pytest.raises(WireError):
            decode_body(encode_body(wrong), TOPICS[name].body)


def test_a_change_costs_its_changed_fields() -> None:
    changed = c.MemberFields(nick="n")
    assert msgspec.msgpack.decode(encode_body(changed)) == {"nick": "n"}
    found = decode_body(encode_body(changed), c.MemberFields)
    assert (found.nick, found.roles, found.timeout_at) == ("n", UNSET, UNSET)


def test_none_is_a_value_and_not_an_absence() -> None:
    found = decode_body(encode_body(c.MemberFields(nick=None)), c.MemberFields)
    assert found.nick is None
    assert found.avatar is UNSET


def test_a_newer_peers_fields_are_passed_over() -> None:
    data = msgspec.msgpack.encode([5, 6, {"nick": "n", "aura": 3}, 1, 2, 3, "op", "more"])
    found = decode_body(data, c.MemberUpdate)
    assert (found.changed.nick, found.op) == ("n", "op")
