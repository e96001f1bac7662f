"""429: buckets, the global limit, storms, the ban; over real HTTP."""

from __future__ import annotations

import asyncio

from tests.support.sandbox_client import Box, in_sandbox


@in_sandbox()
async def test_the_sixth_message_in_five_seconds_is_refused(box: Box) -> None:
    path = f"/channels/{box.channel}/messages"
    answers = [await box.call("POST", path, {"content": f"m{n}"}) for n in range(6)]
    assert [a.status for a in answers] == [200] * 5 + [429]
    remaining = [a.headers["X-RateLimit-Remaining"] for a in answers]
    assert remaining == ["4", "3", "2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.headers["Via"]
    assert refused.headers["X-RateLimit-Scope"] == "user"
    assert 0 < refused.json["retry_after"] <= 5
    assert refused.json["global"] is False
    assert int(refused.headers["Retry-After"]) >= refused.json["retry_after"]
    report = await box.audit()
    assert (report["rest_429"], report["invalid_requests"]) == (1, 1)


@in_sandbox()
async def test_another_channel_has_a_bucket_of_its_own(box: Box) -> None:
    assert box.guild is not None
    first, second = box.guild.text_channels()[:2]
    for _ in range(5):
        await box.call("POST", f"/channels/{first}/messages", {"content": "x"})
    answer = await box.call("POST", f"/channels/{second}/messages", {"content": "x"})
    assert answer.status == 200


@in_sandbox(rest_global_per_s=5)
async def test_global_limit_exempts_interactions_and_webhooks(box: Box) -> None:
    for _ in range(5):
        await box.call("GET", "/users/@me")
    refused = await box.call("GET", f"/channels/{box.channel}")
    assert refused.status == 429
    assert refused.json["global"] is True
    assert refused.headers["X-RateLimit-Global"] == "true"
    assert refused.headers["X-RateLimit-Scope"] == "global"
    assert (await box.call("POST", "/interactions/1/x/callback", {"type": 4})).status == 404
    assert (await box.call("POST", f"/webhooks/{box.app}/x", {"content": "x"})).status == 404
    assert (await box.audit())["rest_global_429"] == 1


@in_sandbox()
async def test_a_storm_of_429(box: Box) -> None:
    storm = {"kind": "storm_429", "count": 3, "retry_after_s": 0.5, "scope": "shared"}
    assert (await box.ask("POST", "/trouble", storm)).status == 200
    answers = [await box.call("GET", "/users/@me") for _ in range(4)]
    assert [a.status for a in answers] == [429, 429, 429, 200]
    assert answers[0].json["retry_after"] == 0.5
    assert answers[0].headers["X-RateLimit-Scope"] == "shared"
    report = await box.audit()
    assert (report["rest_429"], report["invalid_requests"]) == (3, 0)


@in_sandbox(invalid_requests_max=20)
async def test_too_many_invalid_requests_bring_cloudflares_ban(box: Box) -> None:
    answers = [await box.call("GET", "/users/@me", token="wrong") for _ in range(21)]
    assert {a.status for a in answers[:20]} == {401}
    banned = await box.call("GET", "/users/@me")
    assert banned.status == 429
    assert "Via" not in banned.headers
    assert banned.json is None
    assert int(banned.headers["Retry-After"]) > 0
    report = await box.audit()
    assert (report["invalid_requests"], report["rest_banned"]) == (20, 2)


@in_sandbox()
async def test_concurrent_requests_are_counted_exactly(box: Box) -> None:
    path = f"/channels/{box.channel}/messages"
    answers = await asyncio.gather(
        *(box.call("POST", path, {"content": str(n)}) for n in range(30))
    )
    assert sorted(a.status for a in answers) == [200] * 5 + [429] * 25


@in_sandbox()
async def test_a_global_storm_leaves_interactions_and_webhooks_alone(box: Box) -> None:
    storm = {"kind": "storm_429", "seconds": 60, "scope": "global"}
    assert (await box.ask("POST", "/trouble", storm)).status == 200
    assert (await box.call("GET", "/users/@me")).json["global"] is True
    assert (await box.call("POST", "/interactions/1/x/callback", {"type": 4})).status == 404


@in_sandbox()
async def test_a_number_too_large_for_anything_is_the_senders_fault(box: Box) -> None:
    path = f"/channels/{box.channel}/messages"
    answer = await box.call(
        "POST", path, data='{"content": "x", "flags": 1e999}', headers={"Content-Type": "text/json"}
    )
    assert answer.fault == (400, 50035)
