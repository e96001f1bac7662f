"""`state`, `economy`, `ban`, `premium`, `cooldown` against the broker's own core."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shard_node.state.cooldowns import AcquireCooldown
from shard_node.state.economy import Deposit
from shard_node.state.log import erased
from shard_node.state.moderation import BanUser
from shard_node.state.tx import Actor
from shard_node.state.values import SetValue
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.state import CooldownAcquire, CooldownUse, StateAt, StateDo
from shardctl import client
from shardctl.cli import cli
from shardctl.errors import NoBroker
from shardctl.state import Clock, local, login
from tests.support.state_world import OP, WALL_MS, StateWorld

DAY_MS = 86_400_000
USER = 80351110224678912


class Direct(client.Client):
    """The operator's client with a broker's core at the other end, and no socket."""

    world: StateWorld
    on_ask: Callable[[str, Any], None]

    def __init__(self, *_args: Any, **_how: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def _request(self, topic: str, body: Any, reply_type: type[Any]) -> Any:
        Direct.on_ask(topic, body)
        answer = self.world.ask(topic, body, OP)
        if isinstance(answer, ErrorBody):
            raise client.refused(answer)
        assert isinstance(answer, reply_type)
        return answer


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> StateWorld:
    Direct.world = StateWorld(auto=True)
    Direct.on_ask = staticmethod(lambda topic, body: None)
    monkeypatch.setattr(client, "Client", Direct)
    monkeypatch.setenv("SHARDCTL_FLEET", "test")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("COLUMNS", raising=False)
    return Direct.world


def run(*args: str, **how: Any) -> Result:
    return CliRunner().invoke(cli, args, **how)


def done(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def shown(*args: str) -> Any:
    value = json.loads(done(*args, "--json"))
    assert value["schema"] == 1
    return value


def refused(code: str, exit_code: int, *args: str) -> str:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    assert result.stderr.startswith(f"error[{code}]: "), result.stderr
    return result.stderr


def last(world: StateWorld) -> int:
    return world.port.place().lsn


# --- rows


def test_a_value_is_set_read_listed_and_deleted(world: StateWorld) -> None:
    assert done("state", "set", "motd", '{"text": "hi", "n": [1, 2.5, null]}') == (
        "value motd has version 1 (transaction 1)\n"
    )
    assert json.loads(done("state", "get", "motd")) == {"text": "hi", "n": [1, 2.5, None]}
    row = shown("state", "get", "motd")
    assert (row["table"], row["name"], row["version"], row["tx"]) == ("value", "motd", 1, 1)
    done("state", "set", "name", "as it stands", "--text")
    assert shown("state", "get", "name")["value"] == "as it stands"
    assert [row["name"] for row in shown("state", "get")["rows"]] == ["name", "motd"]
    assert shown("state", "get", "--limit", "1")["more"]
    assert "motd" in done("state", "get")
    done("state", "delete", "motd")
    refused("E_NOT_THERE", 4, "state", "get", "motd")
    refused("E_NOT_THERE", 4, "state", "delete", "motd")


@pytest.mark.parametrize(
    ("table", "name", "what"),
    [("config", "41", "config"), ("member", "41/7", "member"), ("user", "7", "user"),
     ("permission", "41/7", "permission")],
)  # fmt: skip
def test_a_record_is_updated_by_fields(world: StateWorld, table: str, name: str, what: str) -> None:
    at = ("--table", table)
    done("state", "set", name, '{"prefix": "!", "lang": "de"}', *at)
    done("state", "set", name, '{"prefix": "?"}', *at)
    assert shown("state", "get", name, *at)["value"] == {"prefix": "?", "lang": "de"}
    done("state", "set", name, "--remove", "lang", *at)
    row = shown("state", "get", name, *at)
    assert (row["value"], row["version"], row["name"]) == ({"prefix": "?"}, 3, name)
    assert [row["name"] for row in shown("state", "get", *at)["rows"]] == [name]
    done("state", "delete", name, *at)
    assert what in refused("E_NOT_THERE", 4, "state", "get", name, *at)


def test_a_version_that_does_not_match_is_refused_with_both(world: StateWorld) -> None:
    done("state", "set", "motd", "1", "--if-version", "0")
    said = refused("E_VERSION", 77, "state", "set", "motd", "2", "--if-version", "7")
    assert "has version 1, not 7" in said
    assert last(world) == 1


@pytest.mark.parametrize(
    "args",
    [
        ("state", "set", "motd", "no json"),
        ("state", "set", "motd", "NaN"),
        ("state", "set", "motd", '{"a": 1, "a": 2}'),
        ("state", "set", "motd", "[" * 100_000),
        ("state", "set", "motd"),
        ("state", "set", "motd", "1", "--remove", "x"),
        ("state", "set", "41", "1", "-t", "config"),
        ("state", "set", "41", "{}", "-t", "config"),
        ("state", "set", "41", "{}", "-t", "member"),
        ("state", "set", "x", "{}", "-t", "user"),
        ("state", "get", "a\nb"),
        ("state", "rollback", "1"),
        ("state", "rollback", "1", "--reason", "  "),
        ("state", "rollback", "0", "--reason", "x"),
        ("state", "forget", "0"),
        ("state", "forget", "me"),
        ("state", "forget", "5"),
        ("state", "forget", "4194303"),
        ("state", "log", "--kind", "nothing"),
        ("economy", "transfer", "a", "b", "0"),
        ("economy", "transfer", "a", "b", "+5"),
        ("economy", "transfer", "a", "b", "5.0"),
        ("economy", "transfer", "a", "b", "1_000"),
        ("economy", "transfer", "a", "b", "\u0665"),
        ("economy", "transfer", "a", "b", "9223372036854775808"),
        ("economy", "transfer", "--", "a", "b", "-5"),
        ("economy", "floor", "a", "1"),
        ("economy", "deposit", "a", "5", "--idempotency-key", ""),
        ("economy", "transfer", "", "b", "5"),
        ("economy", "deposit", "a\tb", "5"),
        ("state", "set", "", "5"),
        ("state", "delete", "a\nb"),
        ("ban", "add", "7"),
        ("ban", "add", "7", "--reason", "x", "--until", "2020-01-01"),
        ("ban", "add", "7", "--reason", "x", "--until", "2099-01-01", "--for", "1d"),
        ("ban", "add", "7", "--reason", "x", "--for", "1 day"),
        ("ban", "add", "7", "--reason", "x", "--scope", "here"),
        ("economy", "history", "\udcff"),
        ("cooldown", "show", "\udcff"),
        ("cooldown", "clear", "\udcff"),
        ("premium", "grant", "7", "gold"),
        ("premium", "grant", "user:7", "gold", "--for", "0d"),
    ],
)
def test_bad_input_is_wrong_usage_and_nothing_is_written(
    world: StateWorld, args: tuple[str, ...]
) -> None:
    refused("E_USAGE", 2, *args)
    assert last(world) == 0


def test_a_refusal_says_what_follows_and_what_to_type(world: StateWorld) -> None:
    done("state", "set", "a b", "1")
    assert refused("E_VERSION", 77, "state", "set", "a b", "2", "--if-version", "0") == (
        "error[E_VERSION]: value a b has version 1, not 0.\n"
        "  Nothing was changed.\n"
        "  hint: read it again, decide again, and give its version with --if-version\n"
        "  hint: shardctl state get 'a b' --table value\n"
    )
    done("economy", "deposit", "ann", "5")
    assert "hint: shardctl economy balance ann\n" in refused(
        "E_FUNDS", 77, "economy", "transfer", "ann", "bob", "6"
    )
    assert "hint: shardctl ban list 7\n" in refused("E_NOT_THERE", 4, "ban", "rm", "7")
    assert "premium list user:7" in refused("E_NOT_THERE", 4, "premium", "revoke", "user:7")
    assert "cooldown show" in refused("E_NOT_THERE", 4, "cooldown", "clear", "k")
    assert "state log" in refused("E_NO_TX", 4, "state", "rollback", "9", "--reason", "x")
    done("state", "set", "a b", "2")
    said = refused("E_CONFLICT", 77, "state", "rollback", "1", "--reason", "x")
    assert "overwrite them with --force" in said


def test_a_value_that_is_missing_and_a_number_below_zero(world: StateWorld) -> None:
    assert "VALUE is missing" in refused("E_USAGE", 2, "state", "set", "motd")
    assert "state set ... -- -5" in refused("E_USAGE", 2, "state", "set", "motd", "-5")
    assert "--help" in refused("E_USAGE", 2, "state", "set", "motd", "--fo")
    done("state", "set", "motd", "--", "-5")
    assert shown("state", "get", "motd")["value"] == -5


# --- the log, rollback, dry runs


def test_the_log_says_who_what_when_and_why(world: StateWorld) -> None:
    done("economy", "deposit", "ann", "5", "--reason", "start", "--user", str(USER))
    done("state", "set", "zero", "0")
    line, other = done("state", "log").splitlines()
    assert line == (
        f"1  {_now()}  shardctl for {USER}  Deposit account=ann amount=5 source=deposit"
        f"  ({login()}: start)"
    )
    assert "SetValue name=zero value=0" in other
    first = shown("state", "log")["records"][0]
    assert first["actor"] == {
        "node": "shardctl", "user": str(USER), "reason": f"{login()}: start",
    }  # fmt: skip
    assert first["ops"] == [{"kind": "Deposit", "account": "ann", "amount": 5, "source": "deposit"}]
    assert (first["tx"], first["minted"], first["undoes"]) == (1, 5, None)


def _now() -> str:
    return f"{local(WALL_MS):%Y-%m-%d %H:%M:%S}"


def test_the_log_is_filtered(world: StateWorld) -> None:
    done("economy", "deposit", "ann", "5")
    done("economy", "deposit", "bob", "5")
    done("ban", "add", str(USER), "--reason", "spam")
    done("economy", "transfer", "ann", "bob", "1", "--user", str(USER))

    def records(*args: str) -> list[int]:
        return [record["tx"] for record in shown("state", "log", *args)["records"]]

    assert records() == [1, 2, 3, 4]
    assert records("-n", "2") == [3, 4]
    assert records("--after", "1", "-n", "2") == [2, 3]
    assert records("--kind", "Transfer", "--kind", "banuser") == [3, 4]
    assert shown("state", "log")["records"][3]["kinds"] == ["Transfer"]
    assert "is none of AcquireCooldown, BanUser, " in refused(
        "E_USAGE", 2, "state", "log", "--kind", "ban"
    )
    assert records("--user", str(USER)) == [3, 4]
    ann = shown("economy", "history", "ann")["records"]
    assert [record["tx"] for record in ann] == [1, 4]
    assert "no such records" in run("state", "log", "--user", "9").stderr


def test_a_history_says_where_it_ends(world: StateWorld) -> None:
    for _ in range(4):
        done("economy", "deposit", "ann", "5")
    assert run("economy", "history", "ann").stderr == ""
    world.port.trim(3)
    said = "the log begins with transaction 3; older ones are in backups (shardctl backup list)"
    for args, told in (((), True), (("-n", "2"), False), (("--after", "3"), False),
                       (("--after", "2"), False), (("--after", "1"), True)):  # fmt: skip
        result = run("economy", "history", "ann", *args)
        assert (result.exit_code, said in result.stderr) == (0, told), args
    assert shown("economy", "history", "ann")["first"] == 3


def test_a_rollback_names_what_it_overwrote(world: StateWorld) -> None:
    done("state", "set", "motd", "1")
    done("state", "set", "motd", "2")
    said = refused("E_CONFLICT", 77, "state", "rollback", "1", "--reason", "wrong")
    assert "followed by 2" in said
    dry = run("state", "rollback", "1", "--reason", "wrong", "--force", "--dry-run")
    assert dry.stdout == "would be done: transaction 1 is rolled back; it overwrote at least 2\n"
    assert last(world) == 2
    forced = run("state", "rollback", "1", "--reason", "wrong", "--force")
    assert forced.stdout.startswith(
        "transaction 1 is rolled back; it overwrote at least 2 (transaction 3)"
    )
    assert "shardctl state rollback 3" in forced.stderr
    assert "rolled back by 3" in refused(
        "E_UNDONE", 77, "state", "rollback", "1", "--reason", "again"
    )
    refused("E_NO_TX", 4, "state", "rollback", "99", "--reason", "what")
    done("state", "rollback", "3", "--reason", "redo")
    assert shown("state", "get", "motd")["value"] == 2
    assert shown("state", "log")["records"][-1]["undoes"] == 3


def test_a_dry_run_says_the_same_as_the_deed_and_writes_nothing(world: StateWorld) -> None:
    done("economy", "deposit", "ann", "5")
    transfer = ("economy", "transfer", "ann", "bob", "2")
    dry = shown(*transfer, "--dry-run")
    assert dry["dry_run"]
    assert last(world) == 1
    assert shown(*transfer)["results"] == dry["results"] == [{"source": 3, "target": 2}]
    too_much = ("economy", "transfer", "ann", "bob", "4")
    assert refused("E_FUNDS", 77, *too_much, "--dry-run") == refused("E_FUNDS", 77, *too_much)


def test_a_person_is_forgotten_once_confirmed(world: StateWorld) -> None:
    done("state", "set", str(USER), '{"name": "x"}', "-t", "user")
    done("state", "set", f"41/{USER}", '{"nick": "x"}', "-t", "member")
    refused("E_CONFIRM", 2, "state", "forget", str(USER))
    assert shown("state", "forget", str(USER), "--dry-run")["results"] == [{"rows": 2}]
    assert done("state", "forget", str(USER), "--yes") == (
        f"user {USER} is forgotten: 2 rows erased (transaction 3)\n"
    )
    refused("E_NOT_THERE", 4, "state", "get", str(USER), "-t", "user")


def test_an_erased_record_says_so(world: StateWorld) -> None:

    done("state", "set", "motd", "1")
    world.port._entries[1] = erased(world.port._entries[1])
    assert done("state", "log").endswith("  SetValue: erased\n")
    assert shown("state", "log")["records"][0]["ops"] is None


def test_the_log_is_followed_through_a_broker_s_death_and_a_restore(
    world: StateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardctl.running.supervisor_pid", lambda _paths: 1)
    done("state", "set", "motd", "1")
    script: list[Any] = [
        lambda: world.outcome(Deposit("ann", 1)),
        NoBroker("no answer"),
        lambda: world.outcome(Deposit("ann", 2)),
        KeyboardInterrupt(),
    ]

    def on_ask(topic: str, body: Any) -> None:
        if topic == topics.STATE_MARK and body.wait_lsn:
            step = script.pop(0)
            if isinstance(step, BaseException):
                raise step
            step()

    Direct.on_ask = staticmethod(on_ask)
    lines = done("state", "log", "-f", "--json").splitlines()
    assert [json.loads(line)["tx"] for line in lines] == [1, 2, 3]
    assert not script


def test_following_ends_where_the_fleet_is_down(
    world: StateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardctl.running.supervisor_pid", lambda _paths: None)

    def on_ask(topic: str, body: Any) -> None:
        if topic == topics.STATE_MARK and body.wait_lsn:
            raise NoBroker("no answer")

    Direct.on_ask = staticmethod(on_ask)
    refused("E_NO_BROKER", 69, "state", "log", "-f")


def test_a_log_that_was_put_back_is_followed_from_there(
    world: StateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("state", "set", "motd", "1")
    answers = [StateAt(0, WALL_MS, 1, WALL_MS), KeyboardInterrupt()]
    ask = Direct._request

    def request(self: Direct, topic: str, body: Any, reply_type: type[Any]) -> Any:
        if topic == topics.STATE_MARK and body.wait_lsn:
            answer = answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return ask(self, topic, body, reply_type)

    monkeypatch.setattr(Direct, "_request", request)
    assert "put back to 0" in run("state", "log", "-f").stderr


# --- sent once


def test_a_transaction_without_an_answer_is_sent_again_and_happens_once(world: StateWorld) -> None:
    sent: list[bytes] = []

    def on_ask(topic: str, body: Any) -> None:
        if isinstance(body, StateDo):
            sent.extend(body.txs)
            if len(sent) == 1:
                world.answer(world.do(*body.txs))
                raise NoBroker("no answer")

    Direct.on_ask = staticmethod(on_ask)
    done("economy", "deposit", "ann", "5")
    assert sent == [sent[0]] * 2
    assert shown("economy", "balance", "ann")["accounts"][0]["balance"] == 5


def test_without_any_answer_it_says_that_nothing_is_known(world: StateWorld) -> None:
    def on_ask(topic: str, body: Any) -> None:
        if isinstance(body, StateDo):
            raise NoBroker("no answer")

    Direct.on_ask = staticmethod(on_ask)
    assert "not known" in refused("E_NO_BROKER", 69, "economy", "deposit", "ann", "5")


def test_a_full_disk_is_told_and_may_be_tried_later(world: StateWorld) -> None:
    world.auto = False

    def request(self: Direct, topic: str, body: Any, reply_type: type[Any]) -> Any:
        number = world.send(OP, topic, body)
        world.fail()
        raise client.refused(world.answer(number))

    Direct._request, kept = request, Direct._request
    try:
        said = refused("E_STORE_FULL", 75, "economy", "deposit", "ann", "5")
    finally:
        Direct._request = kept
    assert "make room" in said


# --- money


def test_money_moves_and_its_history_is_shown(world: StateWorld) -> None:
    assert done("economy", "deposit", "ann", "10", "--source", "daily") == (
        "ann has 10 (transaction 1)\n"
    )
    assert "ann (has 7) to bob (has 3)" in done("economy", "transfer", "ann", "bob", "3")
    assert "bob has 2" in done("economy", "withdraw", "bob", "1", "--sink", "shop")
    done("economy", "floor", "bob", "-5")
    assert "bob has -3" in done("economy", "withdraw", "bob", "5")
    found = shown("economy", "balance", "ann", "bob")["accounts"]
    assert [(one["balance"], one["floor"]) for one in found] == [(7, 0), (-3, -5)]
    assert done("economy", "balance", "ann").splitlines()[1].split() == ["ann", "7", "0"]
    records = shown("economy", "history", "bob")["records"]
    assert [record["tx"] for record in records] == [2, 3, 4, 5]
    assert [r["tx"] for r in shown("economy", "history", "bob", "-n", "1")["records"]] == [5]
    refused("E_NO_ACCOUNT", 4, "economy", "balance", "nobody")
    refused("E_NO_ACCOUNT", 4, "economy", "history", "nobody")
    assert "no such records" in run("economy", "history", "ann", "--after", "9").stderr
    refused("E_NO_ACCOUNT", 4, "economy", "transfer", "nobody", "ann", "1")
    refused("E_SELF_TRANSFER", 77, "economy", "transfer", "ann", "ann", "1")


def test_with_the_same_key_it_happens_once(world: StateWorld) -> None:
    pay = ("economy", "deposit", "ann", "5", "--idempotency-key", "salary-11")
    first = shown(*pay)
    assert shown(*pay) == {**first, "repeated": True}
    assert done(*pay) == "ann has 5 (transaction 1; done before, nothing was changed now)\n"
    assert "repeated" not in shown(*pay, "--dry-run")
    assert shown("economy", "balance", "ann")["accounts"][0]["balance"] == 5
    refused("E_OP_ID", 77, "economy", "deposit", "ann", "6", "--idempotency-key", "salary-11")
    other = ("economy", "deposit", "ann", "6", "--idempotency-key", "salary-11", "--dry-run")
    refused("E_OP_ID", 77, *other)
    assert shown(*pay, "--dry-run")["results"] == [{"balance": 5}]


# --- bans, premium, cooldowns


def test_bans_are_added_listed_and_lifted(world: StateWorld) -> None:
    said = done("ban", "add", str(USER), "--reason", "spam", "--user", "9")
    assert said.startswith(f"user {USER} is banned everywhere for ever")
    done("ban", "add", "7", "--scope", "41", "--reason", "rude", "--for", "1d12h")
    by_user = {row["user"]: row for row in shown("ban", "list")["bans"]}
    assert by_user[str(USER)] | {"since": 0} == {
        "user": str(USER), "scope": "global", "reason": "spam", "by": "9", "since": 0,
        "until": None, "until_ms": 0, "tx": 1,
    }  # fmt: skip
    assert by_user["7"]["scope"] == "41"
    end = world.shared.clock.at_ms(world.now) + DAY_MS * 3 // 2
    assert abs(by_user["7"]["until_ms"] - end) < 1000
    assert "rude" in done("ban", "list", "7")
    world.now += DAY_MS * 2 / 1000
    assert shown("ban", "list", "7")["bans"] == []
    done("ban", "rm", str(USER), "--reason", "appeal")
    assert shown("ban", "list")["bans"] == []
    refused("E_NOT_THERE", 4, "ban", "rm", str(USER))
    theirs = ("state", "log", "--user", str(USER), "--kind", "BanUser", "--kind", "UnbanUser")
    history = shown(*theirs)["records"]
    assert [record["ops"][0]["kind"] for record in history] == ["BanUser", "UnbanUser"]


def test_an_end_by_the_wall_clock_becomes_one_by_log_time() -> None:
    clock = Clock(1_000_000, 9_000_000)
    assert clock.to_log(9_500_000) == 1_500_000
    assert clock.to_wall(1_500_000) == 9_500_000


def test_an_end_is_shown_as_it_was_typed(
    world: StateWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    walls = (n / 1000 for n in itertools.count(WALL_MS))  # each asks a ms later
    monkeypatch.setattr("shardctl.state.time", SimpleNamespace(time=lambda: next(walls)))
    done("ban", "add", "7", "--reason", "x", "--until", "2099-01-31T18:00")
    done("premium", "grant", "user:7", "gold", "--until", "2099-01-31T18:00")
    assert "2099-01-31 18:00:00" in done("ban", "list")
    assert "2099-01-31 18:00:00" in done("premium", "list")
    assert "until=2099-01-31T18:00:00" in done("state", "log", "-n", "1")
    done("premium", "grant", "user:7", "silver", "--for", "36h")
    assert "for=1d12h" in done("state", "log", "-n", "1")


def test_premium_is_granted_prolonged_listed_and_revoked(world: StateWorld) -> None:
    grant = ("premium", "grant", "user:7", "gold", "--for", "30d")
    assert done(*grant).startswith("user:7 has gold until ")
    first = shown("premium", "list")["premium"][0]["until_ms"]
    done(*grant)
    row = shown("premium", "list", "user:7")["premium"][0]
    assert (row["tier"], row["until_ms"] - first) == ("gold", 30 * DAY_MS)
    done("premium", "grant", "user:7", "silver")
    assert "silver  for ever" in done("premium", "list")
    done("premium", "grant", "guild:41", "gold", "--until", "2099-01-01")
    assert len(shown("premium", "list")["premium"]) == 3
    assert "no more gold (tr" in done("premium", "revoke", "user:7", "gold")
    assert "no more silver" in done("premium", "revoke", "user:7")
    assert shown("premium", "list", "user:7")["premium"] == []
    refused("E_NOT_THERE", 4, "premium", "revoke", "user:7")


def test_short_cooldowns_are_shown_and_cleared(world: StateWorld) -> None:
    uses = tuple(CooldownUse(f"ping:{number}", 2, 30_000) for number in (1, 1, 2))
    world.ask(topics.COOLDOWN_ACQUIRE, CooldownAcquire(uses))
    world.outcome(AcquireCooldown("ping:1", 1, DAY_MS), actor=Actor("a"))
    rows = shown("cooldown", "show", "ping:")["cooldowns"]
    assert [(row["key"], row["used"], row["kept_in"]) for row in rows] == [
        ("ping:1", 2, "memory"), ("ping:1", 1, "log"), ("ping:2", 1, "memory"),
    ]  # fmt: skip
    assert shown("cooldown", "show", "--limit", "1")["more"]
    assert shown("cooldown", "clear", "ping:2", "--dry-run")["dry_run"]
    assert shown("cooldown", "clear", "ping:2")["tx"] is None
    refused("E_NOT_THERE", 4, "cooldown", "clear", "ping:2")
    assert shown("cooldown", "clear", "ping:1")["tx"] == 2
    assert shown("cooldown", "show")["cooldowns"] == []


def test_what_users_wrote_does_nothing_to_the_terminal(world: StateWorld) -> None:
    evil = "\x1b[2J\u202e"
    world.outcome(BanUser(7, "global", f"x{evil}"), SetValue("motd", evil), actor=Actor("a"))
    for args in (("ban", "list"), ("state", "log"), ("state", "get"), ("state", "get", "motd")):
        assert "\x1b" not in done(*args)
        assert "\u202e" not in done(*args)
    assert shown("ban", "list")["bans"][0]["reason"] == f"x{evil}"


def test_long_cooldowns_are_shown_and_cleared(world: StateWorld) -> None:
    world.outcome(AcquireCooldown("daily:7", 1, DAY_MS), actor=Actor("a"))
    (row,) = shown("cooldown", "show", "daily:")["cooldowns"]
    assert (row["key"], row["used"], row["kept_in"]) == ("daily:7", 1, "log")
    assert row["ends_in_s"] == pytest.approx(DAY_MS / 1000)
    assert "daily:7" in done("cooldown", "show")
    assert shown("cooldown", "show", "weekly")["cooldowns"] == []
    assert "would be done" in done("cooldown", "clear", "daily:7", "--dry-run")
    done("cooldown", "clear", "daily:7")
    assert shown("cooldown", "show")["cooldowns"] == []
    refused("E_NOT_THERE", 4, "cooldown", "clear", "daily:7")
