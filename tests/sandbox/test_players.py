"""What players do reaches the bot's sessions, and what the audit makes of the bot's answers."""

from __future__ import annotations

from shard_node.sandbox import intents
from tests.support.sandbox import eventually
from tests.support.sandbox_client import Box, in_sandbox

OPTIONS = [
    {"type": 3, "name": "text", "description": "d", "required": True, "min_length": 8},
    {"type": 4, "name": "number", "description": "d", "required": True, "min_value": 5},
    {"type": 5, "name": "yes", "description": "d", "required": True},
    {"type": 6, "name": "user", "description": "d", "required": True},
    {"type": 7, "name": "place", "description": "d", "required": True, "channel_types": [2]},
    {"type": 8, "name": "role", "description": "d", "required": True},
    {"type": 10, "name": "ratio", "description": "d", "required": True, "max_value": 1},
    {"type": 11, "name": "file", "description": "d", "required": True},
    {
        "type": 3,
        "name": "pick",
        "description": "d",
        "required": True,
        "choices": [{"name": "A", "value": "a"}, {"name": "B", "value": "b"}],
    },
]
COMMANDS = [
    {"name": "all", "description": "d", "options": OPTIONS},
    {
        "name": "config",
        "description": "d",
        "options": [
            {"type": 1, "name": "set", "description": "d", "options": OPTIONS[:1]},
            {"type": 1, "name": "get", "description": "d"},
        ],
    },
]


async def register(box: Box) -> None:
    answer = await box.call("PUT", f"/applications/{box.app}/commands", COMMANDS)
    assert answer.status == 200, answer.json


@in_sandbox()
async def test_slash_options_are_valid(box: Box) -> None:
    await register(box)
    async with box.gateway() as client:
        for _ in range(20):
            await box.play("slash", name="all")
            data = (await client.until("INTERACTION_CREATE"))["data"]
            values = {option["name"]: option["value"] for option in data["options"]}
            assert len(values["text"]) >= 8
            assert values["number"] >= 5
            assert isinstance(values["yes"], bool)
            assert 0 <= values["ratio"] <= 1
            assert values["pick"] in ("a", "b")
            assert values["user"] in data["resolved"]["users"]
            assert values["user"] in data["resolved"]["members"]
            assert data["resolved"]["channels"][values["place"]]["type"] == 2
            assert values["role"] in data["resolved"]["roles"]
            assert values["file"] in data["resolved"]["attachments"]


@in_sandbox()
async def test_subcommands_and_given_options(box: Box) -> None:
    await register(box)
    async with box.gateway() as client:
        await box.play("slash", name="config set", options={"text": "given value"})
        (chosen,) = (await client.until("INTERACTION_CREATE"))["data"]["options"]
        assert (chosen["name"], chosen["options"][0]["value"]) == ("set", "given value")
        unknown = await box.play("slash", name="config nothing")
        assert (unknown.status, unknown.json["hint"]) == (409, "there are: set, get")
        unknown = await box.play("slash", name="nothing")
        assert (unknown.status, unknown.json["hint"]) == (409, "there are: all, config")


@in_sandbox()
async def test_no_commands_is_said(box: Box) -> None:
    answer = await box.play("slash")
    assert answer.status == 409
    assert "no slash command" in answer.json["message"]
    assert (await box.audit())["interactions_sent"] == 0


@in_sandbox()
async def test_messages_that_ask_are_answered_by_reference_or_by_id(box: Box) -> None:
    async with box.gateway() as client:
        await box.play("message", count=4)
        asked = [await client.until("MESSAGE_CREATE") for _ in range(4)]
        assert all(m["content"] == f"!ping {m['id']}" for m in asked)
        for message, body in (
            (asked[0], {"content": "pong", "message_reference": {"message_id": asked[0]["id"]}}),
            (asked[1], {"content": f"pong {asked[1]['id']}"}),
            (asked[2], {"content": f"pong {asked[2]['id']}"}),
            (asked[2], {"content": f"and again {asked[2]['id']}"}),
            (asked[3], {"content": "unrelated"}),
        ):
            answer = await box.call("POST", f"/channels/{message['channel_id']}/messages", body)
            assert answer.status == 200
    report = await box.audit()
    assert (report["messages_sent"], report["messages_answered_once"]) == (4, 2)
    assert (report["messages_answered_twice"], report["messages_pending"]) == (1, 1)
    assert report["messages_unasked"] == 1


@in_sandbox()
async def test_own_content(box: Box) -> None:
    async with box.gateway() as client:
        await box.play("message", content="!daily", asks=False)
        assert (await client.until("MESSAGE_CREATE"))["content"] == "!daily"
    assert (await box.audit())["messages_sent"] == 0


