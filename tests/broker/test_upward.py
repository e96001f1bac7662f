"""STATE_UPDATE and GUILD_SYNC on their way up, and a guild's records on their way down."""

from __future__ import annotations

from typing import Any

import pytest

from broker.services import statereads
from shard_node.state.economy import Deposit
from shard_node.state.guild_config import UpdateConfig
from shard_node.state.keys import Table, key_of
from shard_node.state.members import UpdateMember
from shard_node.state.permissions import UpdatePermission
from shard_node.state.premium import GrantPremium
from shard_node.state.records import Record as Row
from shard_node.state.rows import read
from shard_node.state.values import SetValue, Value
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.categories import GuildSync, Record, StateUpdate
from shard_node.wire.state import StateDone, StateGuild
from tests.support.state_world import OP, A, B, StateWorld

GUILD = 1 << 22
OP_ID = "0123456789abcdef" * 2


def update(
    table: str,
    key: str,
    changed: dict[str, Any],
    old_version: int = 0,
    new_version: int = 1,
    **more: Any,
) -> StateUpdate:
    return StateUpdate(table, 0, key, changed, old_version, new_version, **more)


def up(world: StateWorld, body: StateUpdate | GuildSync, peer: bytes = A) -> Any:
    topic = topics.STATE_UPDATE if isinstance(body, StateUpdate) else topics.GUILD_SYNC
    answer = world.ask(topic, body, peer)
    assert isinstance(answer, StateDone | ErrorBody), answer
    return answer


def fields(world: StateWorld, table: Table, *ids: int) -> dict[str, Any] | None:
    row = read(Row, world.port.view.get(key_of(table, *ids)))
    return None if row is None else row.fields


def test_an_update_of_a_record_is_a_transaction() -> None:
    world = StateWorld(auto=True)
    first = up(world, update("config", str(GUILD), {"prefix": "?", "level": 2}), B)
    assert [(o.lsn, o.error) for o in first.outcomes] == [(1, None)]
    up(world, update("config", str(GUILD), {"prefix": "!"}, 1, 2, removed=("level",)))
    assert fields(world, Table.CONFIG, GUILD) == {"prefix": "!"}
    entry = world.port.entry(2)
    assert entry is not None
    payload = entry.payload()
    assert payload is not None
    assert payload.actor.node == "a"
    told = world.events(topics.STATE_UPDATE, A)
    assert [(u.changed, u.removed) for u in told][1] == ({"prefix": "!"}, ("level",))


@pytest.mark.parametrize(
    ("table", "key", "place"),
    [
        ("member", f"{GUILD}/7", (Table.MEMBER, GUILD, 7)),
        ("permission", f"{GUILD}/8", (Table.PERMISSION, GUILD, 8)),
        ("user", "7", (Table.USER, 7)),
    ],
)
def test_each_table_of_records(table: str, key: str, place: tuple[Any, ...]) -> None:
    world = StateWorld(auto=True)
    up(world, update(table, key, {"name": "x"}, -1))
    up(world, update(table, key, {"more": 1}, -1))
    assert fields(world, *place) == {"name": "x", "more": 1}
    up(world, update(table, key, {}, 2, 0), OP)
    assert fields(world, *place) is None


def test_a_value_has_one_field() -> None:
    world = StateWorld(auto=True)
    up(world, update("value", "motd", {"value": [1, 2]}))
    row = read(Value, world.port.view.get(key_of(Table.VALUE, "motd")))
    assert row is not None
    assert row.value == [1, 2]
    up(world, update("value", "motd", {}, 1, 0))
    assert world.port.view.get(key_of(Table.VALUE, "motd")) is None


def test_an_old_version_is_a_conflict_with_both() -> None:
    world = StateWorld(auto=True)
    up(world, update("config", str(GUILD), {"prefix": "?"}))
    (outcome,) = up(world, update("config", str(GUILD), {"prefix": "!"})).outcomes
    assert (outcome.lsn, outcome.error.code) == (0, "E_VERSION")
    assert set(outcome.error.details.values()) >= {0, 1}
    assert fields(world, Table.CONFIG, GUILD) == {"prefix": "?"}


def test_the_senders_id_makes_it_one() -> None:
    world = StateWorld(auto=True)
    body = update("config", str(GUILD), {"prefix": "?"}, op=OP_ID)
    assert up(world, body).outcomes == up(world, body).outcomes
    assert world.port.place().lsn == 1
    other = update("config", str(GUILD), {"prefix": "!"}, -1, op=OP_ID)
    assert up(world, other).outcomes[0].error.code == "E_OP_ID"


