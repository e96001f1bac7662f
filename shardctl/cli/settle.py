"""From flags, variables and files to one launch record: what `start` and `dev` shall run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import click

from shardctl import lifecycles
from shardctl.cli.common import fleet_option, this_folder
from shardctl.cli.target import default_bot, find_bot, has_bot
from shardctl.config import DRAIN_MAX_S, NODES_MAX, SHARDS_MAX, FileConfig, load
from shardctl.errors import ConfigError
from shardctl.keeping import recorded
from shardctl.launch import (
    API_BASE,
    DRAIN_S,
    IDENTIFY_WINDOW_S,
    LOG_LEVELS,
    TOKEN_VARIABLE,
    Bot,
    Record,
    Sandbox,
    example_bot,
)
from shardctl.machine import nodes_max
from shardctl.paths import FleetPaths, fleet_name, fleet_paths
from shardctl.token import find_token


def auto_or(high: int) -> Callable[[Any], int | str]:
    """A click type: ``auto`` or a whole number from 1 to ``high``."""

    def convert(value: Any) -> int | str:
        if value == "auto":
            return "auto"
        if str(value).isdecimal() and 1 <= int(value) <= high:
            return int(value)
        msg = f"{value!r} is neither 'auto' nor a whole number from 1 to {high}."
        raise click.BadParameter(msg)

    return convert


def _option(name: str, **extra: Any) -> Callable[[Any], Any]:
    variable = "SHARDCTL_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, show_envvar=True, **extra)


_WHOLE: Final = click.IntRange(1, 16_384)
nodes_option: Final = _option(
    "--nodes",
    type=auto_or(NODES_MAX),
    metavar="auto|N",
    help="Processes; auto: by shards, cores and memory.",
)
_OPTIONS: Final = (
    _option(
        "--shards",
        type=auto_or(SHARDS_MAX),
        metavar="auto|N",
        help="Gateway shards; auto: as Discord says.",
    ),
    _option("--factory", is_flag=True, help="The object is a function that makes the bot."),
    _option("--sandbox", is_flag=True, help="Run on a Discord of our own, without a token."),
    _option("--guilds", type=click.IntRange(0, 1_000_000), help="Sandbox: how many guilds."),
    _option("--sandbox-shards", type=_WHOLE, help="Sandbox: shards that it recommends."),
    _option("--max-concurrency", type=_WHOLE, help="Sandbox: rate-limit keys of IDENTIFY."),
    _option("--seed", type=click.IntRange(0, 2**63 - 1), help="Sandbox: same seed, same world."),
    _option(
        "--identify-window-s",
        type=click.FloatRange(0, 3600),
        help="Sandbox: seconds between two IDENTIFYs of a key (Discord: 5).",
    ),
    _option("--drain-s", type=click.FloatRange(0, DRAIN_MAX_S), help="Handlers' time at a stop."),
    _option("--log-level", type=click.Choice(LOG_LEVELS), help="Of the broker's log."),
    _option("--debug", is_flag=True, default=None, help="Nodes send tracebacks to who asked."),
    fleet_option,
)
_SANDBOX_ONLY: Final = {
    "guilds": "guilds",
    "sandbox_shards": "shards",
    "max_concurrency": "max_concurrency",
    "seed": "seed",
    "identify_window_s": "identify_window_s",
}


def launch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is launched, for `start` and `dev`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


class Launch(NamedTuple):
    """What shall run. ``secrets`` are the variables that carry the token."""

    record: Record
    paths: FleetPaths
    secrets: dict[str, str]


def settle(
    ctx: click.Context,
    target: str | None,
    options: Mapping[str, Any],
    *,
    suffix: str = "",
    sandbox_defaults: Mapping[str, Any] | None = None,
) -> Launch:
    """Everything that a launch needs; nothing is made or started. Raises ShardctlError."""
    bot, config = _bot_and_file(target, options)
    sandbox = _sandbox(ctx, options, config, sandbox_defaults or {})
    folder = this_folder() if bot.example else Path(bot.folder)
    fleet = options["fleet"] or config.get("fleet") or fleet_name(folder) + suffix
    paths = fleet_paths(fleet)
    token_env = os.environ.get("SHARDCTL_TOKEN_ENV") or config.get("token_env") or TOKEN_VARIABLE
    record = Record(
        fleet=fleet,
        endpoint=paths.endpoint,
        data_dir=str(paths.data_dir),
        run_dir=str(paths.run_dir),
        bot=bot,
        shards=_first(options["shards"], config.get("shards"), "auto"),
        nodes=_first(options["nodes"], config.get("nodes"), "auto"),
        nodes_max=nodes_max(),
        identify_window_s=sandbox.identify_window_s if sandbox else IDENTIFY_WINDOW_S,
        drain_s=float(_first(options["drain_s"], config.get("drain_s"), DRAIN_S)),
        log_level=_first(options["log_level"], config.get("log_level"), "info"),
        debug=bool(_first(options["debug"], config.get("debug"), False)),
        sandbox=sandbox,
        api_base=_api_base(),
        token_env=token_env,
        routes=config.routes,
        lifecycle=lifecycles.recorded(config.lifecycle),
        balance=lifecycles.recorded_balance(config.balance),
        state=recorded(config.state, fleet, config.path.parent if config.path else folder),
    )
    secrets = {} if sandbox else _secrets(folder, token_env, config, target)
    return Launch(record, paths, secrets)


def _api_base() -> str:
    """Where Discord's REST is; an empty variable counts as none. Raises ConfigError."""
    value = os.environ.get("SHARDCTL_API_BASE") or API_BASE
    try:
        url = urlsplit(value)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if good:
        return value.rstrip("/")
    raise ConfigError(
        f"SHARDCTL_API_BASE={value} is not allowed.",
        consequence=f"Allowed: an http or https URL such as {API_BASE}. Nothing was started.",
        hint="unset SHARDCTL_API_BASE",
    )


