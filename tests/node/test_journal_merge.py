"""A guild whose changes were brought into its payload equals one that disnake's parsers changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import disnake
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shard_node.journal import merge
from shard_node.journal.merge import RawGuild, merged
from shard_node.journal.records import MUTATING
from tests.support.raw_guilds import CHANGES, OWN, caches, channel, guild, live, looks, user

Change = tuple[str, dict[str, Any]]
EVERY = [(event, data) for event, found in CHANGES.items() for data in found]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def text(change: Change) -> bytes:
    return json.dumps({"op": 0, "t": change[0], "s": 5, "d": change[1]}).encode()


def first() -> bytes:
    return text(("GUILD_CREATE", guild()))


def cleaned(changes: list[Change], cuts: list[int]) -> tuple[bytes, list[bytes]]:
    """The guild as cleanings after these numbers of changes leave it, and what is beside it."""
    raw, whole, waiting = first(), False, list[bytes]()
    for number, change in enumerate(changes):
        waiting.append(text(change))
        if number in cuts:
            found = merged(raw, whole, waiting, str(OWN))
            raw, whole, waiting = found.whole(), True, found.rest()
    return (raw if whole else json.dumps(guild()).encode()), waiting


def check(changes: list[Change], cuts: list[int], intents: disnake.Intents, loop: Any) -> None:
    lived, fed = caches(intents, loop), caches(intents, loop)
    lived._add_guild_from_data(guild())
    for change in changes:
        live(lived, *change)
    raw, rest = cleaned(changes, cuts)
    fed._add_guild_from_data(json.loads(raw))
    for one in rest:
        told = json.loads(one)
        live(fed, told["t"], told["d"])
    assert looks(fed) == looks(lived)


def test_there_is_a_change_of_every_event_that_changes_a_guild() -> None:
    assert CHANGES.keys() == MUTATING - {"USER_UPDATE"}


@pytest.mark.parametrize("place", range(len(EVERY)), ids=lambda n: f"{EVERY[n][0]}-{n}")
@pytest.mark.parametrize("members", [True, False], ids=["members", "no-members"])
def test_each_change_alone(place: int, members: bool, loop: asyncio.AbstractEventLoop) -> None:
    intents = disnake.Intents.all()
    intents.members = members
    if EVERY[place][0] == "GUILD_MEMBERS_CHUNK" and not members:
        pytest.skip("members that were asked for without the intent last until a cleaning")
    check([EVERY[place]], [0], intents, loop)


@pytest.mark.parametrize("event", CHANGES)
def test_the_look_sees_a_change_that_was_forgotten(
    event: str, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(merge._ACTS, event, lambda *_: None)
    with pytest.raises(AssertionError):
        for data in CHANGES[event]:
            check([(event, data)], [0], disnake.Intents.all(), loop)


def changes_a_user(found: Any) -> bool:
    """Whether some user in a payload is not as ``user`` makes it."""
    if isinstance(found, list):
        return any(map(changes_a_user, found))
    if not isinstance(found, dict):
        return False
    if "username" in found:
        return bool(found.items() - user(int(found["id"])).items())
    return any(map(changes_a_user, found.values()))


def knows_older_users(changes: list[Change], place: int) -> bool:
    """A guild comes whole, with users as they were before a change that came before it: no
    gateway does that, and disnake keeps the users that it has."""
    whole = changes[place][0] == "GUILD_CREATE"
    return whole and any(changes_a_user(data) for _, data in changes[:place])


def brings_a_channel_back(changes: list[Change], place: int) -> bool:
    """A guild comes whole with a channel that was deleted, and somebody was in it: a gateway says
    first that he left, and disnake keeps the deleted channel in the voice state that it has."""
    gone = {data["id"] for event, data in changes[:place] if event == "CHANNEL_DELETE"}
    whole = changes[place][0] == "GUILD_CREATE"
    return whole and bool(gone & {one["channel_id"] for one in guild()["voice_states"]})


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_changes_one_after_another_cleaned_in_between(
    loop: asyncio.AbstractEventLoop, data: st.DataObject
) -> None:
    changes = data.draw(st.lists(st.sampled_from(EVERY), max_size=12))
    assume(not any(knows_older_users(changes, place) for place in range(len(changes))))
    assume(not any(brings_a_channel_back(changes, place) for place in range(len(changes))))
    cuts = data.draw(st.lists(st.integers(0, 12), max_size=3))
    check(changes, cuts, disnake.Intents.all(), loop)


def test_a_change_that_is_not_known_stays_and_so_do_all_after_it() -> None:
    made, unknown = ("CHANNEL_CREATE", channel(110)), ("GUILD_SOMETHING_NEW", {"guild_id": "1"})
    found = merged(first(), False, [text(made), text(unknown), text(made)], str(OWN))
    assert [json.loads(one)["t"] for one in found.rest()] == [unknown[0], made[0]]
    again = merged(found.whole(), True, found.rest(), str(OWN))
    assert again.rest() == found.rest()
    assert "110" in {one["id"] for one in json.loads(found.whole())["channels"]}


def test_what_no_change_touches_is_as_it_came() -> None:
    raw = json.dumps(guild(odd=[1.5, None, "\u00e4"], large_number=2**60)).encode()
    found = RawGuild(raw, str(OWN))
    assert found.merge("CHANNEL_CREATE", channel(110))
    told = json.loads(found.whole())
    assert told.pop("channels")[:-1] == json.loads(raw)["channels"]
    assert {**told, "channels": 0} == {**json.loads(raw), "channels": 0}
