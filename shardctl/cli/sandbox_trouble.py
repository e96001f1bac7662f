"""`shardctl sandbox`: one command for each trouble that the sandbox makes."""

from __future__ import annotations

from typing import Any, Final

import click

from shardctl.cli.common import echo_json
from shardctl.cli.sandbox_link import SandboxLink
from shardctl.cli.sandbox_options import (
    for_seconds,
    on_sandbox,
    targeted,
    without_none,
)
from shardctl.errors import ShardctlError

_COUNT: Final = click.IntRange(min=1)
SCOPES: Final = ("user", "global", "shared")


def _make(link: SandboxLink, as_json: bool, kind: str, **args: Any) -> None:
    answer = link.post("/trouble", {"kind": kind, **without_none(**args)})
    nobody = answer.get("sessions") == [] and not args.get("off")
    if as_json:
        echo_json(answer)
    elif not nobody:
        click.echo(_told(kind, answer))
    if nobody:
        raise _nobody(kind)


def _nobody(kind: str) -> ShardctlError:
    return ShardctlError(
        f"{kind}: no session is connected, so nothing was done.",
        consequence="Trouble with connections needs a bot that is connected.",
        hint="shardctl status",
        code="E_NO_SESSION",
    )


def _told(kind: str, answer: dict[str, Any]) -> str:
    if "sessions" in answer:
        sessions = answer["sessions"]
        shards = ", ".join(f"{s['shard']} of {s['num_shards']}" for s in sessions)
        return f"{kind}: shard {shards}" if sessions else f"{kind}: no connected session"
    if "guilds" in answer:
        return "\n".join(answer["guilds"])
    rest = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in answer.items()
        if key != "kind" and value is not None
    ]
    return f"{kind}: {', '.join(rest)}" if rest else kind


@click.command()
@targeted
@on_sandbox
def drop(link: SandboxLink, as_json: bool, **target: Any) -> None:
    """Break connections without a close frame."""
    _make(link, as_json, "drop", **target)


@click.command()
@click.option("--grace-s", type=click.FloatRange(0, 86_400), help="Then hang up; 10 by default.")
@targeted
@on_sandbox
def reconnect(link: SandboxLink, as_json: bool, **args: Any) -> None:
    """Send op 7: please reconnect and RESUME. Who does not is closed with 4000."""
    _make(link, as_json, "reconnect", **args)


@click.command("invalid-session")
@click.option("--resumable", is_flag=True, help="Say that the session can be resumed.")
@targeted
@on_sandbox
def invalid_session(link: SandboxLink, as_json: bool, resumable: bool, **target: Any) -> None:
    """Send op 9: the session is invalid."""
    _make(link, as_json, "invalid_session", resumable=resumable, **target)


@click.command()
@click.argument("code", type=click.IntRange(1000, 4999))
@click.option("--reason", help="Text of the close frame.")
@targeted
@on_sandbox
def close(link: SandboxLink, as_json: bool, code: int, **args: Any) -> None:
    """Close connections with CODE, such as 4000."""
    _make(link, as_json, "close", code=code, **args)


@click.command()
@click.option("--event", "events", multiple=True, help="Only this event; may be repeated.")
@click.option("--lost", is_flag=True, help="A RESUME does not bring them either.")
@click.option("--sticky", is_flag=True, help="Outlives a reconnect.")
@for_seconds
@targeted
@on_sandbox
def deaf(link: SandboxLink, as_json: bool, events: tuple[str, ...], **args: Any) -> None:
    """Acknowledge heartbeats but send no events."""
    _make(link, as_json, "deaf", events=list(events) or None, **args)


@click.command()
@click.argument("delay_s", type=click.FloatRange(min=0), default=1.0)
@for_seconds
@targeted
@on_sandbox
def delay(link: SandboxLink, as_json: bool, delay_s: float, **args: Any) -> None:
    """Send every event DELAY_S seconds late."""
    _make(link, as_json, "delay", delay_s=delay_s, **args)


@click.command("no-ack")
@for_seconds
@targeted
@on_sandbox
def no_ack(link: SandboxLink, as_json: bool, **args: Any) -> None:
    """Leave heartbeats unanswered."""
    _make(link, as_json, "no_ack", **args)


@click.command()
@targeted
@on_sandbox
def heartbeat(link: SandboxLink, as_json: bool, **target: Any) -> None:
    """Send op 1: ask for a heartbeat at once."""
    _make(link, as_json, "heartbeat", **target)


@click.command("refuse-resume")
@click.option("--count", type=_COUNT, help="How many RESUMEs; 1 by default.")
@click.option("--off", is_flag=True, help="End it now.")
@targeted
@on_sandbox
def refuse_resume(link: SandboxLink, as_json: bool, **args: Any) -> None:
    """Refuse the next RESUME; the session is over then."""
    _make(link, as_json, "refuse_resume", **args)


@click.command("dead-resume-url")
@for_seconds
@on_sandbox
def dead_resume_url(link: SandboxLink, as_json: bool, **args: Any) -> None:
    """Give out resume URLs that nobody answers."""
    _make(link, as_json, "dead_resume_url", **args)


@click.command("storm-429")
@click.option("--count", type=_COUNT, help="How many requests.")
@click.option("--retry-after-s", type=click.FloatRange(min=0), help="What they say; 1 by default.")
@click.option("--scope", type=click.Choice(SCOPES), help="What they say; user by default.")
@for_seconds
@on_sandbox
def storm_429(link: SandboxLink, as_json: bool, **args: Any) -> None:
    """Answer REST requests with 429."""
    _make(link, as_json, "storm_429", **args)


@click.command("add-guilds")
@click.argument("count", type=_COUNT, default=1)
@on_sandbox
def add_guilds(link: SandboxLink, as_json: bool, count: int) -> None:
    """Let the bot join COUNT guilds; print their ids."""
    _make(link, as_json, "add_guilds", count=count)


@click.command("remove-guilds")
@click.argument("count", type=_COUNT, required=False)
@click.option("--guild", "guilds", multiple=True, metavar="ID", help="This one; may be repeated.")
@on_sandbox
def remove_guilds(
    link: SandboxLink, as_json: bool, count: int | None, guilds: tuple[str, ...]
) -> None:
    """Take the bot out of COUNT guilds.

    Those are the newest, or with --guild the ones that are named.
    """
    if count is not None and guilds:
        raise click.UsageError("COUNT and --guild exclude each other.")
    _make(link, as_json, "remove_guilds", count=count, guilds=list(guilds) or None)


@click.command("recommend-shards")
@click.argument("shards", type=_COUNT)
@on_sandbox
def recommend_shards(link: SandboxLink, as_json: bool, shards: int) -> None:
    """Change the shard count that it recommends."""
    _make(link, as_json, "recommend_shards", shards=shards)


@click.command()
@click.argument("remaining", type=click.IntRange(min=0))
@on_sandbox
def budget(link: SandboxLink, as_json: bool, remaining: int) -> None:
    """Set how many IDENTIFYs remain today."""
    _make(link, as_json, "budget", remaining=remaining)


TROUBLES: Final = (
    drop,
    reconnect,
    invalid_session,
    close,
    deaf,
    delay,
    no_ack,
    heartbeat,
    refuse_resume,
    dead_resume_url,
    storm_429,
    add_guilds,
    remove_guilds,
    recommend_shards,
    budget,
)
