"""COMMAND_EXEC with disnake's own objects: what a command meets, what its answer becomes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import disnake
import msgspec
import pytest
from disnake.ext import commands

from shard_node import redact
from shard_node.bridge import replies
from shard_node.wire.bodies import ShardState
from shard_node.wire.categories import CommandResult
from tests.support.aio import async_test
from tests.support.commands_bot import UNCACHED, Acting, acting


@async_test
async def test_a_slash_command_answers_here_and_not_on_discord() -> None:
    async with acting() as act:
        result = await act("echo", text="hello = world")
        assert [reply.content for reply in result.replies] == ["hello = world"]
        assert (result.node, result.shard, result.kind, result.command) == ("a", 0, "slash", "echo")
        assert (result.finished, result.deferred, result.error) == (True, False, "")
        assert (await act("/echo", text="x")).replies == (await act("echo", text="x")).replies
        assert act.discord.sent == []


@async_test
async def test_the_result_crosses_the_wire() -> None:
    async with acting() as act:
        result = await act("rich")
        data = msgspec.msgpack.encode(result)
        assert msgspec.msgpack.decode(data, type=CommandResult) == result


# --- who and where


@async_test
async def test_the_author_is_the_bot_unless_somebody_is_named() -> None:
    async with acting() as act:
        await act.asked("who")
        await act.asked("who", user=act.member.id)
        mine, theirs = act.bot.seen
        assert mine.author is act.guild.me
        assert theirs.author is act.member
        for inter in (mine, theirs):
            assert inter.guild is act.guild
            assert inter.channel is act.guild.text_channels[0]
            assert inter.permissions == inter.channel.permissions_for(inter.author)
            assert inter.app_permissions == inter.channel.permissions_for(act.guild.me)
            assert inter.locale == act.guild.preferred_locale
            assert not inter.is_expired()


@async_test
async def test_a_member_that_no_cache_has_is_asked_of_discord() -> None:
    async with acting() as act:
        await act.asked("who", user=UNCACHED)
        (inter,) = act.bot.seen
        assert (inter.author.id, inter.author.name) == (UNCACHED, "far")
        assert isinstance(inter.author, disnake.Member)
        assert inter.permissions.view_channel
        said = (await act.asked("!who", user=UNCACHED)).replies[0].content  # type: ignore[union-attr]
        assert said.startswith(f"{UNCACHED} in ")


@async_test
async def test_the_channel_can_be_chosen() -> None:
    async with acting() as act:
        chosen = act.guild.text_channels[-1]
        for command in ("who", "!who"):
            result = await act.asked(command, channel=chosen.id)
            assert isinstance(result, CommandResult)
            assert result.channel == chosen.id
            assert f"in {chosen.id}" in result.replies[0].content


@async_test
async def test_who_or_what_is_not_in_the_guild_is_refused_with_what_is() -> None:
    async with acting() as act:
        nobody: Any = await act.asked("who", user=5)
        assert (nobody.code, act.guild.name in nobody.message) == ("E_NOT_FOUND", True)
        nowhere: Any = await act.asked("who", channel=5)
        assert nowhere.code == "E_NOT_FOUND"
        assert f"#{act.guild.text_channels[0].name}" in nowhere.hint
        category: Any = await act.asked("who", channel=act.guild.categories[0].id)
        assert "takes no messages" in category.message


@async_test
async def test_a_guild_is_refused_where_it_cannot_be_answered_for() -> None:
    async with acting() as act:
        absent: Any = await act.asked("who", guild=12)
        assert (absent.code, absent.details["exists"]) == ("E_NOT_FOUND", [act.guild.id])
        act.adoption.node.num_shards = 2
        other: Any = await act.asked("who", guild=1 << 22)
        assert other.code == "E_WRONG_NODE"
        act.state = ShardState.RESUMING
        early: Any = await act.asked("who", guild=0)
        assert (early.code, early.retryable) == ("E_NOT_READY", True)
        act.state, act.adoption.hold = ShardState.READY, None
        assert (await act.asked("who", guild=0)).code == "E_NOT_READY"  # type: ignore[union-attr]


# --- options


@async_test
async def test_options_are_converted_by_their_declared_types() -> None:
    async with acting() as act:
        assert await act.said("add", left="-2", right="0.25") == ["-1.75"]
        assert await act.said("add", left=3) == ["3.5"]
        assert await act.said("pick", color="Red", loud="yes") == ["r True"]
        assert await act.said("pick", color="b", loud=False) == ["b False"]
        assert await act.said("shout", text="quiet") == ["QUIET"]


@async_test
async def test_members_roles_and_channels_by_id_mention_or_name() -> None:
    async with acting() as act:
        member, role = act.member, act.guild.roles[-1]
        room = act.guild.text_channels[1]
        said = f"{member.name} {role.name} {room.name}"
        for options in (
            {"member": member.id, "role": role.id, "room": str(room.id)},
            {"member": member.mention, "role": role.mention, "room": room.mention},
            {"member": f"@{member.name}", "role": f"@{role.name}", "room": f"#{room.name}"},
        ):
            assert await act.said("meet", **options, either=str(role.id)) == [said]
        assert await act.said("meet", member=UNCACHED) == ["far None None"]


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("add", {}, ["/add needs left", "usage: /add left=INTEGER [right=NUMBER]"]),
        ("add", {"lef": 1}, ["no option 'lef'", "did you mean 'left'?"]),
        ("silent", {"x": 1}, ["/silent has no option 'x'; it has none"]),
        ("add", {"left": "one"}, ["left: 'one' is no integer"]),
        ("add", {"left": True}, ["left: True is no integer"]),
        ("add", {"left": 2.0}, ["left: 2.0 is no integer"]),
        ("add", {"left": 2**60}, ["is no integer"]),
        ("add", {"left": 6}, ["left: 6 is more than 5"]),
        ("add", {"left": -6}, ["left: -6 is less than -5"]),
        ("add", {"left": 1, "right": "nan"}, ["right: 'nan' is no number"]),
        ("add", {"left": 1, "right": 1e9}, ["right: 1000000000.0 is more than 9"]),
        ("pick", {"color": "green"}, ["'green' is none of 'Red', 'Blue'"]),
        ("pick", {"color": "r", "loud": "maybe"}, ["loud: 'maybe' is no boolean"]),
        ("echo", {"text": 5}, ["text: 5 is no string"]),
        ("meet", {"member": "nobody"}, ["member: 'nobody' is nobody in"]),
        ("meet", {"member": UNCACHED, "role": "x"}, ["no role 'x'", "there are: @everyone"]),
        ("meet", {"member": UNCACHED, "room": "x"}, ["no channel 'x'", "general"]),
        ("upload", {"file": "x"}, ["a file can only be given in Discord"]),
    ],
)
@async_test
async def test_options_that_cannot_be_are_refused(
    command: str, options: dict[str, Any], words: list[str]
) -> None:
    async with acting() as act:
        refusal = await act.refused(command, **options)
        assert refusal.code == "E_BAD_OPTION"
        for word in words:
            assert word in f"{refusal.message}\n{refusal.hint}"


@async_test
async def test_a_channel_of_the_wrong_kind_is_refused() -> None:
    async with acting() as act:
        voice = act.guild.voice_channels[0]
        refusal = await act.refused("meet", member=UNCACHED, room=voice.id)
        assert f"#{voice.name} is a voice, not news, text" in refusal.message


@async_test
async def test_subcommands_are_named_by_their_words() -> None:
    async with acting() as act:
        assert await act.said("mod warn", why="spam") == ["warned: spam"]
        assert await act.said("/mod rules list", page=3) == ["page 3"]
        assert (await act("mod rules list", page="3")).command == "mod rules list"
        for text, hint in (
            ("mod", "warn, rules"),
            ("mod bna", "warn, rules"),
            ("mod rules", "list"),
        ):
            refusal = await act.refused(text)
            assert refusal.code == "E_NOT_FOUND"
            assert hint in refusal.hint
        assert "NAME=VALUE" in (await act.refused("mod warn now")).message
        assert "usage: /mod rules list page=INTEGER" in (await act.refused("mod rules list")).hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [("ecko", "echo"), ("!sya x", "!say"), ("/say", "echo"), ("zzz", "there are: "), ("", "")],
)
@async_test
async def test_an_unknown_command_names_those_near(text: str, hint: str) -> None:
    async with acting() as act:
        refusal = await act.refused(text)
        assert refusal.code == "E_NOT_FOUND"
        assert hint in refusal.hint


@async_test
async def test_a_command_of_other_guilds_is_refused() -> None:
    async with acting() as act:
        assert "it is one of 1, 2" in (await act.refused("elsewhere")).hint


@async_test
async def test_a_bot_without_commands_says_so() -> None:
    async def make() -> Any:
        return disnake.AutoShardedClient(shard_ids=[0], shard_count=1)

    async with acting(await make()) as act:
        assert (await act.refused("x")).hint == "the bot has none"


# --- answers


@async_test
async def test_a_deferred_answer_is_what_came_of_it() -> None:
    async with acting() as act:
        edited = await act("late", how="edit")
        assert [(r.content, r.ephemeral) for r in edited.replies] == [("edited", True)]
        assert edited.replies[0].embeds[0]["title"] == "t"
        followed = await act("late", how="follow")
        said = [(reply.content, reply.ephemeral) for reply in followed.replies]
        assert said == [("followed", True), ("and again", True)]
        never = await act("late", how="never")
        assert (never.replies, never.deferred, never.finished) == ((), True, True)


@async_test
async def test_embeds_components_and_files_are_data() -> None:
    async with acting() as act:
        (reply,) = (await act("rich")).replies
        assert reply.content == "c"
        assert reply.embeds[0]["fields"][0]["name"] == "n"
        assert reply.components[0]["components"][0]["label"] == "Press"
        assert reply.files == ("bot.py",)
        json.dumps(reply.embeds + reply.components)
        assert act.discord.sent == []


@async_test
async def test_no_answer_is_an_answer() -> None:
    async with acting() as act:
        assert (await act("silent")).replies == ()


@async_test
async def test_a_modal_is_refused_with_its_title() -> None:
    async with acting() as act:
        refusal = await act.refused("form")
        assert refusal.code == "E_NEEDS_A_USER"
        assert "'Your name'" in refusal.message


@async_test
async def test_what_a_slash_command_says_elsewhere_is_said() -> None:
    async with acting() as act:
        act.bot.http.request = _accepts(act)
        assert await act.said("report") == ["reported"]
        assert act.discord.sent == ["POST /channels/5/messages"]


def _accepts(act: Acting) -> Any:
    async def request(route: Any, **_sent: Any) -> dict[str, Any]:
        act.discord.sent.append(f"{route.method} {route.url.removeprefix(route.BASE)}")
        return {}

    return request


# --- time


@async_test
async def test_a_command_that_takes_too_long_goes_on() -> None:
    async with acting() as act:
        late: Any = await act.asked("wait", timeout_s=0.02)
        assert late.code == "E_TIMEOUT"
        so_far: Any = await act.asked("wait", timeout_s=0.02, options={"first": True})
        assert (so_far.replies[0].content, so_far.finished) == ("so far", False)
        waiting = asyncio.create_task(act("wait"))
        await asyncio.sleep(0)
        act.bot.gate.set()
        assert [reply.content for reply in (await waiting).replies] == ["at last"]


@async_test
async def test_a_bot_that_never_finds_its_prefix_holds_nobody_up() -> None:
    async with acting() as act:

        async def get_prefix(_message: Any) -> str:
            await act.bot.gate.wait()
            return "!"

        act.bot.get_prefix = get_prefix
        late: Any = await act.asked("!say", timeout_s=0.02)
        assert (late.code, late.message) == ("E_TIMEOUT", "!say was not begun within 0.02 s")
        assert act.executor._running == 0


@async_test
async def test_the_time_has_its_limits() -> None:
    async with acting() as act:
        for timeout_s in (0, -1, 1e6, float("nan")):
            assert (await act.asked("who", timeout_s=timeout_s)).code == "E_BAD_OPTION"  # type: ignore[union-attr]


@async_test
async def test_so_many_run_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shard_node.bridge.execute.RUNNING_MAX", 1)
    async with acting() as act:
        waiting = asyncio.create_task(act("wait"))
        await asyncio.sleep(0)
        assert (await act.refused("who")).code == "E_BUSY"
        act.bot.gate.set()
        await waiting
        await act("who")


@async_test
async def test_a_run_that_discord_would_have_forgotten_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies, "RUNS_KEPT_MAX", 2)
    async with acting() as act:
        await act("who")
        (old,) = act.bot.seen
        await old.edit_original_response("still there")
        await act("who")
        await act("who")
        with pytest.raises(disnake.NotFound):
            await old.edit_original_response("too late")
        assert len(replies._BY_ID) == 4
        assert act.discord.sent == []


# --- errors


@async_test
async def test_what_a_command_raises_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    async with acting() as act:
        assert await act.raised("broken") == "ZeroDivisionError: by naught"
        assert await act.raised("!crash") == "OSError: disk"
        act.adoption.node.debug = True
        assert await act.raised("broken") == "ZeroDivisionError: by naught"
        assert "by naught" in capsys.readouterr().err  # the author's log has it as ever


@async_test
async def test_the_token_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", ["by naught", "'k'"])
    async with acting() as act:
        act.adoption.node.debug = True
        failed: Any = await act.asked("broken")
        assert failed.message == "ZeroDivisionError: [token]"
        assert "by naught" not in failed.details["traceback"]
        assert (await act("handled")).error == "KeyError: [token]"


@async_test
async def test_checks_and_cooldowns_apply() -> None:
    async with acting() as act:
        member = act.member.id
        assert "MissingPermissions: You are missing Admin" in await act.raised("guarded", member)
        await act.asked("cooled", user=member)
        assert (await act.raised("cooled", member)).startswith("CommandOnCooldown: You are on")
        assert isinstance(await act.asked("cooled", user=UNCACHED), CommandResult)


@async_test
async def test_the_bots_own_error_handler_may_answer() -> None:
    async with acting() as act:
        result = await act("handled")
        assert [reply.content for reply in result.replies] == ["sorry: CommandInvokeError"]
        assert result.error == "KeyError: 'k'"


@async_test
async def test_a_handler_for_all_errors_may_answer() -> None:
    async with acting() as act:

        @act.bot.listen("on_slash_command_error")
        async def told(inter: Any, error: Exception) -> None:
            await asyncio.sleep(0.01)
            await inter.send("that failed", ephemeral=True)

        @act.bot.listen("on_command_error")
        async def told_too(ctx: Any, error: Exception) -> None:
            await ctx.reply("that failed too")

        result = await act("broken")
        assert (result.replies[0].content, result.replies[0].ephemeral) == ("that failed", True)
        assert result.error == "ZeroDivisionError: by naught"
        crashed = await act("!crash")
        assert [reply.content for reply in crashed.replies] == ["so far", "that failed too"]
        assert crashed.error == "OSError: disk"


@async_test
async def test_an_overridden_event_has_its_way() -> None:
    async with acting() as act:

        @act.bot.event
        async def on_application_command(inter: Any) -> None:
            if inter.data.name == "who":
                raise LookupError("blacklist")
            await act.bot.process_application_commands(inter)

        assert await act.said("echo", text="x") == ["x"]
        assert await act.raised("who") == "LookupError: blacklist"


# --- prefix commands


@async_test
async def test_a_prefix_command_runs_as_typed() -> None:
    async with acting() as act:
        assert await act.said("!say 2 hello world") == ["hello world"] * 2
        assert await act.said("?say 1 x") == ["x"]
        assert await act.said('!box put "a b" on') == ["a b|on"]
        result = await act("!box put x")
        assert (result.kind, result.command) == ("prefix", "!box put")
        assert result.replies[0].embeds[0]["title"] == "t"
        assert act.discord.sent == []


@async_test
async def test_a_prefix_command_takes_options_by_name() -> None:
    async with acting() as act:
        assert await act.said("!say", times=2, text="a b") == ["a b"] * 2
        assert await act.said("say", times=1, text='say "x"') == ['say "x"']
        assert await act.said("!box put", what='a \\"b" c', where="d\\e") == ['a \\"b" c|d\\e']
        assert "backslash" in (await act.refused("!box put", what="a b\\")).message
        assert "it has times, text" in (await act.refused("!say", x=1)).message
        assert "text cannot be given without times" in (await act.refused("!say", text="x")).message


@async_test
async def test_a_slash_command_goes_before_a_prefix_command_of_its_name() -> None:
    async with acting() as act:
        assert (await act("who")).kind == "slash"
        assert (await act("!who")).kind == "prefix"
        assert (await act("say", times=1, text="x")).command == "!say"


@async_test
async def test_a_context_of_the_authors_is_used() -> None:
    class Context(commands.Context[Any]):
        async def send(self, content: str | None = None, **more: Any) -> Any:
            return await super().send(f"mine: {content}", **more)

    async with acting() as act:
        stock = act.bot.get_context

        async def get_context(message: Any, *, cls: Any = Context) -> Any:
            return await stock(message, cls=cls)

        act.bot.get_context = get_context
        for user in (0, act.member.id):
            result = await act.asked("!say 1 x", user=user)
            assert isinstance(result, CommandResult)
            assert result.replies[0].content == "mine: x"


@async_test
async def test_the_message_may_be_edited_and_deleted() -> None:
    async with acting() as act:
        (said,) = await act.said("!who")
        assert said.endswith(": !!who")
        assert act.discord.sent == []


@async_test
async def test_what_a_command_leaves_behind_is_not_held() -> None:
    async with acting() as act:
        assert await act.said("!remind") == ["later"]
        act.bot.gate.set()
        with pytest.raises(disnake.NotFound):  # it went to Discord, which is not there
            await act.bot.reminder
        (sent,) = act.discord.sent
        assert sent == f"POST /channels/{act.guild.text_channels[0].id}/messages"
        assert not any(run.tasks for run in replies._RUNS.values())


@async_test
async def test_nobody_says_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "MESSAGES_MAX", 3)
    async with acting() as act:
        assert len(await act.said("!say 3 x")) == 3
        assert (await act.raised("!say 4 x")).startswith("CannotAnswer: ")


@async_test
async def test_runs_do_not_mix() -> None:
    async with acting() as act:
        asked = [act.said("!say 3 " + "x" * n) for n in range(1, 20)]
        asked += [act.said("echo", text="y" * n) for n in range(1, 20)]
        answers = await asyncio.gather(*asked)
        assert answers[:19] == [["x" * n] * 3 for n in range(1, 20)]
        assert answers[19:] == [["y" * n] for n in range(1, 20)]
