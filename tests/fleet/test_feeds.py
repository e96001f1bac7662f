"""What Discord tells one node of members and roles is read, and heard of, on the other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node import sync
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
BOT = Path(__file__).resolve().parents[1] / "bots" / "feeder.py"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A bot that feeds, 4 shards on 2 nodes."""
    with Fleet(tmp_path_factory.mktemp("feeds"), "feeds") as fleet:
        shutil.copy(BOT, fleet.bot_folder / "main.py")
        fleet.start("main.py")
        yield fleet


@pytest.fixture
def client(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[sync.SyncClient]:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "SHARDCTL_FLEET"):
        monkeypatch.setenv(name, fleet.env[name])
    with sync.connect() as node:
        yield node


def said(fleet: Fleet, *words: str) -> list[str]:
    """Lines of the nodes' logs that begin with these words."""
    text = "".join(path.read_text() for path in fleet.paths.logs_dir.glob("*"))
    return [line for line in text.splitlines() if " ".join(words) in line]


def guild_of(fleet: Fleet, node: str) -> int:
    node_of = {shard["id"]: shard["node"] for shard in fleet.status()["shards"]}
    return next(int(g["id"]) for g in fleet.control("guilds") if node_of[g["shard"]] == node)


def test_what_guilds_bring_along_is_there_at_the_start(
    fleet: Fleet, client: sync.SyncClient
) -> None:
    a, b = guild_of(fleet, "a"), guild_of(fleet, "b")
    for guild in (a, b):
        wait_for("the roles", lambda guild=guild: dict(client.permissions.of(guild)))
        wait_for("the members", lambda guild=guild: dict(client.members.of(guild)))
        (_, fields) = next(iter(client.members.of(guild)))
        assert {"nick", "roles", "permissions"} <= set(fields)
    records = client.state.log(limit=1)[-1].id
    assert records < 200  # 20 guilds, some hundred records: together, not one by one


@pytest.mark.parametrize(("owner", "other"), [("a", "b"), ("b", "a")])
def test_a_members_change_is_heard_on_the_other_node(
    fleet: Fleet, client: sync.SyncClient, owner: str, other: str
) -> None:
    guild = guild_of(fleet, owner)
    wait_for("the members", lambda: dict(client.members.of(guild)))
    before: Any = dict(client.members.of(guild))
    fleet.control("play", {"kind": "member", "guild": str(guild)})
    changed = wait_for(
        "a changed nick",
        lambda: {
            ids: fields
            for ids, fields in client.members.of(guild)
            if fields["nick"] != before[ids]["nick"]
        },
    )
    ((_, user), fields), *_ = changed.items()
    wait_for(
        "the word of it",
        lambda: said(fleet, "MEMBER", other, str(guild), str(user), fields["nick"]),
    )
    last = client.state.log(limit=1)[-1]
    assert [op["fields"] for op in last.ops] == [{"nick": fields["nick"]}]


def test_a_new_role_is_heard_on_the_other_node(fleet: Fleet, client: sync.SyncClient) -> None:
    guild = guild_of(fleet, "a")
    before = len(dict(client.permissions.of(guild)))
    fleet.control("play", {"kind": "role", "guild": str(guild), "action": "create"})
    wait_for("the role", lambda: len(dict(client.permissions.of(guild))) == before + 1)
    lsn = client.state.sync()
    fleet.control("play", {"kind": "role", "guild": str(guild), "action": "delete"})
    wait_for("its end", lambda: len(dict(client.permissions.of(guild))) == before)
    assert client.state.sync() > lsn
