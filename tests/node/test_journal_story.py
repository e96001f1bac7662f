"""What a journal tells: sequence numbers, what runs, sessions, generations; and who follows it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_node.journal import writer
from shard_node.journal.follow import Follower
from shard_node.journal.place import Place
from shard_node.journal.records import Kind, Started
from shard_node.journal.writer import ShardJournal
from tests.support.journals import (
    SHARD,
    StillLoop,
    begun,
    channel_create,
    guild_create,
    place_in,
    read,
    session,
    text,
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_in(tmp_path)


def events(follower: Follower, pieces: list) -> list[tuple[int, str]]:
    """Guild and name of what was handed out to be fed."""
    return [
        (piece.guild, json.loads(follower.payload(piece))["t"])
        if piece.kind == Kind.EVENT
        else (piece.guild, Kind(piece.kind).name)
        for piece in pieces
    ]


def test_one_turn_is_one_frame_and_tells_how_far_everything_is(place: Place) -> None:
    loop = StillLoop()
    journal = begun(place, loop=loop)
    journal.session(1, session(guilds=(10, 11)))
    before = place.segments(SHARD)[-1].stat().st_size
    guild_create(journal, 2, 10)
    journal.started(2, "GUILD_CREATE", 10, "k")
    journal.last(3, 500, 77)
    journal.seen(4)
    assert len(loop.soon) == 1, "one flush for all of them"
    assert place.segments(SHARD)[-1].stat().st_size == before
    loop.turn()
    story = read(place).story
    assert (story.cache_seq, story.handled_seq) == (2, 4)
    assert story.running == {2: Started(2, "GUILD_CREATE", 10, "k")}
    assert story.lasts == {500: 77}
    assert story.session == session(guilds=(10, 11))
    assert list(story.guilds) == [10]


def test_the_end_of_a_handler_waits_for_company_and_not_longer_than_its_time(place: Place) -> None:
    loop = StillLoop()
    journal = begun(place, loop=loop)
    journal.session(1, session())
    journal.started(2, "MESSAGE_CREATE", 10, "10:1")
    journal.seen(2)
    loop.turn()
    journal.done(2)
    assert not loop.soon
    assert [delay for delay, _ in loop.later] == [writer.DONE_S]
    assert read(place).story.running
    loop.retry()
    assert not read(place).story.running
    journal.done(2)
    assert not loop.later, "what has ended does not end again"


def test_a_new_session_ends_what_was_before(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session("first"))
    guild_create(journal, 2, 10)
    journal.started(2, "GUILD_CREATE", 10, "")
    journal.flush()
    journal.session(1, session("second", (11,)))
    story = read(place).story
    assert story.session == session("second", (11,))
    assert (len(story.guilds), story.running, story.handled_seq) == (0, {}, 1)
    assert len(place.segments(SHARD)) == 1, "the segments of the old session are gone"


def test_a_successor_goes_on_in_a_segment_of_its_own(place: Place) -> None:
    first = begun(place)
    first.session(1, session(guilds=(10, 12)))
    guild_create(first, 2, 10)
    first.started(2, "GUILD_CREATE", 10, "k")
    first.waits(session())
    first.pulse(b"rates")
    first.last(3, 5, 6)
    first.release("a#2", 1.5, "respawn")
    left = read(place).story
    assert left.released is not None
    assert (left.released.to, left.released.last_at) == ("a#2", 1.5)

    second = begun(place, left, epoch=2)
    assert second.story.interrupted == (Started(2, "GUILD_CREATE", 10, "k"),)
    channel_create(second, 4, 10, 99)
    second.flush()
    story = read(place).story
    assert story.head is not None
    assert (story.head.epoch, story.head.generation) == (2, 3)
    assert [path.name for path in place.segments(SHARD)] == [
        "00000002-a#1.seg",
        "00000003-a#2.seg",
    ]
    assert story.handled_seq == 4
    assert story.interrupted == (Started(2, "GUILD_CREATE", 10, "k"),)
    assert (story.pulse, story.lasts, story.released) == (b"rates", {5: 6}, None)
    assert story.waits == msgspec.msgpack.encode(session())
    assert story.session is not None
    assert story.session.guilds == [10, 12]


def test_guilds_that_were_left_are_left_and_those_out_of_reach_stay(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session(guilds=(10, 11, 12)))
    guild_create(journal, 2, 10)
    guild_create(journal, 3, 11)
    for seq, guild, more in ((4, 10, {}), (5, 11, {"unavailable": True}), (6, 12, {})):
        raw = text("GUILD_DELETE", seq, {"id": str(guild), **more})
        journal.event(seq, "GUILD_DELETE", raw, guild)
    guild_create(journal, 7, 13)
    journal.flush()
    story = read(place).story
    assert story.session is not None
    assert story.session.guilds == [11]
    assert sorted(story.guilds) == [11, 13]
    kept = story.kept_session()
    assert kept is not None
    assert kept.guilds == [11, 13]
    assert [piece.seq for piece in story.pieces()] == [7, 3, 5]


def test_changes_of_guilds_that_never_came_are_not_kept(place: Place) -> None:
    """As the library drops them."""
    journal = begun(place)
    journal.session(1, session(guilds=(10,)))
    channel_create(journal, 2, 10, 99)
    guild_create(journal, 3, 10)
    journal.flush()
    story = read(place).story
    assert [piece.seq for piece in story.pieces()] == [3]
    assert story.handled_seq == 3


def test_what_is_new_comes_as_it_is_written(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session())
    guild_create(journal, 2, 10)
    journal.flush()
    follower = Follower(place, SHARD)
    assert events(follower, follower.more()) == [(10, "GUILD_CREATE")]
    assert follower.more() == []
    channel_create(journal, 3, 10, 99)
    user = text("USER_UPDATE", 4, {"id": "7"})
    journal.event(4, "USER_UPDATE", user, None)
    assert follower.more() == []
    journal.flush()
    assert events(follower, follower.more()) == [(10, "CHANNEL_CREATE"), (0, "USER_UPDATE")]
    journal.session(1, session("other"))
    guild_create(journal, 2, 11)
    journal.flush()
    assert events(follower, follower.more()) == [(0, "SESSION"), (11, "GUILD_CREATE")]
    follower.close()


def test_half_a_frame_is_not_yet_there_and_then_it_is(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session())
    whole = place.segments(SHARD)[0].stat().st_size
    guild_create(journal, 2, 10)
    journal.flush()
    path = place.segments(SHARD)[0]
    data = path.read_bytes()
    follower = Follower(place, SHARD)
    path.write_bytes(data[: whole + 20])
    assert follower.more() == []
    assert follower.story.handled_seq == 1
    with path.open("ab") as file:
        file.write(data[whole + 20 :])
    assert len(follower.more()) == 1
    follower.close()


def test_what_a_killed_writer_began_is_not_there_for_the_next(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session())
    guild_create(journal, 2, 10)
    journal.flush()
    path = place.segments(SHARD)[0]
    path.write_bytes(path.read_bytes()[:-3])
    story = read(place).story
    second = begun(place, story, epoch=2)
    second.seen(2)
    second.flush()
    follower = read(place)
    assert follower.problem == ""
    assert (len(follower.story.guilds), follower.story.handled_seq) == (0, 2)


@pytest.mark.parametrize("damage", ["bit", "cut", "first"])
def test_damage_makes_a_journal_unusable(place: Place, damage: str) -> None:
    first = begun(place)
    first.session(1, session())
    guild_create(first, 2, 10)
    first.flush()
    second = begun(place, read(place).story, epoch=2)
    second.seen(9)
    second.flush()
    path = place.segments(SHARD)[0]
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[-5] ^= 1
    elif damage == "cut":
        del data[-40:]
    else:
        data[:4] = b"\0\0\0\0"
    path.write_bytes(data)
    follower = read(place)
    assert follower.problem.startswith("shard 1: ")
    assert follower.story.session is None
    assert follower.more() == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"application": "another"}, "application app"),
        ({"num_shards": 8}, "shard 1 of 4"),
    ],
    ids=["application", "shards"],
)
def test_the_journal_of_another_is_not_read(tmp_path: Path, more: dict, said: str) -> None:
    mine = place_in(tmp_path)
    journal = begun(mine)
    journal.session(1, session())
    other = place_in(tmp_path, **more)
    if other.of(SHARD) != mine.of(SHARD):
        mine.of(SHARD).rename(other.of(SHARD))
    assert said in read(other).problem


def test_another_boot_throws_everything_away(tmp_path: Path) -> None:
    mine = place_in(tmp_path)
    begun(mine).session(1, session())
    assert mine.segments(SHARD)
    mine.close()
    assert place_in(tmp_path).segments(SHARD), "the same boot keeps it"
    other = place_in(tmp_path, boot_id="another")
    assert other.segments(SHARD) == []
    assert {path.name for path in other.folder.iterdir()} == {"boot", "locks", "locks.boot"}


def test_a_journal_that_ended_or_broke_is_no_journal_for_who_followed_it(place: Place) -> None:
    """Else it would RESUME from where it had read to, and handle what came after it again."""
    journal = begun(place)
    journal.session(1, session())
    guild_create(journal, 2, 10)
    journal.flush()
    follower = Follower(place, SHARD)
    assert len(follower.more()) == 1
    journal._break("planted")
    assert follower.more() == []
    assert "gone" in follower.problem
    assert follower.story.session is None
    follower.close()


def test_the_session_is_over_and_the_next_ready_begins_anew(place: Place) -> None:
    journal = begun(place)
    journal.session(1, session())
    journal.ended()
    assert place.segments(SHARD) == []
    journal.seen(5)
    journal.flush()
    assert place.segments(SHARD) == []
    journal.session(1, session("other"))
    assert read(place).story.session == session("other")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["guild", "channel", "seen", "last", "start", "done", "roll", "next"]),
        st.integers(0, 4),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_writer_knows_what_a_reader_will_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    place = place_in(tmp_path_factory.mktemp("j"))
    journal = begun(place)
    journal.session(1, session())
    follower, fed, epoch = Follower(place, SHARD), set[int](), 1
    for number, (what, value) in enumerate(steps):
        epoch += what == "next"
        journal = _step(place, journal, number + 2, what, value, epoch)
        fed |= {piece.seq for piece in follower.more()}
    journal.flush()
    fed |= {piece.seq for piece in follower.more()}
    found = read(place)
    assert (found.problem, follower.problem) == ("", "")
    for story in (found.story, follower.story):
        for name in ("handled_seq", "cache_seq", "running", "lasts"):
            assert getattr(story, name) == getattr(journal.story, name), name
        assert list(story.pieces()) == list(journal.story.pieces())
    assert fed >= {piece.seq for piece in found.story.pieces()}
    follower.close()
    journal.close()
    place.close()


def _step(
    place: Place, journal: ShardJournal, seq: int, what: str, value: int, epoch: int
) -> ShardJournal:
    match what:
        case "guild":
            guild_create(journal, seq, 10 + value)
        case "channel":
            channel_create(journal, seq, 10 + value, seq)
        case "seen":
            journal.seen(seq)
        case "last":
            journal.last(seq, value, seq)
        case "start":
            journal.seen(seq)
            journal.started(seq, "X", value, "")
        case "done":
            for one in list(journal.story.running)[:value]:
                journal.done(one)
        case "next":
            journal.release("next", 0.0, "")
            return begun(place, read(place).story, epoch=epoch)
        case _:
            journal.flush()
    return journal
