"""Every argument of every public method of the primitives, given wrongly: refused at the caller by
a class of its own with a hint, and nothing is sent."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

import shard_node
from shard_node.lone import LoneNode
from shard_node.shared.backend import Tx
from shard_node.shared.guild_config import GuildConfig
from shard_node.shared.primitives import Primitives
from shard_node.shared.records import Records
from tests.support.aio import async_test

NAN, INF = float("nan"), float("inf")
GUILD, USER = 11, 22

NO_ID = (None, "5", "", True, 1.5, NAN, -1, 0, 1 << 64, b"5", [])
NO_ACTOR = tuple(one for one in NO_ID if one != 0 or one is False)
NO_NAME = (None, 5, True, 1.5, NAN, "", "x" * 201, "\u00e9" * 101, "a\0b", "\ud800", b"x", [])
NO_ACCOUNT = (*NO_NAME, "x" * 193)
NO_AMOUNT = (None, "1", "", True, 1.0, NAN, INF, -1, 0, 1 << 63, 10**400, b"1")
NO_FLOOR = (None, "x", True, -1.0, NAN, 1, -(1 << 63), -(10**400), b"")
NO_REASON = (None, 5, True, NAN, "x" * 513, "\ud800", b"x", [])
NEEDED = (*NO_REASON, "", " \n")
NO_VERSION = ("x", "", True, 1.5, NAN, -1, 1 << 70, b"", [])
NO_KEY = ("", True, 1.5, NAN, b"x", [], 1 << 70, "\ud800")
NO_TIMEOUT = (None, "x", True, NAN, INF, -1, 0, 1e300, b"")
NO_LIMIT = (None, "1", True, 1.0, NAN, 0, -1, 1001, b"")
NO_PLACE = ("1", "", True, 1.0, NAN, -1, 1 << 63, b"", [])
NO_TX = (None, *NO_PLACE, 0)
NO_FLAG = (None, 1, "yes", 0.0, [])
NO_UNTIL = ("x", True, NAN, INF, -INF, -1, 1e300, 10**400, datetime(2990, 1, 1), b"", [])
NO_TEXT = (None, 5, True, b"x", "x" * 65, [])
NO_TIER = (None, 5, True, NAN, b"gold", "x" * 65, "a\nb", [])
NO_SUBJECT = (None, 5, True, NAN, "", "user:", "user:01", "role:1", f"user:{1 << 64}", b"user:1")
NO_SCOPE = (None, "", "here", "5", True, 1.5, NAN, 0, -1, 1 << 64, b"global", [])
NO_PLAIN = (NAN, INF, 1 << 64, -(1 << 64), object(), {1: 2}, {"\ud800": 1}, "\ud800", {1}, [[NAN]])
NO_FIELD = tuple(one for one in NO_PLAIN if one not in ({1: 2}, {1}))
"""Of a configuration, where sets are lists and a map's keys become text."""
NO_FIELDS = (None, "nick", b"nick", 5, (), ("",), (5,), (None,))
NO_RATE = (None, "1", True, 1.0, NAN, 0, -1, 10**9, b"")
NO_TIME = (None, "1", True, NAN, INF, -INF, -1, 0, 1e300, 10**400, b"")
NO_DOWN = ("", "x", True, 5, b"count", [])
NO_FILTER = (5, True, NAN, "X", b"X", ["X"], [5], {"x": 1}, {5: 1}, {"user": "x"}, {"account": 5},
             {"kind": 5}, {"user": True}, {"user": NAN})  # fmt: skip
NO_HANDLER = (None, 5, "x")

Wrong = dict[str, tuple[Any, tuple[Any, ...]]]
WHO: Wrong = {"user": (0, NO_ACTOR), "reason": ("", NO_REASON)}
WRITE: Wrong = {"idempotency_key": (None, NO_KEY), "timeout_s": (1.0, NO_TIMEOUT)}
BAN: Wrong = {"user_id": (USER, NO_ID), "scope": (GUILD, NO_SCOPE)}
VERSION: Wrong = {"if_version": (None, NO_VERSION)}
NAME: Wrong = {"name": ("v", NO_NAME)}
HANDLER: Wrong = {"handler": (print, NO_HANDLER)}
PAGE: Wrong = {"after": (None, NO_PLACE), "limit": (5, NO_LIMIT)}
ROLLBACK: Wrong = {
    "tx_id": (1, NO_TX), "reason": ("why", NEEDED), "user": (0, NO_ACTOR), "force": (False, NO_FLAG)
}  # fmt: skip
ANYTHING: tuple[Any, ...] = ()
"""Of an argument that may be anything."""

