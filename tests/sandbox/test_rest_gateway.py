"""Gateway addresses, users, applications, and what every route has in common."""

from __future__ import annotations

import io
import re

from tests.support.sandbox_client import Box, in_sandbox


@in_sandbox(shards=6, max_concurrency=3)
async def test_gateway_bot(box: Box) -> None:
    answer = (await box.call("GET", "/gateway/bot")).json
    assert answer["shards"] == 6
    assert answer["url"] == box.state.gateway_url
    limit = answer["session_start_limit"]
    assert (limit["total"], limit["remaining"], limit["max_concurrency"]) == (1000, 1000, 3)
    assert 0 < limit["reset_after"] <= 86_400_000


@in_sandbox()
async def test_gateway_needs_no_token(box: Box) -> None:
    assert (await box.call("GET", "/gateway", token="wrong")).status == 200


@in_sandbox()
async def test_a_bad_token_is_401_and_counted(box: Box) -> None:
    answer = await box.call("GET", "/users/@me", token="wrong")
    assert (answer.fault, answer.json["message"]) == ((401, 0), "401: Unauthorized")
    assert (await box.audit())["invalid_requests"] == 1


@in_sandbox()
async def test_content_type_is_exactly_application_json(box: Box) -> None:
    for path in ("/users/@me", "/channels/1", "/nothing"):
        assert (await box.call("GET", path)).headers["Content-Type"] == "application/json"


@in_sandbox()
async def test_unknown_routes_and_versions(box: Box) -> None:
    assert (await box.call("GET", "/nothing/here")).fault == (404, 0)
    url = box.state.rest_url.replace("v10", "v9") + "/users/@me"
    async with box.http.get(url) as response:
        assert (response.status, (await response.json())["code"]) == (400, 50041)


@in_sandbox()
async def test_users(box: Box) -> None:
    me = (await box.call("GET", "/users/@me")).json
    assert me["id"] == box.app
    assert me["bot"]
    user = (await box.call("GET", f"/users/{box.user}")).json
    assert user["id"] == str(box.user)
    assert (await box.call("GET", "/users/1")).fault == (404, 10013)
    assert (await box.call("GET", "/users/zero")).fault == (400, 50035)


@in_sandbox()
async def test_applications(box: Box) -> None:
    for path in ("/oauth2/applications/@me", "/applications/@me"):
        application = (await box.call("GET", path)).json
        assert application["id"] == box.app
        assert application["owner"]["id"]


@in_sandbox()
async def test_direct_channel(box: Box) -> None:
    body = {"recipient_id": str(box.user)}
    first = (await box.call("POST", "/users/@me/channels", body)).json
    again = (await box.call("POST", "/users/@me/channels", body)).json
    assert first == again
    assert (first["type"], first["recipients"][0]["id"]) == (1, str(box.user))
    assert (await box.call("GET", f"/channels/{first['id']}")).json == first
    answer = await box.call("POST", "/users/@me/channels", {"recipient_id": "1"})
    assert answer.fault == (404, 10013)


@in_sandbox(guilds=5)
async def test_own_guilds_by_page_and_leaving_one(box: Box) -> None:
    listed = (await box.call("GET", "/users/@me/guilds?limit=2")).json
    rest = (await box.call("GET", f"/users/@me/guilds?after={listed[-1]['id']}")).json
    assert len(listed + rest) == 5
    async with box.gateway() as client:
        gone = listed[0]["id"]
        assert (await box.call("DELETE", f"/users/@me/guilds/{gone}")).status == 204
        assert (await client.until("GUILD_DELETE"))["id"] == gone
    assert (await box.call("GET", f"/guilds/{gone}")).fault == (404, 10004)


@in_sandbox()
async def test_every_answer_states_its_bucket(box: Box) -> None:
    headers = (await box.call("GET", "/users/@me")).headers
    for name in ("Bucket", "Limit", "Remaining", "Reset", "Reset-After"):
        assert headers[f"X-RateLimit-{name}"]
    assert re.fullmatch(r"\d+\.\d{3}", headers["X-RateLimit-Reset"])


@in_sandbox()
async def test_broken_and_strange_bodies_are_400(box: Box) -> None:
    path = f"/channels/{box.channel}/messages"
    assert (await box.call("POST", path, data=b"{")).fault == (400, 50109)
    assert (await box.call("POST", path, [1])).fault == (400, 50035)
    assert (await box.call("POST", path, {"embeds": 3})).fault == (400, 50035)
    assert (await box.call("POST", path, {"content": "x", "flags": [1]})).fault == (400, 50035)
    assert (await box.call("POST", path, {"content": "x" * 2001})).fault == (400, 50035)


@in_sandbox()
async def test_a_body_over_the_limit_is_413(box: Box) -> None:
    path = f"/channels/{box.channel}/messages"
    body = io.BytesIO(b'"' + b"x" * (1 << 20) + b'"')
    answer = await box.call("POST", path, data=body)
    assert answer.fault == (413, 40005)


@in_sandbox()
async def test_cdn_draws_small_pictures(box: Box) -> None:
    root = box.state.rest_url.removesuffix("/api/v10")
    avatar = box.world.bot_user["avatar"]
    seen = set()
    for path in (
        f"/avatars/{box.app}/{avatar}.png?size=64",
        f"/cdn/avatars/{box.app}/{avatar}.png?size=64",
        "/emojis/123456789012345678.png",
        "/embed/avatars/3.png",
    ):
        async with box.http.get(root + path) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "image/png"
            seen.add(await response.read())
    assert len(seen) == 3
    assert all(picture.startswith(b"\x89PNG\r\n\x1a\n") for picture in seen)
    for path, status in ((f"/avatars/{box.app}/{'0' * 32}.png", 404), ("/emojis/1.gif", 415)):
        async with box.http.get(root + path) as response:
            assert response.status == status
