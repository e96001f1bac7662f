"""A person is forgotten: his rows, what tells of him in the log, and the sums stay true."""

from __future__ import annotations

import msgspec
import pytest

from shard_node.state.audit import audit, audit_log, compare
from shard_node.state.cooldowns import AcquireCooldown
from shard_node.state.economy import Deposit, SetFloor, Transfer, Withdraw
from shard_node.state.erasing import Erased, ForgetUser, belongs, names
from shard_node.state.errors import NotUndoable, StateError
from shard_node.state.guild_config import UpdateConfig
from shard_node.state.keys import Table
from shard_node.state.log import GENESIS, erased, fault, write_entry
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.moderation import Ban, BanUser, is_banned
from shard_node.state.permissions import UpdatePermission
from shard_node.state.premium import GrantPremium, RevokePremium
from shard_node.state.rollback import Rollback
from shard_node.state.traces import to_erase
from shard_node.state.users import DeleteUser, UpdateUser
from shard_node.state.values import DeleteValue, SetValue
from tests.support.state import World

HE = 812345678901234567
OTHER = 812345678901234568
ME = f"user:{HE}"


@pytest.fixture
def world() -> World:
    """Everything that can be said of two people."""
    world = World()
    for user in (HE, OTHER):
        name = f"user:{user}"
        world.do(Deposit(name, 100))
        world.do(Deposit(f"{name}:savings", 50), Transfer(name, "shop", 10))
        world.do(UpdateUser(user, fields={"name": "x"}))
        world.do(DeleteUser(user))
        world.do(UpdateUser(user, fields={"name": "y"}))
        world.do(UpdateMember(5, user, fields={"nick": "x"}))
        world.do(UpdateMember(6, user, fields={"nick": "x"}))
        world.do(DeleteMember(6, user))
        world.do(UpdatePermission(5, user, fields={"play": True}))
        world.do(GrantPremium(name, "gold"))
        world.do(RevokePremium(name))
        world.do(GrantPremium(name, "gold"))
        world.do(BanUser(user, 5, "rude"))
        world.do(BanUser(99, user % 1000, "because he said so"), user=user)
        world.do(AcquireCooldown(f"daily:{user}:x", 1, 90_000))
        world.do(SetValue(name, 1), SetValue(f"{name}:theme", 1))
        world.do(DeleteValue(name))
    return world


def traces(world: World, user: int) -> list[str]:
    """Rows whose key or bytes have the id in them, raw."""
    number, text = user.to_bytes(8, "big"), str(user).encode()
    found = []
    for key, data in world.view.rows.items():
        if any(part in key or part in data for part in (number, text)):
            found.append(Table(key[1]).name)
    return sorted(found)


def in_log(world: World, user: int) -> list[int]:
    number, text = user.to_bytes(8, "big"), str(user).encode()
    return [
        entry.lsn
        for entry in world.log()
        if any(part in write_entry(entry) for part in (number, text))
    ]


def test_no_row_tells_of_him_but_the_one_that_says_so(world: World) -> None:
    others = traces(world, OTHER)
    assert len(traces(world, HE)) == len(others) > 15
    world.do(ForgetUser(HE))
    assert traces(world, HE) == ["ERASED"]
    assert traces(world, OTHER) == others
    mark = world.row(Erased, Table.ERASED, HE)
    assert mark is not None
    assert mark.rows == 8 + 1
    ban = world.row(Ban, Table.BAN, 99, HE % 1000)
    assert ban is not None
    assert (ban.by, ban.reason) == (0, "because he said so")


def test_what_he_had_goes_to_a_sink_and_what_he_owed_comes_from_a_source(world: World) -> None:
    world.do(ForgetUser(HE))
    sums, findings = audit(world.view)
    assert findings == []
    assert sums.sinks["forgotten"] == 140
    world.do(SetFloor(f"user:{OTHER}", -500), Withdraw(f"user:{OTHER}", 500))
    world.do(ForgetUser(OTHER))
    sums, findings = audit(world.view)
    assert findings == []
    assert (sums.sinks["forgotten"], sums.sources["forgotten"]) == (190, 410)
    log, findings = audit_log(world.log())
    assert (findings, compare(sums, log)) == ([], [])


def test_payloads_that_tell_of_him_are_erased_and_the_chain_stays_whole(world: World) -> None:
    world.do(Transfer(f"user:{OTHER}", ME, 5))
    world.do(Rollback(world.place.lsn))
    world.do(UpdateConfig(5, fields={"owner": HE}))
    world.do(UpdateConfig(5, fields={"owner": 1}))  # the before-image has him
    world.do(SetValue("note", {"who": [f"<@{HE}>"]}))
    world.do(SetValue("other", f"{HE}0"))  # another number
    world.do(SetValue("clean", 1), reason=f"asked by {HE}")
    world.do(ForgetUser(HE))
    known = in_log(world, HE)
    for lsn in list(to_erase(world.log(), HE)):
        assert lsn in known
        world.entries[lsn] = erased(world.entries[lsn])
    last = world.place.lsn
    assert in_log(world, HE) == [last - 2, last]  # the other number, and that he was forgotten
    previous = GENESIS
    for entry in world.log():
        assert fault(entry, previous) == ""
        previous = entry.digest
    tables, _ = audit(world.view)
    log, findings = audit_log(world.log())
    assert (findings, compare(tables, log)) == ([], [])
    assert log.unknown > 0


def test_it_cannot_be_undone_and_neither_can_what_went_with_it(world: World) -> None:
    world.do(ForgetUser(HE))
    last = world.place.lsn
    for tx in range(1, last + 1):
        payload = world.entries[tx].payload()
        assert payload is not None
        about_him = tx == last or tx <= 17
        if about_him and tx not in (14,):
            with pytest.raises(StateError):
                world.do(Rollback(tx))
    with pytest.raises(NotUndoable):
        world.do(Rollback(last))
    assert traces(world, HE) == ["ERASED"]


def test_bans_may_be_kept_without_their_reasons(world: World) -> None:
    world.do(ForgetUser(HE, keep_bans=True))
    ban = is_banned(world.view, HE, 5, world.now_ms)
    assert ban is not None
    assert ban.reason == ""
    assert traces(world, HE) == ["BAN", "ERASED"]


def test_he_may_come_back_and_be_forgotten_again(world: World) -> None:
    world.do(ForgetUser(HE))
    world.do(Deposit(ME, 5), UpdateMember(5, HE, fields={"nick": "x"}))
    assert world.balance(ME) == 5
    assert world.result(ForgetUser(HE)) == {"rows": 2}
    assert traces(world, HE) == ["ERASED"]


def test_who_was_never_there_is_forgotten_as_well(world: World) -> None:
    assert world.result(ForgetUser(123)) == {"rows": 0}


def test_names() -> None:
    assert belongs("user:7", 7)
    assert belongs("user:7:bank", 7)
    assert not belongs("user:77", 7)
    assert not belongs("bank:user:7", 7)
    assert names("daily:7", 7)
    assert names("<@7>", 7)
    assert not names("77 and 17", 7)


def test_the_record_itself_holds_nothing_of_what_was_there(world: World) -> None:
    world.do(ForgetUser(HE))
    payload = world.log()[-1].payload()
    assert payload is not None
    assert payload.undo == ()
    assert b"nick" not in msgspec.msgpack.encode(payload)
