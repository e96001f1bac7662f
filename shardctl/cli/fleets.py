"""`shardctl status --all`: the fleets that this user ever started, and which of them run."""

from __future__ import annotations

from typing import Any, Final

import click

from shardctl.cli.common import echo_json
from shardctl.cli.report import counted, ready_count
from shardctl.errors import ShardctlError
from shardctl.launch import read_json
from shardctl.paths import FleetPaths, fleet_paths, known_fleets
from shardctl.running import supervisor_pid

ASK_TIMEOUT_S: Final = 2.0


def echo_fleets(*, as_json: bool) -> None:
    """One line a fleet, or JSON."""
    fleets = [_fleet(fleet_paths(name)) for name in known_fleets()]
    if as_json:
        echo_json({"fleets": fleets})
        return
    if not fleets:
        click.echo("no fleet was started yet", err=True)
        return
    width = max(len(fleet["fleet"]) for fleet in fleets)
    for fleet in fleets:
        click.echo(f"{fleet['fleet']:<{width}}  {_state(fleet)}  {fleet['folder']}")


def _state(fleet: dict[str, Any]) -> str:
    if fleet["state"] == "stopped":
        return "stopped"
    if fleet["shards"] is None:
        return f"{fleet['state']} (pid {fleet['supervisor_pid']})"
    return f"{fleet['state']}, {fleet['ready']} of {counted(fleet['shards'], 'shard')} ready"


def _fleet(paths: FleetPaths) -> dict[str, Any]:
    record = read_json(paths.record_file) or {}
    bot = record.get("bot")
    pid = supervisor_pid(paths)
    found: dict[str, Any] = {
        "fleet": paths.fleet,
        "state": "stopped" if pid is None else "no answer",
        "supervisor_pid": pid,
        "ready": None,
        "shards": None,
        "folder": bot.get("folder", "") if isinstance(bot, dict) else "",
    }
    return found if pid is None else found | _asked(paths)


def _asked(paths: FleetPaths) -> dict[str, Any]:
    """What the broker says, where it answers."""
    from shardctl.client import Client

    try:
        with Client(paths, ASK_TIMEOUT_S) as client:
            report = client.status()
    except ShardctlError:
        return {}
    ready, shards = ready_count(report)
    return {"state": report.get("fleet_state", "running"), "ready": ready, "shards": shards}