def _first(*values: Any) -> Any:
    """Flag or variable, file, default: the first that is set."""
    return next(value for value in values if value is not None)


def _bot_and_file(target: str | None, options: Mapping[str, Any]) -> tuple[Bot, FileConfig]:
    here = this_folder()
    if target is not None:
        bot = find_bot(target, here, factory=options["factory"])
        return bot, load(Path(bot.folder))
    config = load(here)
    named = config.get("target")
    if named is not None:
        factory = options["factory"] or bool(config.get("factory"))
        return find_bot(named, here, factory=factory), config
    if options["sandbox"] and not has_bot(here):
        return example_bot(), config
    return default_bot(here), config


def _sandbox(
    ctx: click.Context,
    options: Mapping[str, Any],
    config: FileConfig,
    defaults: Mapping[str, Any],
) -> Sandbox | None:
    given = {key: options[name] for name, key in _SANDBOX_ONLY.items() if options[name] is not None}
    if not options["sandbox"]:
        _refuse_lonely(ctx, options)
        return None
    sizes = {**defaults, **config.sandbox, **given}
    shards = _first(options["shards"], config.get("shards"), "auto")
    if shards != "auto":
        sizes.setdefault("shards", shards)
    return dataclasses.replace(Sandbox(), **sizes)


def _refuse_lonely(ctx: click.Context, options: Mapping[str, Any]) -> None:
    typed = click.core.ParameterSource.COMMANDLINE
    for name in _SANDBOX_ONLY:
        if options[name] is not None and ctx.get_parameter_source(name) is typed:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} sizes the sandbox: it needs --sandbox.", ctx)


def _secrets(
    folder: Path, token_env: str, config: FileConfig, target: str | None
) -> dict[str, str]:
    token_file = os.environ.get("SHARDCTL_TOKEN_FILE") or config.get("token_file")
    token = find_token(
        folder, os.environ, token_env=token_env, token_file=token_file, target=target
    )
    return {TOKEN_VARIABLE: token.value, token_env: token.value}
