"""The commands. A literal table names them; a command's module is imported when it runs.

So `shardctl --help` loads click and this file only.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

from shardctl import __version__
from shardctl.cli.failure import exit_code_of


class Entry(NamedTuple):
    """Where a command lives and what the list of commands says of it."""

    module: str
    attribute: str
    summary: str
    group: str = "Fleet"


GROUPS: Final = ("Fleet", "Shards", "Messages", "State", "Tools")

COMMANDS: Final[dict[str, Entry]] = {
    "start": Entry("shardctl.cli.start", "start", "Start a bot as a fleet."),
    "stop": Entry("shardctl.cli.stop", "stop", "Stop the fleet; sessions stay resumable."),
    "status": Entry("shardctl.cli.status", "status", "Show shards, nodes and the budget."),
    "respawn": Entry(
        "shardctl.cli.respawn", "respawn", "Replace processes, losing no event.", "Shards"
    ),
    "reconnect": Entry(
        "shardctl.cli.reconnect", "reconnect", "Open a shard's connection anew.", "Shards"
    ),
    "reload": Entry("shardctl.cli.reload", "reload", "Reload an extension everywhere.", "Shards"),
    "move-shard": Entry(
        "shardctl.cli.move_shard", "move_shard", "Hand a shard to another node.", "Shards"
    ),
    "migrate-guild": Entry(
        "shardctl.cli.migrate_guild", "migrate_guild", "Have a guild handled elsewhere.", "Shards"
    ),
    "balance": Entry("shardctl.cli.balance", "balance", "Even out the nodes' load.", "Shards"),
    "scale": Entry("shardctl.cli.scale", "scale", "Have more nodes, or fewer.", "Shards"),
    "operations": Entry(
        "shardctl.cli.operations", "operations", "List what runs and ran; cancel.", "Shards"
    ),
    "wait": Entry("shardctl.cli.wait", "wait", "Wait for an operation's end.", "Shards"),
    "where": Entry(
        "shardctl.cli.where", "where", "Say who gets what, and by which rule.", "Messages"
    ),
    "routes": Entry("shardctl.cli.routes", "routes", "Show the routing table.", "Messages"),
    "dead-letters": Entry(
        "shardctl.cli.dead_letters",
        "dead_letters",
        "What reached nobody: list, retry, drop.",
        "Messages",
    ),
    "state": Entry("shardctl.cli.state", "state", "Rows, the log, rollback, checks.", "State"),
    "economy": Entry("shardctl.cli.economy", "economy", "Money, and its audit.", "State"),
    "ban": Entry("shardctl.cli.ban", "ban", "Bans: add, rm, list.", "State"),
    "premium": Entry("shardctl.cli.premium", "premium", "Premium: grant, revoke, list.", "State"),
    "cooldown": Entry("shardctl.cli.cooldown", "cooldown", "Cooldowns: show, clear.", "State"),
    "backup": Entry("shardctl.cli.backup", "backup", "Create, verify, restore copies.", "State"),
    "invoke": Entry("shardctl.cli.invoke", "invoke", "Run a command of the bot in a guild."),
    "logs": Entry("shardctl.cli.logs", "logs", "Print or follow the logs."),
    "dev": Entry("shardctl.cli.dev", "dev", "Run one node and restart it on save."),
    "sandbox": Entry(
        "shardctl.cli.sandbox", "sandbox", "A Discord of your own, for tests.", "Tools"
    ),
    "bench": Entry("shardctl.cli.bench", "bench", "Measure the fleet's message plane.", "Tools"),
    "version": Entry("shardctl.cli.version", "version", "Show versions.", "Tools"),
}

_EXAMPLES: Final = """\
Examples:
  shardctl start main.py --shards auto    start your bot, unchanged
  shardctl start --sandbox                try it without a Discord account
  shardctl status --watch 2               look at it every 2 seconds
"""


class LazyGroup(click.Group):
    """A group whose commands are the rows of ``COMMANDS``."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(_unknown(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for group in GROUPS:
            rows = [(n.ljust(width), e.summary) for n, e in COMMANDS.items() if e.group == group]
            with formatter.section(group):
                formatter.write_dl(rows)

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("\n" + _EXAMPLES + "\n")

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As in click, but failures are shown and numbered as shardctl(1) says."""

        def run() -> Any:
            return super(LazyGroup, self).main(args, prog_name, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        raise SystemExit(exit_code_of(run))


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=2)
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"there is no command {name!r}.{meant}"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="shardctl %(version)s", help="Show the version.")
def cli() -> None:
    """Run a large Discord bot as a fleet: many processes, one broker."""
