"""`start --dry-run`: what would be started, and how long that takes at best."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from shard_node.journal import found
from shard_node.shared.clock import this_boot
from shard_node.wire.identity import application_key
from shard_node.wire.lifecycle import RESUME_MAX_S
from shard_node.wire.sizing import node_count
from shardctl import __version__
from shardctl.cli.report import counted, span
from shardctl.errors import EXIT_TEMPFAIL, ConfigError, ShardctlError
from shardctl.launch import TOKEN_VARIABLE, Record, Sandbox
from shardctl.routes import in_words

HTTP_TIMEOUT_S: Final = 10.0
SANDBOX_BUDGET: Final = 1000
ROUTES_SHOWN_MAX: Final = 32
_ANSWER_MAX_BYTES: Final = 1 << 16
_UNAUTHORIZED: Final = 401


class Gateway(NamedTuple):
    """What /gateway/bot says (Discord, Gateway, "Get Gateway Bot")."""

    recommended: int
    max_concurrency: int
    total: int
    remaining: int
    reset_after_s: float


class Plan(NamedTuple):
    """``resumed``: shards whose journal has a session, which cost no session start; the others
    are ``starts``. ``seconds``: the windows between those of the fullest key."""

    shards: int
    nodes: int
    keys: int
    seconds: float
    gateway: Gateway
    resumed: int = 0

    @property
    def starts(self) -> int:
        """IDENTIFYs that the start needs, if no RESUME is refused."""
        return self.shards - self.resumed


def make_plan(
    record: Record, gateway: Gateway, journals: Mapping[int, Collection[int]] | None = None
) -> Plan:
    """Shards, nodes, keys and time of this record, with ``journals``: by shard count, the shards
    that have a session. An automatic count stays what it was while sessions are left. Pure."""
    journals = journals or {}
    kept = max(journals, key=lambda count: len(journals[count]), default=gateway.recommended)
    shards = kept if record.shards == "auto" else int(record.shards)
    resumed = frozenset(journals.get(shards, ()))
    nodes = node_count(
        shards,
        asked=None if record.nodes == "auto" else int(record.nodes),
        nodes_max=record.nodes_max,
        sandbox=record.sandbox is not None,
    )
    keys = min(gateway.max_concurrency, shards)
    of_key = Counter(s % gateway.max_concurrency for s in range(shards) if s not in resumed)
    seconds = max(0, max(of_key.values(), default=0) - 1) * record.identify_window_s
    return Plan(shards, nodes, keys, seconds, gateway, len(resumed))


def print_plan(record: Record, secrets: dict[str, str]) -> None:
    """Ask Discord (the sandbox's sizes are known) and print the plan on stdout."""
    if record.sandbox is not None:
        gateway = _of_sandbox(record.sandbox)
    else:
        gateway = ask_gateway(record.api_base, secrets[TOKEN_VARIABLE])
    plan = make_plan(record, gateway, _journals(record, secrets))
    for name, value in _rows(record, plan):
        click.echo(f"{name:<10}{value}")
    if plan.starts > gateway.remaining:
        click.echo(
            f"warning: needs {plan.starts} session starts, {gateway.remaining} remain "
            f"(reset in {span(gateway.reset_after_s)}); `start` would refuse",
            err=True,
        )


def _rows(record: Record, plan: Plan) -> list[tuple[str, str]]:
    gateway = plan.gateway
    more = len(record.routes) - ROUTES_SHOWN_MAX
    return [
        ("fleet", record.fleet),
        ("bot", f"{record.bot.target} in {record.bot.folder}"),
        ("discord", "sandbox" if record.sandbox else record.api_base),
        ("shards", f"{plan.shards} (recommended: {gateway.recommended})"),
        ("nodes", _nodes(record, plan)),
        ("keys", f"{plan.keys} at a time (max_concurrency {gateway.max_concurrency})"),
        *([("resumed", _resumed(plan))] if plan.resumed else []),
        ("budget", f"needs {counted(plan.starts, 'session start')}, {gateway.remaining} remain"),
        ("time", f"{span(plan.seconds)} at least"),
        ("data", record.data_dir),
        *(("route", in_words(rule)) for rule in record.routes[:ROUTES_SHOWN_MAX]),
        *([("", f"and {more} more rules")] if more > 0 else []),
    ]


def _resumed(plan: Plan) -> str:
    rest = f"; the other {plan.starts} IDENTIFY" if plan.starts else ""
    return f"{counted(plan.resumed, 'shard')} by their journals{rest}"


def _journals(record: Record, secrets: Mapping[str, str]) -> dict[int, frozenset[int]]:
    """What the last run of this fleet left. A sandbox of our own forgets at its end."""
    if record.sandbox is not None:
        return {}
    key = application_key(record.api_base, secrets[TOKEN_VARIABLE])
    max_age_s = float(record.lifecycle.get("resume_max_s", RESUME_MAX_S))
    folder = Path(record.data_dir) / found.FOLDER
    return found.resumable(folder, this_boot(), key, max_age_s)


def _nodes(record: Record, plan: Plan) -> str:
    asked = record.nodes
    if isinstance(asked, int) and asked > plan.nodes:
        return f"{plan.nodes} ({asked} asked; no node is without a shard)"
    return str(plan.nodes)


def _of_sandbox(sandbox: Sandbox) -> Gateway:
    return Gateway(sandbox.shards, sandbox.max_concurrency, SANDBOX_BUDGET, SANDBOX_BUDGET, 0.0)


def ask_gateway(api_base: str, token: str) -> Gateway:
    """GET /gateway/bot. Raises ConfigError for a refused token, ShardctlError otherwise."""
    agent = f"DiscordBot (https://pypi.org/project/shardctl, {__version__})"
    request = urllib.request.Request(f"{api_base}/gateway/bot", headers={"User-Agent": agent})
    request.add_unredirected_header("Authorization", f"Bot {token}")
    try:
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            return _parse(json.loads(answer.read(_ANSWER_MAX_BYTES)))
    except urllib.error.HTTPError as error:
        if error.code == _UNAUTHORIZED:
            raise _bad_token() from None
        raise _no_answer(f"it answered {error.code}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_answer(str(getattr(error, "reason", error))) from None


def _parse(body: dict[str, Any]) -> Gateway:
    limit = body["session_start_limit"]
    return Gateway(
        int(body["shards"]),
        int(limit["max_concurrency"]),
        int(limit["total"]),
        int(limit["remaining"]),
        int(limit["reset_after"]) / 1000,
    )


def _bad_token() -> ConfigError:
    return ConfigError(
        "Discord refused the token (401).",
        consequence="It was reset or copied wrongly; no shard could IDENTIFY.",
        hint="https://discord.com/developers/applications, Bot, Reset Token.",
        code="E_TOKEN",
    )


def _no_answer(reason: str) -> ShardctlError:
    return ShardctlError(
        f"Discord's /gateway/bot could not be asked: {reason}.",
        consequence="Without it the plan is not known; nothing was started.",
        hint="try again in a minute",
        code="E_DISCORD",
        exit_code=EXIT_TEMPFAIL,
    )
