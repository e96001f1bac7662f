"""Autocompletion, selects and modals, played to a bot that answers over real HTTP."""

from __future__ import annotations

from typing import Any

from tests.support.sandbox_client import Answer, Box, GatewayClient, in_sandbox

OPTIONS = [
    {"type": 3, "name": "word", "description": "d", "required": True, "autocomplete": True},
    {"type": 3, "name": "other", "description": "d"},
]
COMMANDS = [
    {"name": "plain", "description": "d"},
    {
        "name": "find",
        "description": "d",
        "options": [
            {"type": 1, "name": "nothing", "description": "d"},
            {"type": 1, "name": "it", "description": "d", "options": OPTIONS},
        ],
    },
]
CHOICES = [{"label": name, "value": name} for name in ("red", "green", "blue")]


def select(custom_id: str, kind: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "custom_id": custom_id, **more}


SELECTS = [
    {"type": 1, "components": [select("colour", 3, options=CHOICES, min_values=2)]},
    {"type": 1, "components": [select("user", 5)]},
    {"type": 1, "components": [select("role", 6)]},
    {"type": 1, "components": [select("place", 8, channel_types=[2])]},
    {"type": 1, "components": [select("off", 3, options=CHOICES, disabled=True)]},
]
MODAL = [
    {"type": 10, "content": "Tell us."},
    {"type": 18, "label": "L", "component": {"type": 4, "custom_id": "why", "min_length": 9}},
    {"type": 18, "label": "L", "component": select("colour", 3, options=CHOICES)},
    {"type": 1, "components": [{"type": 4, "custom_id": "old", "label": "L", "style": 1}]},
]


async def reply(box: Box, interaction: dict[str, Any], kind: int, **data: Any) -> Answer:
    path = f"/interactions/{interaction['id']}/{interaction['token']}/callback"
    return await box.call("POST", path, {"type": kind, "data": data})


async def command(box: Box, client: GatewayClient, kind: str = "slash", **args: Any) -> Any:
    path = f"/applications/{box.app}/commands"
    if not box.state.memory.registry.commands(None):
        assert (await box.call("PUT", path, COMMANDS)).status == 200
    assert (await box.play(kind, **args)).status == 200
    return await client.until("INTERACTION_CREATE")


@in_sandbox()
async def test_autocomplete_focuses_an_option_and_takes_choices(box: Box) -> None:
    async with box.gateway() as client:
        asked = await command(box, client, "autocomplete", options={"word": "am"})
        assert (asked["type"], asked["data"]["name"]) == (4, "find")
        (sub,) = asked["data"]["options"]
        assert sub["name"] == "it"
        assert sub["options"] == [{"name": "word", "type": 3, "value": "am", "focused": True}]
        assert (await reply(box, asked, 4, content="no")).fault == (400, 50035)
        choices = [{"name": "amber", "value": "amber"}]
        assert (await reply(box, asked, 8, choices=choices)).status == 204
        assert (await box.play("autocomplete", name="plain")).status == 409
    assert (await box.audit())["answered_once"] == 1


@in_sandbox()
async def test_selects_give_valid_values(box: Box) -> None:
    assert box.guild is not None
    async with box.gateway() as client:
        assert (await box.play("select")).status == 409
        shown = await command(box, client, name="plain")
        assert (await reply(box, shown, 4, content="pick", components=SELECTS)).status == 204
        for custom_id, kind, there in (
            ("user", "users", box.guild.members),
            ("role", "roles", box.guild.roles),
            ("place", "channels", box.guild.channels),
        ):
            data = (await command(box, client, "select", custom_id=custom_id))["data"]
            (value,) = data["values"]
            assert int(value) in there
            assert set(data["resolved"][kind]) == {value}
        picked = await command(box, client, "select", custom_id="colour")
        assert picked["type"] == 3
        assert (picked["data"]["component_type"], picked["data"]["values"]) == (3, ["red", "green"])
        given = await command(box, client, "select", custom_id="colour", values=["blue"])
        assert given["data"]["values"] == ["blue"]
        unknown = await box.play("select", custom_id="colour", values=["pink"])
        assert (unknown.status, unknown.json["hint"]) == (409, "there are: red, green, blue")
        assert (await box.play("select", custom_id="off")).status == 409
        assert (await reply(box, picked, 7, content="done", components=[])).status == 204


@in_sandbox()
async def test_a_modal_is_submitted_once_by_who_saw_it(box: Box) -> None:
    async with box.gateway() as client:
        assert (await box.play("modal")).status == 409
        opened = await command(box, client, name="plain")
        answer = await reply(box, opened, 9, custom_id="form:1", title="T", components=MODAL)
        assert answer.status == 204
        assert (await box.play("modal", custom_id="other")).status == 409
        options = {"colour": "green", "old": "text"}
        sent = await command(box, client, "modal", custom_id="form", options=options)
        assert (sent["type"], sent["data"]["custom_id"]) == (5, "form:1")
        assert sent["member"]["user"]["id"] == opened["member"]["user"]["id"]
        told, why, colour, old = sent["data"]["components"]
        assert told["type"] == 10
        assert len(why["component"]["value"]) >= 9
        assert colour["component"]["values"] == ["green"]
        assert old["components"][0]["value"] == "text"
        assert (await box.play("modal")).status == 409
        assert (await reply(box, sent, 9, custom_id="x", title="T", components=MODAL)).status == 400
        assert (await reply(box, sent, 4, content="thanks")).status == 204
    report = await box.audit()
    assert (report["interactions_sent"], report["answered_once"]) == (2, 2)
