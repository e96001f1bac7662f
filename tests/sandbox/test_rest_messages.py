from __future__ import annotations

import json

import aiohttp

from tests.support.sandbox_client import Box, in_sandbox


async def sent(box: Box, **body: object) -> dict:
    answer = await box.call("POST", f"/channels/{box.channel}/messages", body)
    assert answer.status == 200, answer.json
    return answer.json


@in_sandbox()
async def test_a_message_is_stored_and_told(box: Box) -> None:
    async with box.gateway() as client:
        message = await sent(box, content="hello", nonce="7", embeds=[{"title": "t"}])
        told = await client.until("MESSAGE_CREATE")
    assert told["id"] == message["id"]
    assert told["guild_id"] == str(box.guild.id)
    assert told["member"]["roles"]
    assert "guild_id" not in message
    assert (message["nonce"], message["author"]["id"]) == ("7", box.app)
    assert message["embeds"] == [{"type": "rich", "title": "t"}]
    path = f"/channels/{box.channel}/messages/{message['id']}"
    assert (await box.call("GET", path)).json == message
    channel = (await box.call("GET", f"/channels/{box.channel}")).json
    assert channel["last_message_id"] == message["id"]


@in_sandbox()
async def test_edit_and_delete_are_told(box: Box) -> None:
    async with box.gateway() as client:
        message = await sent(box, content="hello", embeds=[{"title": "t"}])
        path = f"/channels/{box.channel}/messages/{message['id']}"
        edited = (await box.call("PATCH", path, {"content": "bye"})).json
        assert (edited["content"], len(edited["embeds"])) == ("bye", 1)
        assert edited["edited_timestamp"]
        assert (await client.until("MESSAGE_UPDATE"))["content"] == "bye"
        nothing = {"content": None, "embeds": []}
        assert (await box.call("PATCH", path, nothing)).fault == (400, 50006)
        assert (await box.call("DELETE", path)).status == 204
        assert (await client.until("MESSAGE_DELETE"))["id"] == message["id"]
    assert (await box.call("GET", path)).fault == (404, 10008)


@in_sandbox()
async def test_empty_unknown_and_wrong_places(box: Box) -> None:
    path = f"/channels/{box.channel}/messages"
    assert (await box.call("POST", path, {"content": ""})).fault == (400, 50006)
    assert (await box.call("POST", path)).fault == (400, 50006)
    assert (await box.call("POST", "/channels/5/messages", {"content": "x"})).fault == (404, 10003)
    category = next(i for i, c in box.guild.channels.items() if c["type"] == 4)
    answer = await box.call("POST", f"/channels/{category}/messages", {"content": "x"})
    assert answer.fault == (400, 50008)


@in_sandbox()
async def test_replies(box: Box) -> None:
    first = await sent(box, content="one")
    reply = await sent(box, content="two", message_reference={"message_id": first["id"]})
    assert reply["type"] == 19
    assert reply["referenced_message"]["content"] == "one"
    path = f"/channels/{box.channel}/messages"
    lost = {"content": "x", "message_reference": {"message_id": "5"}}
    assert (await box.call("POST", path, lost)).fault == (400, 50035)
    lost["message_reference"]["fail_if_not_exists"] = False
    assert (await box.call("POST", path, lost)).json["type"] == 0


@in_sandbox()
async def test_enforced_nonce_sends_once(box: Box) -> None:
    first = await sent(box, content="x", nonce="n1", enforce_nonce=True)
    again = await sent(box, content="x", nonce="n1", enforce_nonce=True)
    other = await sent(box, content="x", nonce="n2", enforce_nonce=True)
    assert first["id"] == again["id"] != other["id"]


@in_sandbox()
async def test_pages(box: Box) -> None:
    ids = [(await sent(box, content=str(n)))["id"] for n in range(5)]

    async def page(query: str) -> list[str]:
        answer = await box.call("GET", f"/channels/{box.channel}/messages?{query}")
        return [message["content"] for message in answer.json]

    assert await page("limit=2") == ["4", "3"]
    assert await page(f"limit=2&before={ids[2]}") == ["1", "0"]
    assert await page(f"limit=2&after={ids[1]}") == ["3", "2"]
    assert await page(f"limit=2&around={ids[2]}") == ["3", "2"]
    answer = await box.call("GET", f"/channels/{box.channel}/messages?limit=101")
    assert answer.fault == (400, 50035)


