"""A bot with commands of every kind, on a guild of the sandbox's, without a gateway.

    async with acting() as act:
        result = await act("add", left=1, right=2)

What would go to Discord goes to ``act.discord``, which knows one member that no cache has.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import disnake
import pytest
from disnake.client import Client
from disnake.ext import commands
from disnake.ext.commands.base_core import InvokableApplicationCommand
from disnake.http import HTTPClient, Route
from disnake.webhook.async_ import AsyncWebhookAdapter

from shard_node.bridge import install
from shard_node.bridge.execute import Executor
from shard_node.bridge.replies import run_now
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.world import World
from shard_node.wire.bodies import ErrorBody, ShardState
from shard_node.wire.categories import CommandExec, CommandResult

Inter = disnake.ApplicationCommandInteraction
UNCACHED = 77
HELD = (
    (Client, "_schedule_event"),
    (InvokableApplicationCommand, "_call_local_error_handler"),
    (commands.Command, "dispatch_error"),
)


class Discord:
    """Takes requests; ``sent`` are method and path of each."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def request(self, route: Route, **sent: Any) -> Any:
        path = route.url.removeprefix(route.BASE)
        self.sent.append(f"{route.method} {path}")
        if path.endswith(f"/members/{UNCACHED}"):
            user = {"id": str(UNCACHED), "username": "far", "discriminator": "0", "avatar": None}
            return {"user": user, "roles": [], "joined_at": "2024-01-01T00:00:00+00:00", "flags": 0}
        response: Any = SimpleNamespace(status=404, reason="Not Found")
        raise disnake.NotFound(response, {"code": 10007, "message": "Unknown Member"})


class Acting:
    """Asks the executor, as a message from another node would."""

    def __init__(self, bot: Any, guild: disnake.Guild, discord: Discord) -> None:
        self.bot, self.guild, self.discord = bot, guild, discord
        self.state = ShardState.READY
        table = SimpleNamespace(state=lambda shard: self.state)
        node = SimpleNamespace(name="a", shards=(0,), num_shards=1, table=table, debug=False)
        hosting = SimpleNamespace(has=lambda guild: False)
        hold = SimpleNamespace(client=bot, hosting=hosting)
        self.adoption: Any = SimpleNamespace(node=node, hold=hold)
        self.executor = Executor(self.adoption)

    @property
    def member(self) -> disnake.Member:
        """An ordinary member of the guild."""
        return next(m for m in self.guild.members if not m.bot and m.id != self.guild.owner_id)

    async def asked(self, command: str, **change: Any) -> CommandResult | ErrorBody:
        """The result or the refusal."""
        body = CommandExec(**{"guild": self.guild.id, "command": command, **change})
        return await self.executor.serve(SimpleNamespace(body=body))  # type: ignore[arg-type]

    async def __call__(self, command: str, **options: Any) -> CommandResult:
        result = await self.asked(command, options=options)
        assert isinstance(result, CommandResult), result
        return result

    async def said(self, command: str, **options: Any) -> list[str]:
        """The contents of the answer."""
        return [reply.content for reply in (await self(command, **options)).replies]

    async def raised(self, command: str, user: int = 0, **options: Any) -> str:
        """Type and words of what the command raised."""
        result = await self.asked(command, user=user, options=options)
        assert isinstance(result, ErrorBody), result
        assert result.code == "E_REMOTE"
        assert ("traceback" in result.details) == self.adoption.node.debug
        assert result.message.startswith(result.details["type"])
        return result.message

    async def refused(self, command: str, **options: Any) -> ErrorBody:
        """Why not."""
        result = await self.asked(command, options=options)
        assert isinstance(result, ErrorBody), result
        return result


@asynccontextmanager
async def acting(bot: Any = None) -> AsyncIterator[Acting]:
    """The bot below, or another one, held for runs as a node holds its own."""
    discord = Discord()
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in HELD:
            patch.setattr(owner, name, getattr(owner, name))
        patch.setattr(
            HTTPClient, "request", lambda _self, route, **sent: discord.request(route, **sent)
        )
        patch.setattr(
            AsyncWebhookAdapter,
            "request",
            lambda _self, route, _session, **sent: discord.request(route, **sent),
        )
        install.hold_runs()
        bot = make() if bot is None else bot
        yield Acting(bot, _enter_guild(bot), discord)
        assert run_now.get() is None


def _enter_guild(bot: Any) -> disnake.Guild:
    ticks = itertools.count(1_760_000_000_000)
    world = World(SandboxConfig(guilds=1), lambda: next(ticks))
    state = bot._connection
    state.user = disnake.ClientUser(state=state, data=world.bot_user)  # type: ignore[arg-type]
    state._users[state.user.id] = state.user
    state.application_id = world.application_id
    return state._add_guild_from_data(world.guild(world.guild_ids()[0]).payload())


def make() -> commands.AutoShardedBot:
    """One command for everything that a command may do."""
    intents = disnake.Intents.all()
    bot = commands.AutoShardedBot(
        command_prefix=["!", "?"], intents=intents, help_command=None, shard_ids=[0], shard_count=1
    )
    bot.seen = []  # type: ignore[attr-defined]
    for add in (_plain, _typed, _answering, _failing, _grouped, _typed_by_hand):
        add(bot)
    return bot


def _plain(bot: Any) -> None:
    @bot.slash_command()
    async def echo(inter: Inter, text: str) -> None:
        await inter.response.send_message(text)

    @bot.slash_command()
    async def who(inter: Inter) -> None:
        bot.seen.append(inter)
        await inter.send(f"{inter.author.id} in {inter.channel.id}", ephemeral=True)

    @bot.slash_command(guild_ids=[1, 2])
    async def elsewhere(inter: Inter) -> None: ...

    @bot.slash_command()
    async def silent(inter: Inter) -> None: ...


