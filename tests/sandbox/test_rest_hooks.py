from __future__ import annotations

from typing import Any

from shard_node.sandbox.rest.hooks import OF_CHANNEL_MAX
from tests.support.sandbox_client import Box, in_sandbox


async def made(box: Box, name: str = "hook") -> dict[str, Any]:
    answer = await box.call("POST", f"/channels/{box.channel}/webhooks", {"name": name})
    assert answer.status == 200, answer.json
    return answer.json


@in_sandbox()
async def test_a_webhook_speaks_in_its_own_name(box: Box) -> None:
    async with box.gateway() as client:
        hook = await made(box)
        assert (await client.until("WEBHOOKS_UPDATE"))["channel_id"] == str(box.channel)
        path = f"/webhooks/{hook['id']}/{hook['token']}"
        silent = await box.call("POST", path, {"content": "x"}, token="none")
        assert silent.status == 204
        body = {"content": "y", "username": "Other"}
        sent = await box.call("POST", path + "?wait=true", body, token="none")
        assert (sent.json["author"]["username"], sent.json["webhook_id"]) == ("Other", hook["id"])
        event = await client.until("MESSAGE_CREATE", 2)
        assert (event["id"], "member" in event) == (sent.json["id"], False)
        one = f"{path}/messages/{sent.json['id']}"
        assert (await box.call("PATCH", one, {"content": "z"})).json["content"] == "z"
        assert (await box.call("GET", one)).json["content"] == "z"
        assert (await box.call("DELETE", one)).status == 204
        assert (await box.call("GET", one)).fault == (404, 10008)
    assert (await box.audit())["messages_unasked"] == 0


@in_sandbox()
async def test_found_renamed_and_gone(box: Box) -> None:
    hook = await made(box)
    assert box.guild is not None
    bare, path = f"/webhooks/{hook['id']}", f"/webhooks/{hook['id']}/{hook['token']}"
    for listing in (f"/channels/{box.channel}/webhooks", f"/guilds/{box.guild.id}/webhooks"):
        assert [found["id"] for found in (await box.call("GET", listing)).json] == [hook["id"]]
    assert (await box.call("PATCH", bare, {"name": "new"})).json["name"] == "new"
    assert "user" not in (await box.call("GET", path, token="none")).json
    assert (await box.call("GET", bare, token="none")).status == 401
    assert (await box.call("POST", bare + "/wrong", {"content": "x"})).fault == (401, 50027)
    assert (await box.call("DELETE", bare)).status == 204
    assert (await box.call("GET", bare)).fault == (404, 10015)
    assert (await box.call("POST", path, {"content": "x"})).fault == (404, 10015)


@in_sandbox()
async def test_a_channel_has_only_so_many(box: Box) -> None:
    box.state.memory.hooks.update(
        {number: {"channel_id": str(box.channel)} for number in range(OF_CHANNEL_MAX)}
    )
    answer = await box.call("POST", f"/channels/{box.channel}/webhooks", {"name": "x"})
    assert answer.fault == (400, 30007)
