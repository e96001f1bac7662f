from __future__ import annotations

from tests.support.sandbox_client import Box, in_sandbox


@in_sandbox()
async def test_guild(box: Box) -> None:
    guild = (await box.call("GET", f"/guilds/{box.guild.id}?with_counts=true")).json
    assert guild["id"] == str(box.guild.id)
    assert guild["approximate_member_count"] == len(box.guild.members)
    assert (await box.call("GET", "/guilds/1")).fault == (404, 10004)
    async with box.gateway() as client:
        await box.call("PATCH", f"/guilds/{box.guild.id}", {"name": "new name"})
        assert (await client.until("GUILD_UPDATE"))["name"] == "new name"


@in_sandbox()
async def test_emojis(box: Box) -> None:
    emojis = (await box.call("GET", f"/guilds/{box.guild.id}/emojis")).json
    path = f"/guilds/{box.guild.id}/emojis/{emojis[0]['id']}"
    assert (await box.call("GET", path)).json == emojis[0]
    assert (await box.call("GET", f"/guilds/{box.guild.id}/emojis/1")).fault == (404, 10014)


@in_sandbox()
async def test_channels(box: Box) -> None:
    path = f"/guilds/{box.guild.id}/channels"
    async with box.gateway() as client:
        made = (await box.call("POST", path, {"name": "news", "type": 0})).json
        assert (await client.until("CHANNEL_CREATE"))["id"] == made["id"]
        one = f"/channels/{made['id']}"
        message = await box.call("POST", one + "/messages", {"content": "first"})
        assert message.status == 200
        await box.call("PATCH", one, {"name": "old-news", "topic": "t"})
        assert (await client.until("CHANNEL_UPDATE"))["name"] == "old-news"
        overwrite = {"type": 0, "allow": "1024", "deny": "0"}
        answer = await box.call("PUT", f"{one}/permissions/{box.guild.id}", overwrite)
        assert answer.status == 204
        assert len((await client.until("CHANNEL_UPDATE"))["permission_overwrites"]) == 1
        await box.call("DELETE", f"{one}/permissions/{box.guild.id}")
        assert (await client.until("CHANNEL_UPDATE"))["permission_overwrites"] == []
        assert made["id"] in [c["id"] for c in (await box.call("GET", path)).json]
        assert (await box.call("DELETE", one)).status == 200
        assert (await client.until("CHANNEL_DELETE"))["id"] == made["id"]
    assert (await box.call("GET", one)).fault == (404, 10003)
    assert (await box.call("POST", path, {"name": ""})).fault == (400, 50035)
    bad_parent = {"name": "x", "parent_id": str(box.channel)}
    assert (await box.call("POST", path, bad_parent)).fault == (400, 50035)


@in_sandbox()
async def test_members(box: Box) -> None:
    path = f"/guilds/{box.guild.id}/members"
    one = f"{path}/{box.user}"
    member = (await box.call("GET", one)).json
    assert member["user"]["id"] == str(box.user)
    everybody = (await box.call("GET", path + "?limit=1000")).json
    ids = [int(m["user"]["id"]) for m in everybody]
    assert ids == sorted(box.guild.members)
    after = (await box.call("GET", f"{path}?limit=1000&after={ids[0]}")).json
    assert len(after) == len(ids) - 1
    name = member["user"]["username"]
    found = (await box.call("GET", f"{path}/search?query={name}&limit=10")).json
    assert member in found
    absent = next(u for u in box.world.user_ids() if u not in box.guild.members)
    assert (await box.call("GET", f"{path}/{absent}")).fault == (404, 10007)
    assert (await box.call("GET", f"{path}/1")).fault == (404, 10013)


@in_sandbox()
async def test_member_changes_are_told(box: Box) -> None:
    user = box.user
    one = f"/guilds/{box.guild.id}/members/{user}"
    role = next(i for i, r in box.guild.roles.items() if i != box.guild.id and not r["managed"])
    async with box.gateway() as client:
        await box.call("PATCH", one, {"nick": "Nick"})
        assert (await client.until("GUILD_MEMBER_UPDATE"))["nick"] == "Nick"
        assert (await box.call("PUT", f"{one}/roles/{role}")).status == 204
        assert (await client.until("GUILD_MEMBER_UPDATE"))["roles"] == [str(role)]
        assert (await box.call("DELETE", f"{one}/roles/{role}")).status == 204
        assert (await client.until("GUILD_MEMBER_UPDATE"))["roles"] == []
        assert (await box.call("PUT", f"{one}/roles/1")).fault == (404, 10011)
        assert (await box.call("DELETE", one)).status == 204
        gone = await client.until("GUILD_MEMBER_REMOVE")
        assert gone["user"]["id"] == str(user)
    assert (await box.call("DELETE", one)).fault == (404, 10007)


@in_sandbox()
async def test_bans(box: Box) -> None:
    base, user = f"/guilds/{box.guild.id}/bans", box.user
    async with box.gateway() as client:
        reason = {"X-Audit-Log-Reason": "spam"}
        answer = await box.call("PUT", f"{base}/{user}", {}, headers=reason)
        assert answer.status == 204
        assert (await client.until("GUILD_BAN_ADD"))["user"]["id"] == str(user)
        await client.until("GUILD_MEMBER_REMOVE")
        assert (await box.call("GET", f"{base}/{user}")).json["reason"] == "spam"
        assert len((await box.call("GET", base)).json) == 1
        assert (await box.call("DELETE", f"{base}/{user}")).status == 204
        assert (await client.until("GUILD_BAN_REMOVE"))["user"]["id"] == str(user)
    assert (await box.call("DELETE", f"{base}/{user}")).fault == (404, 10026)
    assert (await box.call("PUT", f"{base}/{box.guild.owner_id}")).fault == (403, 50013)
    assert (await box.call("PUT", f"{base}/1")).fault == (404, 10013)


@in_sandbox()
async def test_roles(box: Box) -> None:
    path = f"/guilds/{box.guild.id}/roles"
    async with box.gateway() as client:
        made = (await box.call("POST", path, {"name": "vip", "color": 255})).json
        assert made["colors"]["primary_color"] == 255
        assert (await client.until("GUILD_ROLE_CREATE"))["role"]["id"] == made["id"]
        one = f"{path}/{made['id']}"
        await box.call("PATCH", one, {"name": "vips"})
        assert (await client.until("GUILD_ROLE_UPDATE"))["role"]["name"] == "vips"
        moved = await box.call("PATCH", path, [{"id": made["id"], "position": 2}])
        assert moved.status == 200
        assert (await client.until("GUILD_ROLE_UPDATE"))["role"]["position"] == 2
        await box.call("PUT", f"/guilds/{box.guild.id}/members/{box.user}/roles/{made['id']}")
        assert (await box.call("DELETE", one)).status == 204
        assert (await client.until("GUILD_ROLE_DELETE"))["role_id"] == made["id"]
    assert box.guild.members[box.user]["roles"] == []
    assert (await box.call("GET", one)).fault == (404, 10011)
    assert (await box.call("DELETE", f"{path}/{box.guild.id}")).fault == (400, 50028)