@in_sandbox()
async def test_direct_message_and_its_answer(box: Box) -> None:
    async with box.gateway() as client:
        await box.play("dm")
        asked = await client.until("MESSAGE_CREATE")
        assert "guild_id" not in asked
        assert asked["sandbox_nonce"] == "0:0"
        body = {"content": "pong", "message_reference": {"message_id": asked["id"]}}
        await box.call("POST", f"/channels/{asked['channel_id']}/messages", body)
    assert (await box.audit())["messages_answered_once"] == 1


@in_sandbox()
async def test_changes_of_members_roles_and_presences(box: Box) -> None:
    before = len(box.guild.members)
    async with box.gateway() as client:
        for kind, args, event in (
            ("member", {}, "GUILD_MEMBER_UPDATE"),
            ("member", {"action": "add"}, "GUILD_MEMBER_ADD"),
            ("member", {"action": "remove"}, "GUILD_MEMBER_REMOVE"),
            ("role", {}, "GUILD_ROLE_UPDATE"),
            ("role", {"action": "create"}, "GUILD_ROLE_CREATE"),
            ("role", {"action": "delete"}, "GUILD_ROLE_DELETE"),
            ("presence", {"status": "dnd"}, "PRESENCE_UPDATE"),
        ):
            assert (await box.play(kind, **args)).json["sent"] == 1
            told = await client.until(event)
            assert told["sandbox_nonce"].startswith(f"{box.guild.id}:")
    assert len(box.guild.members) == before
    assert (await box.audit())["events_sent"] == 7
    assert (await box.play("role", action="paint")).status == 409


@in_sandbox()
async def test_nonces_of_a_guild_count_up_by_one(box: Box) -> None:
    async with box.gateway() as client:
        await box.play("role", count=50)
        await client.until("GUILD_ROLE_UPDATE", 50)
    numbers = [int(data["sandbox_nonce"].split(":")[1]) for _, data in client.events]
    assert numbers == list(range(50))


@in_sandbox()
async def test_what_intents_leave_out_was_not_sent(box: Box) -> None:
    async with box.gateway(bits=intents.GUILDS):
        answer = await box.play("presence")
    assert answer.json == {"kind": "presence", "sent": 0, "unwanted": 1}
    report = await box.audit()
    assert (report["events_sent"], report["events_unwanted"]) == (0, 1)


@in_sandbox()
async def test_what_no_session_could_get_was_sent_and_lost(box: Box) -> None:
    await box.play("role")
    report = await box.audit()
    assert (report["events_sent"], report["events_pending"]) == (1, 1)


@in_sandbox()
async def test_unknown_kind_guild_and_count(box: Box) -> None:
    assert (await box.play("dance")).json["exists"][0] == "slash"
    unknown = await box.play("slash", guild="5")
    assert unknown.status == 404
    assert str(box.guild.id) in unknown.json["exists"]
    assert (await box.play("slash", count=0)).status == 400


@in_sandbox(guilds=0)
async def test_an_empty_world(box: Box) -> None:
    answer = await box.ask("POST", "/play", {"kind": "message"})
    assert (answer.status, answer.json["message"]) == (409, "the bot is in no guild")


def test_the_same_seed_plays_the_same_game() -> None:
    games = []

    @in_sandbox(seed=5)
    async def play(box: Box) -> None:
        async with box.gateway() as client:
            await box.ask("POST", "/play", {"kind": "role", "count": 10})
            await client.until("GUILD_ROLE_UPDATE", 10)
            games.append(client.events)

    play()
    play()
    assert games[0] == games[1]


@in_sandbox()
async def test_a_question_that_no_intent_asks_for_is_not_counted(box: Box) -> None:
    async with box.gateway(bits=intents.GUILDS):
        answer = await box.play("message")
    assert (answer.json["sent"], answer.json["unwanted"]) == (0, 1)
    assert (await box.audit())["messages_sent"] == 0


@in_sandbox(session_ttl_s=0.0)
async def test_without_a_session_the_latest_identify_says_what_is_wanted(box: Box) -> None:
    async with box.gateway(bits=intents.GUILDS | intents.GUILD_MESSAGES):
        pass
    await eventually(lambda: not box.state.hub.sessions)
    assert (await box.play("presence")).json["unwanted"] == 1
    assert (await box.play("message")).json["sent"] == 1
    report = await box.audit()
    assert (report["events_sent"], report["events_unwanted"]) == (1, 1)
