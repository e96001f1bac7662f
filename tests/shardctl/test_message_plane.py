"""`routes`, `dead-letters`, `where` and `status --verbose` against the broker's own core."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.core.rules import Rule
from shard_node.wire import limits, topics
from shard_node.wire.bodies import ClientRegister, ErrorBody
from shard_node.wire.codec import decode_body, encode_body
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import client_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import ALL, BROKER, Guild, Node, Pool, Shard, Topic
from shardctl import client
from shardctl.cli import cli, dead_letters, plane, routes
from shardctl.cli.peers import peer_name, target_name
from tests.broker.test_data_plane import CL, Plane

RULES = (Rule("PRICES", ("b",), "", Lane.LOW), Rule("NOISE", ()), Rule("LOST", ("zz",)))
OPERATOR = operator_id(1, 1)
Start = Callable[..., Plane]


class Direct(client.Client):
    """The operator's client with a broker's core at the other end, and no socket."""

    fleet: Plane

    def __init__(self, *_args: Any, **_how: Any) -> None:
        pass

    def close(self) -> None:
        pass

    def _request(self, topic: str, body: Any, reply_type: type[Any]) -> Any:
        plane = self.fleet
        head = header(Kind.REQUEST, BROKER, topic, lane=topics.TOPICS[topic].lane, correlation=9)
        plane.give(OPERATOR, head, encode_body(body))
        plane.pump()
        answer, data = plane.got[OPERATOR].pop()
        if answer.kind is Kind.ERROR:
            raise client.refused(decode_body(data, ErrorBody))
        return decode_body(data, reply_type)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    def begin(rules: tuple[Rule, ...] = ()) -> Plane:
        Direct.fleet = Plane(rules).joined()
        return Direct.fleet

    monkeypatch.setattr(client, "Client", Direct)
    monkeypatch.setenv("SHARDCTL_FLEET", "test")
    monkeypatch.delenv("COLUMNS", raising=False)
    return begin


def run(*args: str, **how: Any) -> Result:
    return CliRunner().invoke(cli, args, **how)


def shown(*args: str) -> Any:
    done = run(*args, "--json")
    assert done.exit_code in (0, 1, 3), done.output
    value = json.loads(done.stdout)
    assert value["schema"] == 1
    return value


def lose(fleet: Plane, count: int) -> None:
    for _ in range(count):
        fleet.batch(Node("nobody"))
    fleet.pump()


# --- routes


def test_the_routing_table_has_its_sections(start: Start) -> None:
    fleet = start(RULES)
    fleet.ask(CL, topics.CLIENT_REGISTER, ClientRegister("dash", ("mine",)))
    fleet.broker.fleet.table.override(77, "b")
    done = run("routes")
    assert done.exit_code == 0
    version = fleet.broker.fleet.table.version
    assert done.stdout.splitlines() == [
        f"test: routing table version {version}, 4 shards",
        "nodes:",
        "  a#1  shards 0-1  1 topic",
        "  b#1  shards 2-3  1 topic",
        "clients:",
        "  dash  cl-dash-7-1",
        "topics:",
        "  mine  node a, node b, client dash",
        "overrides:",
        "  guild 77  node b",
        "rules:",
        "  PRICES  node:b, lane low",
        "  NOISE   nobody",
        "  LOST    node:zz",
    ]
    table = shown("routes")
    assert table["topics"] == {"mine": ["a", "b", "cl-dash-7-1"]}
    assert table["more"]["subscribers"] == {}


def test_a_node_that_is_away_is_not_registered(start: Start) -> None:
    start().die("b")
    assert "  b    shards 2-3  not registered" in run("routes").stdout


def test_long_lists_say_how_much_more_there_is(start: Start) -> None:
    fleet = start()
    heard = tuple(f"topic-{number}" for number in range(40))
    for number in range(70):
        name = client_id("dash", 7, number)
        fleet.ask(name, topics.CLIENT_REGISTER, ClientRegister("dash", heard))
    lines = run("routes").stdout.splitlines()
    assert len(lines) < 100
    assert "  and 38 more (--json)" in lines  # of 70 clients
    assert "  and 9 more (--json)" in lines  # of 40 topics and one
    assert any(line.endswith("client dash and 54 more") for line in lines)
    assert shown("routes")["more"]["subscribers"]["topic-0"] == 70 - 64


def test_long_names_never_make_the_table_too_large(start: Start) -> None:
    fleet = start()
    name = "d" * limits.NAME_MAX_CHARS
    for number in range(1024):
        heard = tuple(f"{'t' * 110}-{place}" for place in range(number, number + 64))
        peer = client_id(name, 7, number)
        fleet.ask(peer, topics.CLIENT_REGISTER, ClientRegister(name, heard))
    table = shown("routes")
    assert table["more"]["topics"] > 0
    assert len(table["clients"]) == 1024


def test_a_rule_of_many_nodes_is_cut() -> None:
    names = [f"n{number}" for number in range(40)]
    table = {
        "nodes": [], "clients": [], "topics": {}, "overrides": {},
        "rules": [{"category": "X", "to": names}],
        "more": {"nodes": 0, "topics": 3, "overrides": 0},
    }  # fmt: skip
    lines = list(routes.lines(table))
    assert lines[-1].endswith("node:n15 and 24 more")
    assert "topics: none" in lines


# --- dead letters


def test_without_dead_letters(start: Start) -> None:
    start()
    assert run("dead-letters", "list").stderr == "no dead letters\n"
    assert run("dead-letters", "drop", "--all").stdout == "no dead letters\n"
    assert run("dead-letters", "retry", "--all").stdout == "no dead letters: nothing to send\n"
    assert shown("dead-letters", "list")["letters"] == []
    done = run("dead-letters", "drop", "4")
    assert done.exit_code == 4
    assert "There are none." in done.stderr


def test_the_list_says_what_is_to_be_known(start: Start) -> None:
    fleet = start()
    lose(fleet, 1)
    fleet.batch(Pool("math"), count=3, lane=Lane.HIGH)
    fleet.now += 65
    done = run("dead-letters", "list")
    assert [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()] == [
        ["number", "age", "sender", "target", "lane", "messages", "size", "retry", "reason"],
        ["1", "1 min 05 s", "node a", "node:nobody", "normal", "1", "19 B", "yes",
         "no node or client 'nobody' is registered (E_UNREACHABLE)"],
        ["2", "1 min 05 s", "node a", "pool:math", "high", "3", "55 B", "yes",
         "no worker of the pool 'math' (E_NO_HANDLER)"],
    ]  # fmt: skip
    assert "2 dead letters\nnext: shardctl dead-letters retry 1" in done.stderr
    first = shown("dead-letters", "list")["letters"][0]
    assert first["target"] == "node:nobody"
    assert (first["number"], first["can_retry"], first["messages"]) == (1, True, 1)


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120])
def test_a_narrow_list_loses_columns_and_wraps_nothing(start: Start, width: int) -> None:
    lose(start(), 2)
    lines = run("dead-letters", "list", env={"COLUMNS": str(width)}).stdout.splitlines()
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("number")


def test_more_letters_than_a_page_are_listed_whole(start: Start) -> None:
    fleet = start()
    lose(fleet, limits.DEAD_LETTERS_MAX + 3)
    found = shown("dead-letters", "list")
    assert [each["number"] for each in found["letters"]] == list(range(4, 1004))
    assert (found["total"], found["lost"]) == (1000, 3)
    done = run("dead-letters", "list")
    assert len(done.stdout.splitlines()) == 1001
    assert "1000 dead letters; 3 older ones made room" in done.stderr


def test_a_retry_says_what_came_straight_back(start: Start) -> None:
    fleet = start()
    lose(fleet, 2)
    fleet.batch(Node("dash"))
    fleet.ask(CL, topics.CLIENT_REGISTER, ClientRegister("dash"))
    done = run("dead-letters", "retry", "1", "3", "3")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "2 dead letters sent again; what reaches nobody within 30 s is listed anew",
        "  1 came straight back as 4: no node or client 'nobody' is registered",
    ]
    assert [each["number"] for each in shown("dead-letters", "list")["letters"]] == [2, 4]
    assert "a retry of 1" in run("dead-letters", "list").stdout
    assert shown("dead-letters", "retry", "--all") == {
        "schema": 1, "done": 2, "skipped": 0, "back": [5, 6],
    }  # fmt: skip


def test_a_retry_that_arrives_is_all_well(start: Start) -> None:
    fleet = start()
    fleet.batch(Node("dash"))
    fleet.ask(CL, topics.CLIENT_REGISTER, ClientRegister("dash"))
    assert run("dead-letters", "retry", "--all").exit_code == 0
    assert run("dead-letters", "list").stdout == ""


def test_letters_without_bytes_stay(start: Start) -> None:
    fleet = start()
    size = limits.BODY_MAX_BYTES - 100
    last = limits.DEAD_LETTERS_MAX_BYTES // size + 1
    for _ in range(last):
        fleet.batch(Node("nobody"), size=size)
    letters = shown("dead-letters", "list")["letters"]
    assert [each["can_retry"] for each in letters] == [True] * (last - 1) + [False]
    assert re.search(r" no +no node or client 'nobody'", run("dead-letters", "list").stdout)
    done = run("dead-letters", "retry", str(last))
    assert done.exit_code == 1
    assert "1 stays: its bytes were too many to keep" in done.stdout
    assert shown("dead-letters", "list")["total"] == last


def test_drop_forgets_what_is_named(start: Start) -> None:
    lose(start(), 4)
    assert run("dead-letters", "drop", "2", "3").stdout == "2 dead letters dropped\n"
    assert [each["number"] for each in shown("dead-letters", "list")["letters"]] == [1, 4]
    assert shown("dead-letters", "drop", "4")["dropped"] == 1


def test_drop_all_asks(start: Start) -> None:
    lose(start(), 3)
    done = run("dead-letters", "drop", "--all")
    assert done.exit_code == 2
    assert "drop --all --yes" in done.stderr
    assert "There are 3. Nothing was dropped." in done.stderr
    assert run("dead-letters", "drop", "--all", "-y").stdout == "3 dead letters dropped\n"


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 130, 3), ("y", 0, 0)])
def test_who_is_asked_decides(
    start: Start, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    lose(start(), 3)
    terminal = Terminal()
    monkeypatch.setattr(dead_letters, "sys", SimpleNamespace(stdin=terminal))
    done = run("dead-letters", "drop", "--all", input=f"{answer}\n")
    assert "Drop 3 dead letters? They cannot be brought back. [y/N]" in done.stderr
    assert done.exit_code == code
    assert shown("dead-letters", "list")["total"] == left


def test_a_dry_run_changes_nothing(start: Start) -> None:
    lose(start(), 3)
    for verb, words in (("retry", "send again"), ("drop", "drop")):
        done = run("dead-letters", verb, "--all", "--dry-run")
        assert done.stdout == f"would {words} 3 dead letters: 1-3\n"
        assert shown("dead-letters", verb, "2", "--dry-run")["numbers"] == [2]
        assert run("dead-letters", verb, "9", "--dry-run").exit_code == 4
    assert shown("dead-letters", "list")["total"] == 3


@pytest.mark.parametrize("verb", ["retry", "drop"])
@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "which? NUMBER... or --all."),
        (["1", "--all"], 2, "exclude each other"),
        (["0"], 2, "0 is"),
        (["x"], 2, "'x' is not a whole number"),
        (["9", "1", "8"], 4, "There are: 1."),
    ],
)
def test_which_letters_must_be_said(
    start: Start, verb: str, args: list[str], code: int, words: str
) -> None:
    lose(start(), 1)
    done = run("dead-letters", verb, *args)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr
    assert shown("dead-letters", "list")["total"] == 1


# --- where


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("topic:PRICES", ["topic PRICES: node b, lane low (rule)",
                          "  why: an operator's rule sends it to node b"]),
        ("topic:NOISE", ["topic NOISE: nobody (rule)",
                         "  why: an operator's rule sends it to nobody"]),
        ("topic:mine", ["topic mine: node a, node b (subscriptions)", "  why: subscribed to it"]),
        ("topic:STATS_UPDATE", ["topic STATS_UPDATE: nobody, lane low (subscriptions)"]),
        ("shard:02", ["shard 2 of 4: node b (registration)", "  why: node b registered with it"]),
        ("node:a", ["node a: a#1 (registration)", "  why: registered, with shards 0-1"]),
        ("pool:x", ["pool x: nobody (pool)", "  why: no worker of the pool 'x'"]),
    ],
)  # fmt: skip
def test_where_explains_one_entry(start: Start, what: str, lines: list[str]) -> None:
    fleet = start(RULES)
    done = run("where", what)
    assert done.exit_code == 0
    found = done.stdout.splitlines()
    assert found[: len(lines)] == lines
    assert found[-1] == f"  routing table: version {fleet.broker.fleet.table.version}"


def test_where_in_json(start: Start) -> None:
    fleet = start(RULES)
    version = fleet.broker.fleet.table.version
    assert shown("where", "topic:PRICES") == {
        "schema": 1, "what": "topic:PRICES", "route": "rule", "to": ["b#1"], "more": 0,
        "lane": "low", "why": "an operator's rule sends it to node b", "version": version,
    }  # fmt: skip
    fleet.die("b")
    guild = shown("where", f"guild:{3 << 22}")
    assert guild["guild"] == str(3 << 22)
    assert (guild["shard"], guild["node"], guild["route"]) == (3, None, "formula")
    assert "node b is not there (backoff): what is sent waits for it" in guild["why"]


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("shard:4", 4, "There are: shards 0-3."),
        ("node:q", 4, "There are: a, b."),
        ("planet:mars", 2, "none of shard:N, node:NAME, topic:NAME, pool:NAME"),
        ("node:", 2, "none of shard:N"),
        ("guild:x", 2, "'x' is not a whole number"),
        ("shard:-1", 2, "'-1' is not a whole number"),
        ("9" * 5000, 2, "is not a whole number"),
    ],
)
def test_where_of_what_is_not_there(start: Start, what: str, code: int, words: str) -> None:
    start()
    done = run("where", what)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr


def test_a_broker_that_explains_guilds_only_is_not_believed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shard_node.wire.bodies import WhereReply

    start()
    monkeypatch.setattr(Direct, "_request", lambda *_: WhereReply(0, 0, 4, "a", "formula"))
    done = run("where", "topic:x")
    assert done.exit_code == 77
    assert "older version" in done.stderr


# --- status --verbose


def test_what_was_refused_and_what_waits_is_counted(start: Start) -> None:
    fleet = start(RULES)
    fleet.batch(Node("b"), count=256)  # all the credit that b has
    fleet.batch(Node("b"), count=3)
    fleet.batch(Topic("mine"), flags=0, lane=Lane.LOW)
    fleet.pump()
    fleet.give(b"\xff", header(Kind.EVENT, BROKER, "x"), b"")
    fleet.give(OPERATOR, header(Kind.EVENT, BROKER, "x"), b"")
    fleet.batch(Topic("NOISE"), flags=0, count=4)
    lose(fleet, 2)
    fleet.broker.fleet.nodes["b"].troubles = {"messages_unheard": 5, "new": 6}
    fleet.broker.fleet.client_troubles["x"] = {"events_dropped": 2}
    out = run("status", "--verbose").stdout
    for line in (
        "    since it began: 6 new, 5 messages that nothing handles",
        "    the clients that are there: 2 of its events dropped",
        "refused frames: 2",
        "    1 identity: no routing id of ours",
        "    1 topic: nothing that the broker serves",
        "messages: 257 forwarded, 4 to nobody, 0 dropped",
        "frames: 2 went back to their senders",
        "dead letters: 2 (shardctl dead-letters list); since the broker's start E_UNREACHABLE 2",
        "    4 messages waiting in the broker (normal 3, low 1); "
        "credit in use: 256 of 256 messages, 5 KiB of 8 MiB",
        "    0 messages waiting in the broker; credit in use: 1 of 256 messages, 19 B of 8 MiB",
    ):
        assert line in out.splitlines(), out
    assert "warning: routing rules name what is neither a node nor a client: zz (for LOST)" in out
    report = shown("status")
    assert report["broker"]["rejected"] == {"identity": 1, "topic": 1}
    assert report["nodes"][1]["broker_queue"]["waiting_messages"] == {"normal": 3, "low": 1}


def test_what_waits_for_a_node_that_is_away_is_shown(start: Start) -> None:
    fleet = start()
    fleet.die("b")
    fleet.batch(Shard(2), count=5)
    out = run("status", "--verbose").stdout
    assert "    0 messages waiting in the broker; 5 until it is back" in out.splitlines()


def test_every_reason_of_the_code_has_words() -> None:
    from tests.rules.source import ROOT

    pattern = re.compile(r'(?:WireError|[rR]efused|reject|_refuse)\(\s*(?:batch, )?"(\w+)"')
    found = {
        reason
        for room in ("broker", "shard_node/wire")
        for path in (ROOT / room).rglob("*.py")
        for reason in pattern.findall(path.read_text())
    }
    assert found >= {"identity", "malformed", "batch", "topics"}
    assert found <= plane.REASONS.keys()


# --- names


def test_targets_are_written_as_where_takes_them() -> None:
    from msgspec import to_builtins

    named = {
        Node("a"): "node:a", Shard(3, 4): "shard:3", Guild(7): "guild:7", Topic("X"): "topic:X",
        Pool("m"): "pool:m", ALL: "all", BROKER: "broker",
    }  # fmt: skip
    for target, name in named.items():
        assert target_name(to_builtins(target)) == name
    assert peer_name("cl-my-dash-77-1") == "client my-dash"
