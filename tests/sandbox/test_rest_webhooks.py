"""Interactions over real HTTP: deadline, single acknowledgement, followups, planted faults."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.sandbox_client import Box, GatewayClient, in_sandbox

COMMANDS = [{"name": "ping", "description": "Answers."}]
BUTTONS = [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x", "custom_id": "b:1"}]}]


class Bot:
    """Answers as told, straight over REST."""

    def __init__(self, box: Box, client: GatewayClient) -> None:
        self.box = box
        self.client = client

    async def command(self) -> dict[str, Any]:
        path = f"/applications/{self.box.app}/commands"
        if not (await self.box.call("GET", path)).json:
            await self.box.call("PUT", path, COMMANDS)
        assert (await self.box.play("slash")).json["sent"] == 1
        return await self.client.until("INTERACTION_CREATE")

    async def answer(self, interaction: dict[str, Any], kind: int, query: str = "", **data: Any):
        path = f"/interactions/{interaction['id']}/{interaction['token']}/callback{query}"
        return await self.box.call("POST", path, {"type": kind, "data": data}, token="none")

    def hook(self, interaction: dict[str, Any], rest: str = "") -> str:
        return f"/webhooks/{self.box.app}/{interaction['token']}{rest}"


@in_sandbox()
async def test_an_answer_is_a_message(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        assert interaction["data"]["name"] == "ping"
        assert (await bot.answer(interaction, 4, content="pong")).status == 204
        told = await client.until("MESSAGE_CREATE")
        assert (told["content"], told["type"]) == ("pong", 20)
        assert told["interaction_metadata"]["id"] == interaction["id"]
        original = (await box.call("GET", bot.hook(interaction, "/messages/@original"))).json
        assert original["id"] == told["id"]
    report = await box.audit()
    assert (report["interactions_sent"], report["answered_once"]) == (1, 1)


@in_sandbox()
async def test_with_response(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        answer = await bot.answer(await bot.command(), 4, "?with_response=true", content="pong")
    assert answer.status == 200
    assert answer.json["interaction"]["response_message_ephemeral"] is False
    assert answer.json["resource"]["message"]["content"] == "pong"


@in_sandbox()
async def test_planted_second_answer(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        await bot.answer(interaction, 4, content="pong")
        again = await bot.answer(interaction, 4, content="pong")
    assert again.fault == (400, 40060)
    report = await box.audit()
    assert (report["answered_once"], report["answered_twice"]) == (0, 1)


@in_sandbox(interaction_deadline_s=0.05)
async def test_planted_late_and_missing_answers(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        late, silent = await bot.command(), await bot.command()
        assert silent
        await asyncio.sleep(0.06)
        assert (await bot.answer(late, 4, content="pong")).fault == (404, 10062)
        assert (await box.call("GET", bot.hook(late, "/messages/@original"))).status == 404
    report = await box.audit()
    assert (report["answered_late"], report["answered_never"]) == (1, 1)
    assert (report["answered_once"], report["interactions_pending"]) == (0, 0)


@in_sandbox()
async def test_unknown_interactions(box: Box) -> None:
    assert (await box.call("POST", "/interactions/1/x/callback", {"type": 4})).fault == (
        404,
        10062,
    )
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        wrong = dict(interaction, id="123456789012345678")
        assert (await bot.answer(wrong, 4, content="x")).fault == (404, 10062)
    assert (await box.audit())["answered_once"] == 0


@in_sandbox()
async def test_a_bad_answer_does_not_count(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        assert (await bot.answer(interaction, 4)).fault == (400, 50006)
        assert (await bot.answer(interaction, 7, content="x")).fault == (400, 50035)
        assert (await bot.answer(interaction, 99)).fault == (400, 50035)
        assert (await bot.answer(interaction, 4, content="x")).status == 204
    assert (await box.audit())["answered_once"] == 1


@in_sandbox()
async def test_deferred_reply_is_owed_until_it_comes(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        await bot.answer(interaction, 5)
        assert (await client.until("MESSAGE_CREATE"))["flags"] & 128
        assert (await box.audit())["interactions_deferred_open"] == 1
        path = bot.hook(interaction, "/messages/@original")
        edited = (await box.call("PATCH", path, {"content": "done"})).json
        assert (edited["content"], edited["flags"]) == ("done", 0)
        assert (await client.until("MESSAGE_UPDATE"))["content"] == "done"
    report = await box.audit()
    assert (report["answered_once"], report["interactions_deferred_open"]) == (1, 0)


@in_sandbox()
async def test_first_followup_completes_a_deferral_and_more_are_messages(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        await bot.answer(interaction, 5)
        loading = await client.until("MESSAGE_CREATE")
        first = (await box.call("POST", bot.hook(interaction), {"content": "1"})).json
        second = (await box.call("POST", bot.hook(interaction), {"content": "2"})).json
        assert first["id"] == loading["id"] != second["id"]
        one = bot.hook(interaction, f"/messages/{second['id']}")
        assert (await box.call("PATCH", one, {"content": "two"})).json["content"] == "two"
        assert (await box.call("GET", one)).json["content"] == "two"
        assert (await box.call("DELETE", one)).status == 204
        assert (await box.call("GET", one)).fault == (404, 10008)
        original = bot.hook(interaction, "/messages/@original")
        assert (await box.call("DELETE", original)).status == 204
        assert (await box.call("GET", original)).fault == (404, 10008)


@in_sandbox()
async def test_ephemeral_answers_are_told_to_nobody(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        await bot.answer(interaction, 4, content="secret", flags=64)
        path = bot.hook(interaction, "/messages/@original")
        hidden = (await box.call("GET", path)).json
        assert hidden["flags"] & 64
        channel = interaction["channel_id"]
        assert (await box.call("GET", f"/channels/{channel}/messages")).json == []
        path = f"/channels/{channel}/messages/{hidden['id']}"
        assert (await box.call("GET", path)).fault == (404, 10008)
        await bot.command()
        assert [event for event, _ in client.events] == ["INTERACTION_CREATE"] * 2


@in_sandbox(interaction_token_ttl_s=0.05, interaction_deadline_s=0.04)
async def test_a_token_ends(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        interaction = await bot.command()
        await bot.answer(interaction, 4, content="x")
        await asyncio.sleep(0.06)
        answer = await box.call("POST", bot.hook(interaction), {"content": "x"})
        assert answer.fault == (401, 50027)
    assert (await box.call("POST", f"/webhooks/{box.app}/nonsense", {})).fault == (404, 10015)


@in_sandbox()
async def test_buttons_update_their_message(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        assert (await box.play("button")).status == 409
        await bot.answer(await bot.command(), 4, content="press", components=BUTTONS)
        message = await client.until("MESSAGE_CREATE")
        assert (await box.play("button")).json["sent"] == 1
        press = await client.until("INTERACTION_CREATE")
        assert press["type"] == 3
        assert press["data"]["custom_id"] == "b:1"
        assert press["message"]["id"] == message["id"]
        answer = await bot.answer(press, 7, content="pressed", components=[])
        assert answer.status == 204
        assert (await client.until("MESSAGE_UPDATE"))["content"] == "pressed"
        path = bot.hook(press, "/messages/@original")
        assert (await box.call("GET", path)).json["id"] == message["id"]
        assert (await box.play("button")).status == 409
    assert (await box.audit())["answered_once"] == 2


@in_sandbox()
async def test_modal_and_deferred_update_acknowledge(box: Box) -> None:
    async with box.gateway() as client:
        bot = Bot(box, client)
        modal = await bot.command()
        empty = await bot.answer(modal, 9, custom_id="m", title="Title", components=[])
        assert empty.fault == (400, 50035)
        field = {"type": 4, "custom_id": "t", "style": 1, "label": "Text"}
        rows = [{"type": 1, "components": [field]}]
        answer = await bot.answer(modal, 9, custom_id="m", title="Title", components=rows)
        assert answer.status == 204
        await bot.answer(await bot.command(), 4, content="press", components=BUTTONS)
        await box.play("button")
        assert (await bot.answer(await client.until("INTERACTION_CREATE"), 6)).status == 204
    assert (await box.audit())["answered_once"] == 3