def test_without_an_id_the_same_twice_is_two() -> None:
    world = StateWorld(auto=True)
    for _ in range(2):
        assert up(world, update("value", "x", {"value": 1}, -1)).outcomes[0].error is None
    one, two = world.port.entry(1), world.port.entry(2)
    assert one is not None and two is not None
    assert one.op_id != two.op_id
    assert one.salt != two.salt


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (update("account", "ann", {"balance": 5}), "E_BAD_VALUE"),
        (update("ban", "7/global", {"reason": "x"}), "E_BAD_VALUE"),
        (update("nothing", "x", {"a": 1}), "E_BAD_VALUE"),
        (update("config", "x", {"a": 1}), "E_BAD_NAME"),
        (update("config", f"{1 << 64}", {"a": 1}), "E_BAD_NAME"),
        (update("member", "7", {"a": 1}), "E_BAD_NAME"),
        (update("config", "7", {}), "E_BAD_VALUE"),
        (update("config", "7", {"a": 1}, removed=("a",)), "E_BAD_VALUE"),
        (update("config", "7", {"": 1}), "E_BAD_VALUE"),
        (update("value", "x", {"other": 1}), "E_BAD_VALUE"),
        (update("config", "7", {"a": 1}, op="short"), "E_BAD_VALUE"),
        (update("config", "7", {}, 0, 0), "E_NOT_THERE"),
        (update("config", "7", {"a": "x" * (200 << 10)}), "E_TOO_LARGE"),
        (GuildSync(7, 0, (Record("config", "8", 0, {"a": 1}),)), "E_BAD_VALUE"),
        (GuildSync(7, 0, (Record("user", "7", 0, {"a": 1}),)), "E_BAD_VALUE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_and_writes_nothing(body: Any, code: str) -> None:
    world = StateWorld(auto=True)
    (outcome,) = up(world, body).outcomes
    assert (outcome.lsn, outcome.error.code) == (0, code)
    assert world.port.place().lsn == 0
    assert world.errors == []


def test_as_an_event_it_is_not_taken() -> None:
    world = StateWorld(auto=True)
    from broker.core.events import FrameReceived
    from shard_node.wire.codec import encode_body, encode_header
    from shard_node.wire.header import Kind, header
    from shard_node.wire.targets import BROKER

    head = header(Kind.MESSAGE, BROKER, topics.STATE_UPDATE)
    body = update("config", str(GUILD), {"prefix": "?"})
    world.give(FrameReceived(A, encode_header(head), encode_body(body)))
    assert world.port.place().lsn == 0
    assert world.broker.fleet.rejected["kind"] == 1


# --- a whole guild


def sync(*records: tuple[str, str, dict[str, Any]]) -> GuildSync:
    return GuildSync(GUILD, 0, tuple(Record(t, k, 0, f) for t, k, f in records))


def test_of_a_guild_only_what_differs_is_written_in_one_transaction() -> None:
    world = StateWorld(auto=True)
    world.outcome(UpdateMember(guild=GUILD, user=7, fields={"nick": "a", "note": "kept"}))
    world.outcome(UpdateMember(guild=GUILD, user=8, fields={"nick": "b"}))
    world.outcome(UpdatePermission(guild=GUILD, target=9, fields={"name": "mods"}))
    world.heard.clear()
    body = sync(
        ("member", f"{GUILD}/7", {"nick": "A"}),
        ("member", f"{GUILD}/8", {"nick": "b"}),
        ("permission", f"{GUILD}/9", {}),
        ("permission", f"{GUILD}/10", {"name": "new"}),
    )
    (outcome,) = up(world, body).outcomes
    assert (outcome.lsn, len(outcome.results)) == (4, 3)
    assert fields(world, Table.MEMBER, GUILD, 7) == {"nick": "A", "note": "kept"}
    assert fields(world, Table.PERMISSION, GUILD, 9) is None
    told = world.events(topics.STATE_UPDATE, A)
    assert [(u.key.split("/")[1], u.changed) for u in told] == [
        ("7", {"nick": "A"}), ("9", {}), ("10", {"name": "new"}),
    ]  # fmt: skip
    again = up(world, body)
    assert again == StateDone(())
    assert world.port.place().lsn == 4


def test_that_nothing_differs_is_said_when_it_is_durable() -> None:
    world = StateWorld()
    world.do(world.tx(UpdateMember(guild=GUILD, user=7, fields={"nick": "a"})))
    number = world.send(A, topics.GUILD_SYNC, sync(("member", f"{GUILD}/7", {"nick": "a"})))
    assert world.answer(number) is None
    world.commit()
    assert world.answer(number) == StateDone(())


def test_more_than_a_transaction_takes_is_refused() -> None:
    world = StateWorld(auto=True)
    records = [("member", f"{GUILD}/{n}", {"nick": "x"}) for n in range(1, 258)]
    (outcome,) = up(world, sync(*records)).outcomes
    assert (outcome.error.code, outcome.error.details["count"]) == ("E_TOO_LARGE", 257)
    assert up(world, sync(*records[:256])).outcomes[0].lsn == 1


# --- down


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_all_records_of_a_guild(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(statereads, "STATE_KEYS_MAX", limit)
    world = StateWorld(auto=True)
    for guild in (GUILD, GUILD + 1):
        world.outcome(UpdateConfig(guild=guild, fields={"prefix": str(guild)}))
        for user in range(3):
            world.outcome(UpdateMember(guild=guild, user=user, fields={"nick": f"{user}"}))
        world.outcome(UpdatePermission(guild=guild, target=9, fields={"name": "mods"}))
        world.outcome(GrantPremium(f"guild:{guild}", "gold"))
    world.outcome(SetValue("other", 1))
    world.outcome(Deposit("ann", 1))
    found: list[Record] = []
    after = b""
    while True:
        page = world.ask(topics.STATE_GUILD, StateGuild(GUILD, after))
        assert (page.guild, page.lsn) == (GUILD, 14)
        found += page.records
        after = page.after
        if not after:
            break
    assert [(r.table, r.key) for r in found] == [
        ("config", str(GUILD)), ("member", f"{GUILD}/0"), ("member", f"{GUILD}/1"),
        ("member", f"{GUILD}/2"), ("permission", f"{GUILD}/9"), ("premium", f"guild:{GUILD}"),
    ]  # fmt: skip
    assert found[0] == Record("config", str(GUILD), 1, {"prefix": str(GUILD)})


def test_a_guild_that_nobody_knows_has_no_records() -> None:
    assert StateWorld().ask(topics.STATE_GUILD, StateGuild(5)) == GuildSync(5, 0, ())
    assert StateWorld().ask(topics.STATE_GUILD, StateGuild(-1)).code == "E_BAD_NAME"
