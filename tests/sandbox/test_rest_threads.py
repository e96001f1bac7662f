from __future__ import annotations

from tests.support.sandbox_client import Box, in_sandbox


@in_sandbox()
async def test_a_thread_from_its_start_to_its_end(box: Box) -> None:
    assert box.guild is not None
    guild = str(box.guild.id)
    async with box.gateway() as client:
        made = await box.call("POST", f"/channels/{box.channel}/threads", {"name": "t", "type": 11})
        assert made.status == 201
        thread = made.json["id"]
        event = await client.until("THREAD_CREATE")
        assert (event["id"], event["guild_id"], event["newly_created"]) == (thread, guild, True)
        assert event["parent_id"] == str(box.channel)
        path = f"/channels/{thread}"
        assert (await box.call("POST", path + "/messages", {"content": "hi"})).status == 200
        assert (await client.until("MESSAGE_CREATE"))["channel_id"] == thread
        assert (await box.call("PUT", path + "/thread-members/@me")).status == 204
        active = (await box.call("GET", f"/guilds/{guild}/threads/active")).json["threads"]
        assert [found["id"] for found in active] == [thread]
        listed = (await box.call("GET", f"/guilds/{guild}/channels")).json
        assert thread not in [channel["id"] for channel in listed]
        archived = await box.call("PATCH", path, {"archived": True, "name": "old"})
        assert (archived.json["name"], archived.json["thread_metadata"]["archived"]) == (
            "old",
            True,
        )
        assert (await client.until("THREAD_UPDATE"))["name"] == "old"
        assert (await box.call("GET", f"/guilds/{guild}/threads/active")).json["threads"] == []
        assert (await box.call("DELETE", path)).status == 200
        assert (await client.until("THREAD_DELETE"))["id"] == thread
        assert (await box.call("GET", path)).fault == (404, 10003)


@in_sandbox()
async def test_a_thread_under_a_message_has_its_id_and_is_the_only_one(box: Box) -> None:
    messages = f"/channels/{box.channel}/messages"
    message = (await box.call("POST", messages, {"content": "x"})).json["id"]
    path = f"{messages}/{message}/threads"
    assert (await box.call("POST", path, {"name": "t"})).json["id"] == message
    assert (await box.call("POST", path, {"name": "t"})).fault == (400, 160004)
    assert (await box.call("POST", f"/channels/{message}/threads", {"name": "t"})).status == 400
    async with box.gateway():
        assert box.guild is not None
        assert [t["id"] for t in box.guild.payload()["threads"]] == [message]
    assert (await box.call("DELETE", f"/channels/{box.channel}")).status == 200
    assert (await box.call("GET", f"/channels/{message}")).fault == (404, 10003)