METHODS: dict[str, Wrong] = {
    "economy.transfer": {
        "src": ("a", NO_ACCOUNT), "dst": ("b", NO_ACCOUNT), "amount": (1, NO_AMOUNT), **WHO, **WRITE
    },
    "economy.deposit": {
        "account": ("a", NO_ACCOUNT), "amount": (1, NO_AMOUNT), "source": ("s", NO_NAME),
        **WHO, **WRITE,
    },
    "economy.withdraw": {
        "account": ("a", NO_ACCOUNT), "amount": (1, NO_AMOUNT), "sink": ("s", NO_NAME),
        **WHO, **WRITE,
    },
    "economy.allow_overdraft": {"account": ("a", NO_ACCOUNT), "floor": (-1, NO_FLOOR), **WHO},
    "economy.balance": {"account": ("a", NO_ACCOUNT)},
    "economy.fetch": {"account": ("a", NO_ACCOUNT)},
    "economy.history": {"account": ("a", NO_ACCOUNT), **PAGE},
    "economy.rollback": ROLLBACK,
    "moderation.ban": {
        **BAN, "reason": ("why", NEEDED), "until": (None, NO_UNTIL), "by": (0, NO_ACTOR)
    },
    "moderation.unban": {**BAN, "reason": ("", NO_REASON), "by": (0, NO_ACTOR)},
    "moderation.is_banned": BAN,
    "moderation.get": BAN,
    "moderation.fetch": BAN,
    "moderation.history": {"user_id": (USER, NO_ID), **PAGE},
    "moderation.watch": {**HANDLER, "user_id": (None, NO_ID[1:])},
    "premium.grant": {
        "subject": ("user:1", NO_SUBJECT), "tier": ("gold", (*NO_TIER, "")),
        "until": (None, NO_UNTIL), "source": ("", NO_TEXT), **WHO,
    },
    "premium.revoke": {"subject": ("user:1", NO_SUBJECT), "tier": ("", NO_TIER), **WHO},
    "premium.is_active": {"subject": ("user:1", NO_SUBJECT), "tier": ("", NO_TIER)},
    "premium.tiers": {"subject": ("user:1", NO_SUBJECT)},
    "premium.source": {"subject": ("user:1", NO_SUBJECT), "tier": ("gold", (*NO_TIER, ""))},
    "premium.fetch": {"subject": ("user:1", NO_SUBJECT)},
    "premium.watch": {**HANDLER, "subject": (None, NO_SUBJECT[1:])},
    "cooldowns.acquire": {
        "key": ("k", NO_NAME), "rate": (1, NO_RATE), "per_s": (90, NO_TIME),
        "timeout_s": (1.0, NO_TIMEOUT), "broker_down": (None, NO_DOWN),
    },
    "cooldowns.clear": {"key": ("k", NO_NAME)},
    "state.log": {**PAGE, "filter": (None, NO_FILTER)},
    "state.rollback": ROLLBACK,
    "state.sync": {"lsn": (0, (None, *NO_PLACE)), "timeout_s": (1.0, NO_TIMEOUT)},
    "state.get": {**NAME, "default": (None, ANYTHING)},
    "state.version": NAME,
    "state.fetch": {**NAME, "default": (None, ANYTHING)},
    "state.set": {**NAME, "value": (1, NO_PLAIN), **VERSION, **WRITE},
    "state.delete": {**NAME, **VERSION},
    "state.watch": {**HANDLER, "name": (None, NO_NAME[1:])},
}  # fmt: skip

RECORDS: dict[str, Wrong] = {
    "get": {}, "version": {}, "fetch": {}, "of": {}, "delete": VERSION,
    "update": {"fields": ({"nick": 1}, tuple({"nick": one} for one in NO_PLAIN)), **VERSION},
    "remove": {"fields": (("nick",), NO_FIELDS), **VERSION},
    "watch": HANDLER,
}  # fmt: skip
"""Of the sync targets; each takes the ids as well."""
CONFIG: dict[str, Wrong] = {
    "get": {}, "fetch": {}, "delete": VERSION,
    "update": {"fields": ({"nick": 1}, tuple({"nick": one} for one in NO_FIELD)), **VERSION},
    "reset": {"fields": (("nick",), ((), ("",), (5,), (None,))), **VERSION},
    "watch": HANDLER,
}  # fmt: skip
TARGETS = {"members": ("guild", "user"), "permissions": ("guild", "subject"), "users": ("user",)}
READS = {
    "get",
    "version",
    "fetch",
    "of",
    "balance",
    "is_banned",
    "tiers",
    "source",
    "history",
    "log",
    "sync",
}


def call(path: str, node: Any, given: dict[str, Any]) -> Any:
    """Call a method with arguments by name, as far as it takes them by name."""
    given, (primitive, method) = dict(given), path.split(".")
    if primitive == "guild_config":
        target, ids = node.guild_config(given.pop("guild")), []
        if method == "reset":
            ids = list(given.pop("fields"))
    else:
        target = getattr(node, primitive)
        ids = [given.pop(name) for name in TARGETS.get(primitive, ())]
    if method == "watch" and primitive in TARGETS:
        ids = [given.pop("handler"), *ids]
    if method == "update":
        given |= given.pop("fields")
    return getattr(target, method)(*ids, **given)


