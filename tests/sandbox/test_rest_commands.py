from __future__ import annotations

from tests.support.sandbox_client import Box, in_sandbox

PING = {"name": "ping", "description": "Answers.", "type": 1}
ROLL = {"name": "roll", "description": "Rolls.", "options": [{"type": 4, "name": "n"}]}


@in_sandbox()
async def test_overwrite_keeps_ids_by_type_and_name(box: Box) -> None:
    path = f"/applications/{box.app}/commands"
    first = (await box.call("PUT", path, [PING, ROLL])).json
    assert [c["name"] for c in first] == ["ping", "roll"]
    second = (await box.call("PUT", path, [dict(ROLL, description="New.")])).json
    assert second[0]["id"] == first[1]["id"]
    assert second[0]["version"] != first[1]["version"]
    assert (await box.call("GET", f"{path}/{first[0]['id']}")).fault == (404, 10063)
    assert (await box.audit())["command_syncs"] == 2


@in_sandbox()
async def test_create_edit_delete(box: Box) -> None:
    path = f"/applications/{box.app}/commands"
    made = await box.call("POST", path, PING)
    again = await box.call("POST", path, PING)
    assert (made.status, again.status) == (201, 200)
    assert made.json["id"] == again.json["id"]
    one = f"{path}/{made.json['id']}"
    assert (await box.call("PATCH", one, {"description": "Other."})).json["name"] == "ping"
    assert (await box.call("GET", one)).json["description"] == "Other."
    assert (await box.call("DELETE", one)).status == 204
    assert (await box.call("DELETE", one)).fault == (404, 10063)


@in_sandbox()
async def test_commands_of_a_guild_are_apart(box: Box) -> None:
    assert box.guild is not None
    path = f"/applications/{box.app}/guilds/{box.guild.id}/commands"
    made = (await box.call("PUT", path, [PING])).json
    assert made[0]["guild_id"] == str(box.guild.id)
    assert (await box.call("GET", f"/applications/{box.app}/commands")).json == []
    assert (await box.call("GET", path + "/permissions")).json == []
    permissions = await box.call("GET", f"{path}/{made[0]['id']}/permissions")
    assert permissions.fault == (404, 10066)
    assert (await box.call("GET", f"/applications/{box.app}/guilds/1/commands")).fault == (
        404,
        10004,
    )


@in_sandbox()
async def test_localizations_on_demand(box: Box) -> None:
    path = f"/applications/{box.app}/commands"
    await box.call("PUT", path, [dict(PING, name_localizations={"de": "pingen"})])
    plain = (await box.call("GET", path)).json[0]
    full = (await box.call("GET", path + "?with_localizations=true")).json[0]
    assert "name_localizations" not in plain
    assert full["name_localizations"] == {"de": "pingen"}


@in_sandbox()
async def test_what_discord_would_not_take(box: Box) -> None:
    path = f"/applications/{box.app}/commands"
    many = [dict(PING, name=f"c{n}") for n in range(101)]
    assert (await box.call("PUT", path, many)).fault == (400, 30032)
    bad: list[object] = [
        {},
        [3],
        [dict(PING, name="Has Space")],
        [dict(PING, description="")],
        [PING, PING],
    ]
    for body in bad[1:]:
        assert (await box.call("PUT", path, body)).fault == (400, 50035)
    foreign = await box.call("GET", "/applications/1/commands")
    assert foreign.fault == (403, 50001)