def _typed(bot: Any) -> None:
    @bot.slash_command()
    async def add(
        inter: Inter,
        left: int = commands.Param(ge=-5, le=5),
        right: float = commands.Param(default=0.5, le=9),
    ) -> None:
        await inter.response.send_message(f"{left + right:g}")

    @bot.slash_command()
    async def pick(
        inter: Inter,
        color: str = commands.Param(choices={"Red": "r", "Blue": "b"}),
        loud: bool = False,
    ) -> None:
        await inter.response.send_message(f"{color} {loud}")

    @bot.slash_command()
    async def meet(
        inter: Inter,
        member: disnake.Member,
        role: disnake.Role = None,  # type: ignore[assignment]
        room: disnake.TextChannel = None,  # type: ignore[assignment]
        either: disnake.Member | disnake.Role = None,  # type: ignore[assignment]
    ) -> None:
        await inter.response.send_message(
            f"{member.name} {role and role.name} {room and room.name}"
        )

    @bot.slash_command()
    async def shout(
        inter: Inter, text: str = commands.Param(converter=lambda _inter, text: text.upper())
    ) -> None:
        await inter.response.send_message(text)

    @bot.slash_command()
    async def upload(inter: Inter, file: disnake.Attachment) -> None: ...


def _answering(bot: Any) -> None:
    @bot.slash_command()
    async def late(inter: Inter, how: str) -> None:
        await inter.response.defer(ephemeral=True)
        await asyncio.sleep(0)
        if how == "edit":
            await inter.edit_original_response("edited", embed=disnake.Embed(title="t"))
        elif how == "follow":
            await inter.followup.send("followed")
            await inter.followup.send("and again", ephemeral=True)

    @bot.slash_command()
    async def rich(inter: Inter) -> None:
        embed = disnake.Embed(title="T", description="D").add_field("n", "v")
        button = disnake.ui.Button(label="Press", custom_id="x")
        file = disnake.File(__file__, "bot.py")
        await inter.response.send_message("c", embed=embed, components=button, file=file)
        original = await inter.original_response()
        await original.add_reaction("x")
        extra = await inter.followup.send("gone soon", wait=True)
        assert extra.author == bot.user and original.attachments[0].filename == "bot.py"
        await extra.edit(content="changed")
        await extra.delete()

    @bot.slash_command()
    async def form(inter: Inter) -> None:
        text = disnake.ui.TextInput(label="l", custom_id="i")
        await inter.response.send_modal(title="Your name", custom_id="m", components=text)

    @bot.slash_command()
    async def report(inter: Inter) -> None:
        await inter.response.send_message("reported")
        await bot.http.send_message(5, "to the moderators")

    bot.gate = asyncio.Event()

    @bot.slash_command()
    async def wait(inter: Inter, first: bool = False) -> None:
        if first:
            await inter.response.send_message("so far")
        await bot.gate.wait()
        await inter.send("at last")


def _failing(bot: Any) -> None:
    @bot.slash_command()
    async def broken(inter: Inter) -> None:
        raise ZeroDivisionError("by naught")

    @bot.slash_command()
    @commands.has_permissions(administrator=True)
    async def guarded(inter: Inter) -> None:
        await inter.response.send_message("you may")

    @bot.slash_command()
    @commands.cooldown(1, 60, commands.BucketType.user)
    async def cooled(inter: Inter) -> None:
        await inter.response.send_message("cool")

    @bot.slash_command()
    async def handled(inter: Inter) -> None:
        await inter.response.send_message("working")
        raise KeyError("k")

    @handled.error
    async def _on_handled(inter: Inter, error: Exception) -> None:
        await inter.edit_original_response(f"sorry: {type(error).__name__}")


def _grouped(bot: Any) -> None:
    @bot.slash_command()
    async def mod(inter: Inter) -> None: ...

    @mod.sub_command()
    async def warn(inter: Inter, why: str = "-") -> None:
        await inter.response.send_message(f"warned: {why}")

    @mod.sub_command_group()
    async def rules(inter: Inter) -> None: ...

    @rules.sub_command(name="list")
    async def list_rules(inter: Inter, page: int) -> None:
        await inter.response.send_message(f"page {page}")


def _typed_by_hand(bot: Any) -> None:
    @bot.command()
    async def say(ctx: Any, times: int, *, text: str) -> None:
        for _ in range(times):
            await ctx.send(text)

    @bot.command(name="who")
    async def prefix_who(ctx: Any) -> None:
        async with ctx.typing():
            await ctx.message.add_reaction("x")
            sent = await ctx.reply("?")
        await sent.edit(
            content=f"{ctx.author.id} in {ctx.channel.id}: {ctx.prefix}{ctx.message.content}"
        )
        await ctx.message.delete()

    @bot.group()
    async def box(ctx: Any) -> None: ...

    @box.command()
    async def put(ctx: Any, what: str, where: str = "in") -> None:
        await ctx.send(f"{what}|{where}", embed=disnake.Embed(title="t"))

    @bot.command()
    async def remind(ctx: Any) -> None:
        async def later() -> None:
            await bot.gate.wait()
            bot.dispatch("reminded")
            await ctx.send("now")

        bot.reminder = asyncio.create_task(later())
        await ctx.send("later")

    @bot.command()
    async def crash(ctx: Any) -> None:
        await ctx.send("so far")
        raise OSError("disk")