def all_methods() -> dict[str, Wrong]:
    found = dict(METHODS)
    for target, ids in TARGETS.items():
        for name, wrong in RECORDS.items():
            found[f"{target}.{name}"] = {**dict.fromkeys(ids, (GUILD, NO_ID)), **wrong}
    for name, wrong in CONFIG.items():
        found[f"guild_config.{name}"] = {"guild": (GUILD, NO_ID), **wrong}
    return found


EVERY = all_methods()


async def prepared(monkeypatch: pytest.MonkeyPatch) -> tuple[LoneNode, list[Any]]:
    """A node with something in it, whose commits are counted from now on and not made."""
    node, sent = LoneNode(), []
    await node.economy.deposit("a", 10)

    async def commit(tx: Any, **also: Any) -> Tx:
        sent.append(tx)
        return Tx(1, ({"remaining": 0},) * len(tx.ops))

    monkeypatch.setattr(node._backend, "commit", commit)
    return node, sent


async def outcome(step: Callable[[], Any]) -> Any:
    found = step()
    found = await found if isinstance(found, Awaitable) else found
    return list(found) if inspect.isgenerator(found) else found


@pytest.mark.parametrize("path", EVERY)
@async_test
async def test_what_is_right_is_taken(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the next test would show nothing."""
    node, sent = await prepared(monkeypatch)
    await outcome(lambda: call(path, node, {name: good for name, (good, _) in EVERY[path].items()}))
    method = path.split(".")[1]
    assert bool(sent) == (method not in READS | {"watch", "is_active"})


@pytest.mark.parametrize("path", EVERY)
@async_test
async def test_what_is_wrong_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node, sent = await prepared(monkeypatch)
    right = {name: good for name, (good, _) in EVERY[path].items()}
    for name, (_, wrong) in EVERY[path].items():
        for value in wrong:
            with pytest.raises(shard_node.StateError) as refused:
                await outcome(lambda: call(path, node, {**right, name: value}))  # noqa: B023
            what = f"{path} {name}={value!r:.60}: {refused.value}"
            assert type(refused.value) is not shard_node.StateError, what
            assert refused.value.hint and str(refused.value), what
            assert "$" not in str(refused.value), what
            assert len(str(refused.value)) < 300, what
    assert not sent


@pytest.mark.parametrize("path", [path for path in EVERY if path.split(".")[1] not in READS])
@async_test
async def test_a_transaction_refuses_it_at_the_call(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, sent = await prepared(monkeypatch)
    right = {name: good for name, (good, _) in EVERY[path].items()}
    async with node.transaction() as tx:
        for name, (_, wrong) in EVERY[path].items():
            for value in wrong:
                with pytest.raises(shard_node.StateError) as refused:
                    call(path, tx, {**right, name: value})
                assert refused.value.hint, f"{path} {name}={value!r:.60}"
        assert not tx._collected.ops
    assert not sent


@async_test
async def test_what_begins_a_transaction_or_a_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, sent = await prepared(monkeypatch)
    for name, wrong in (
        ("user", NO_ACTOR), ("reason", NO_REASON), ("idempotency_key", NO_KEY),
        ("timeout_s", NO_TIMEOUT),
    ):  # fmt: skip
        for value in wrong:
            with pytest.raises(shard_node.StateError) as refused:
                node.transaction(**{name: value})
            assert refused.value.hint
    for kind in (None, 5, "dict", int, b"", NAN, [], {"a": 1}):
        with pytest.raises(shard_node.BadValue) as no_class:
            node.guild_config(GUILD, kind)
        assert no_class.value.hint
    for fields in (5, None, b"nick", ["nik"], [5], [None], [[]], "nik"):
        with pytest.raises(shard_node.BadValue) as no_field:
            node.feed(members=fields)
        assert no_field.value.hint
    assert not sent and not node.interests


def test_every_public_method_is_looked_at() -> None:
    """A new method, or a new argument, has to be given wrongly here as well."""
    node, seen = LoneNode(), set()
    for name in ("economy", "moderation", "premium", "cooldowns", "state", *TARGETS):
        assert isinstance(getattr(Primitives, name), object)
        seen |= check_methods(name, type(getattr(node, name)))
    seen |= check_methods("guild_config", GuildConfig)
    assert seen == set(EVERY)


def check_methods(primitive: str, kind: type[Any]) -> set[str]:
    found = set()
    for method, function in inspect.getmembers(kind, inspect.isfunction):
        if method.startswith("_"):
            continue
        path = f"{primitive}.{method}"
        found.add(path)
        names = {
            one.name
            for one in inspect.signature(function).parameters.values()
            if one.name not in ("self", "ids")
        }
        own = {name for name in EVERY[path] if name not in TARGETS.get(primitive, ())}
        if issubclass(kind, Records) or kind is GuildConfig:
            own -= {"guild"}
        assert names == own, path
    return found