@in_sandbox()
async def test_multipart(box: Box) -> None:
    form = aiohttp.FormData(quote_fields=False)
    payload = {"content": "see", "attachments": [{"id": 0, "description": "d"}]}
    form.add_field("payload_json", json.dumps(payload), content_type="application/json")
    form.add_field("files[0]", b"12345", filename="a.txt", content_type="text/plain")
    path = f"/channels/{box.channel}/messages"
    message = (await box.call("POST", path, data=form)).json
    (attachment,) = message["attachments"]
    assert message["content"] == "see"
    assert (attachment["filename"], attachment["size"]) == ("a.txt", 5)
    assert (attachment["description"], attachment["content_type"]) == ("d", "text/plain")
    cleared = {"attachments": [], "content": "none"}
    edited = await box.call("PATCH", f"{path}/{message['id']}", cleared)
    assert edited.json["attachments"] == []


@in_sandbox()
async def test_mentions(box: Box) -> None:
    message = await sent(box, content=f"<@{box.user}> <@1234567890123456> <@&{box.guild.id}>")
    assert [user["id"] for user in message["mentions"]] == [str(box.user)]
    assert message["mention_roles"] == [str(box.guild.id)]


@in_sandbox()
async def test_others_messages_cannot_be_edited(box: Box) -> None:
    await box.play("message")
    path = f"/channels/{box.channel}/messages"
    found = [
        (channel, message["id"])
        for channel in box.guild.text_channels()
        for message in (await box.call("GET", f"/channels/{channel}/messages")).json
    ]
    ((channel, message_id),) = found
    path = f"/channels/{channel}/messages/{message_id}"
    assert (await box.call("PATCH", path, {"content": "x"})).fault == (403, 50005)
    assert (await box.call("DELETE", path)).status == 204


@in_sandbox()
async def test_bulk_delete(box: Box) -> None:
    ids = [(await sent(box, content=str(n)))["id"] for n in range(3)]
    path = f"/channels/{box.channel}/messages"
    async with box.gateway() as client:
        answer = await box.call("POST", path + "/bulk-delete", {"messages": ids[:2] + ["5"]})
        assert answer.status == 204
        assert (await client.until("MESSAGE_DELETE_BULK"))["ids"] == ids[:2]
    assert [m["id"] for m in (await box.call("GET", path)).json] == ids[2:]


@in_sandbox()
async def test_typing(box: Box) -> None:
    async with box.gateway() as client:
        assert (await box.call("POST", f"/channels/{box.channel}/typing")).status == 204
        assert (await client.until("TYPING_START"))["user_id"] == box.app


@in_sandbox()
async def test_direct_messages_go_to_shard_zero(box: Box) -> None:
    body = {"recipient_id": str(box.user)}
    channel = (await box.call("POST", "/users/@me/channels", body)).json["id"]
    async with box.gateway(shard=(0, 2)) as client:
        await box.call("POST", f"/channels/{channel}/messages", {"content": "psst"})
        told = await client.until("MESSAGE_CREATE")
    assert (told["content"], "guild_id" in told) == ("psst", False)


@in_sandbox()
async def test_reactions(box: Box) -> None:
    message = await sent(box, content="react")
    base = f"/channels/{box.channel}/messages/{message['id']}/reactions"
    async with box.gateway() as client:
        assert (await box.call("PUT", f"{base}/👍/@me")).status == 204
        added = await client.until("MESSAGE_REACTION_ADD")
        assert (added["emoji"]["name"], added["user_id"]) == ("👍", box.app)
        users = (await box.call("GET", f"{base}/👍")).json
        assert [user["id"] for user in users] == [box.app]
        stored = (await box.call("GET", base.removesuffix("/reactions"))).json
        assert (stored["reactions"][0]["count"], stored["reactions"][0]["me"]) == (1, True)
        limited = await box.call("DELETE", f"{base}/👍/@me")
        if limited.status == 429:
            box.state.memory.buckets.__init__()
            limited = await box.call("DELETE", f"{base}/👍/@me")
        assert limited.status == 204
        await client.until("MESSAGE_REACTION_REMOVE")
    assert (await box.call("GET", f"{base}/👍")).fault == (404, 10014)
    assert (await box.call("GET", f"{base}/nonsense")).fault == (404, 10014)
