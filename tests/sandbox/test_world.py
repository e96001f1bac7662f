import json
from collections import Counter

import pytest

from shard_node.sandbox import payloads
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.snowflake import EPOCH_MS, shard_of
from shard_node.sandbox.world import World
from tests.support.sandbox import WALL_MS, application_of


def world(**settings: int) -> World:
    return World(SandboxConfig(**settings), lambda: WALL_MS)


def test_a_seed_makes_the_same_world() -> None:
    one, same, other = world(seed=5), world(seed=5), world(seed=6)
    assert one.token == same.token != other.token
    assert one.guild_ids() == same.guild_ids() != other.guild_ids()
    guild_id = one.guild_ids()[3]
    assert one.guild(guild_id).payload() == same.guild(guild_id).payload()


@pytest.mark.parametrize("num_shards", [1, 2, 3, 4, 7, 10, 16, 48])
def test_guilds_spread_evenly_for_any_shard_count(num_shards: int) -> None:
    made = world(guilds=480).guild_ids()
    counts = Counter(shard_of(guild_id, num_shards) for guild_id in made)
    assert len(counts) == num_shards
    assert max(counts.values()) - min(counts.values()) <= 2


def test_every_identifier_is_a_snowflake_of_the_past_and_unique() -> None:
    made = world(guilds=50, members_per_guild=30)
    seen: list[int] = made.guild_ids()
    for guild_id in made.guild_ids():
        guild = made.guild(guild_id)
        seen += [*guild.channels, *guild.emojis, *(r for r in guild.roles if r != guild_id)]
    seen += made.user_ids() + [made.application_id]
    assert len(seen) == len(set(seen))
    assert all(EPOCH_MS < (i >> 22) + EPOCH_MS < WALL_MS for i in seen)


def test_identifiers_are_strings_in_json() -> None:
    made = world(guilds=1)
    text = json.dumps(made.guild(made.guild_ids()[0]).payload())
    _check_ids(json.loads(text))


def _check_ids(value: object) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "id" or key.endswith("_id"):
                assert inner is None or isinstance(inner, str), (key, inner)
            _check_ids(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_ids(inner)


def test_the_token_names_its_application() -> None:
    made = world()
    assert application_of(made.token) == made.application_id
    assert [len(part) for part in made.token.split(".")][1:] == [6, 38]


def test_a_reset_token_is_another_one_of_the_same_application() -> None:
    made = world()
    before = made.token
    made.reset_token()
    assert made.token != before
    assert application_of(made.token) == made.application_id


def test_a_guild_has_what_a_bot_needs() -> None:
    made = world(guilds=3)
    for guild_id in made.guild_ids():
        guild = made.guild(guild_id)
        assert guild.owner_id in guild.members
        assert guild.roles[guild_id]["name"] == "@everyone"
        assert set(guild.roles[guild_id]["colors"]) == {
            "primary_color",
            "secondary_color",
            "tertiary_color",
        }
        (role,) = guild.members[made.application_id]["roles"]
        assert int(guild.roles[int(role)]["permissions"]) & payloads.ADMINISTRATOR
        assert guild.text_channels()
        assert guild.payload()["member_count"] == len(guild.members) >= 2


def test_member_counts_lie_around_the_mean() -> None:
    made = world(guilds=60, members_per_guild=40)
    counts = [len(made.guild(guild_id).members) for guild_id in made.guild_ids()]
    assert min(counts) >= 20
    assert max(counts) <= 61
    assert len(set(counts)) > 10


def test_channels_lead_back_to_their_guild() -> None:
    made = world(guilds=20)
    for guild_id in made.guild_ids():
        for channel_id in made.guild(guild_id).channels:
            assert made.guild_of_channel(channel_id) == guild_id
    assert made.guild_of_channel(12345) is None
    new = made.snowflakes.next()
    made.guild(guild_id).channels[new] = payloads.channel(new, guild_id, "new")
    assert made.guild_of_channel(new) == guild_id


def test_guilds_come_and_go() -> None:
    made = world(guilds=4)
    before = made.guild_ids()
    added = made.add_guilds(3)
    assert made.guild_ids() == before + added
    made.remove_guild(before[1])
    assert before[1] not in made
    assert len(made) == 6
    with pytest.raises(KeyError):
        made.guild(before[1])
    with pytest.raises(KeyError):
        made.remove_guild(before[1])
    assert made.add_guilds(1)[0] not in before + added


def test_a_view_is_not_kept_but_a_guild_is() -> None:
    made = world(guilds=1)
    (guild_id,) = made.guild_ids()
    assert made.view(guild_id) is not made.view(guild_id)
    guild = made.guild(guild_id)
    guild.name = "changed"
    assert made.view(guild_id).name == "changed"


def test_users_and_their_direct_messages() -> None:
    made = world()
    for user_id in made.user_ids()[:50]:
        assert made.user(user_id)["id"] == str(user_id)
        channel = made.dm_channel(user_id)
        assert channel["recipients"][0]["id"] == str(user_id)
        assert made.user_of_dm(int(channel["id"])) == user_id
        assert made.guild_of_channel(int(channel["id"])) is None
    assert made.user(made.application_id)["bot"]
    for nobody in (0, user_id + 1, made.guild_ids()[0]):
        with pytest.raises(KeyError):
            made.user(nobody)
    assert made.user_of_dm(made.guild(made.guild_ids()[0]).text_channels()[0]) is None


def test_members_are_users() -> None:
    made = world(guilds=5)
    for guild_id in made.guild_ids():
        for user_id, member in made.guild(guild_id).members.items():
            assert member["user"] == made.user(user_id)
