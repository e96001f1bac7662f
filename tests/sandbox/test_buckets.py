from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shard_node.sandbox import buckets
from shard_node.sandbox.buckets import (
    GlobalLimit,
    InvalidRequests,
    Refusal,
    RouteBuckets,
    Rule,
    Scope,
    Standing,
)

POST = "POST /channels/{channel}/messages"


def test_five_then_refused_until_the_window_ends() -> None:
    routes = RouteBuckets({POST: Rule("post", 5, 5.0)})
    remaining = [routes.take(POST, "1", 10.0 + n / 10) for n in range(5)]
    assert [s.remaining for s in remaining if isinstance(s, Standing)] == [4, 3, 2, 1, 0]
    refused = routes.take(POST, "1", 12.0)
    assert isinstance(refused, Refusal)
    assert refused.retry_after_s == 3.0
    assert isinstance(routes.take(POST, "1", 15.0), Standing)


def test_a_bucket_is_its_hash_and_the_top_level_id() -> None:
    routes = RouteBuckets({POST: Rule("post", 1, 5.0), "PUT /x": Rule("post", 1, 5.0)})
    assert isinstance(routes.take(POST, "1", 0.0), Standing)
    assert isinstance(routes.take(POST, "2", 0.0), Standing)
    assert isinstance(routes.take("PUT /x", "1", 0.0), Refusal)


def test_headers_state_the_window() -> None:
    standing = RouteBuckets().take(POST, "1", 0.0)
    assert isinstance(standing, Standing)
    headers = standing.headers(wall_s=1_700_000_000.0)
    assert headers["X-RateLimit-Limit"] == "5"
    assert headers["X-RateLimit-Remaining"] == "4"
    assert headers["X-RateLimit-Reset-After"] == "5.000"
    assert headers["X-RateLimit-Reset"] == "1700000005.000"
    assert len(headers["X-RateLimit-Bucket"]) == 32


def test_a_429_carries_via_scope_and_whole_seconds() -> None:
    refusal = Refusal(Scope.GLOBAL, 0.2504)
    headers = refusal.headers(0.0)
    assert headers["Via"]
    assert headers["Retry-After"] == "1"
    assert (headers["X-RateLimit-Scope"], headers["X-RateLimit-Global"]) == ("global", "true")
    assert refusal.body() == {
        "message": "You are being rate limited.",
        "retry_after": 0.251,
        "global": True,
    }


def test_an_unnamed_route_has_a_bucket_of_its_own() -> None:
    routes = RouteBuckets()
    assert routes.rule("GET /a").hash != routes.rule("GET /b").hash


def test_rules_with_one_name_are_one_rule() -> None:
    seen: dict[str, Rule] = {}
    for rule in buckets.RULES.values():
        assert seen.setdefault(rule.name, rule) == rule


def test_ended_windows_are_dropped() -> None:
    routes = RouteBuckets()
    for number in range(50_000):
        routes.take(POST, str(number), float(number))
    assert len(routes) <= buckets.BUCKETS_SWEPT_AT


@given(st.lists(st.floats(0, 20), max_size=80))
def test_no_window_ever_admits_more_than_its_limit(times: list[float]) -> None:
    routes, opened, used = RouteBuckets({POST: Rule("post", 5, 5.0)}), None, 0
    for now in sorted(times):
        if isinstance(routes.take(POST, "1", now), Refusal):
            continue
        if opened is None or now >= opened + 5.0:
            opened, used = now, 0
        used += 1
        assert used <= 5


def test_global_limit() -> None:
    limit = GlobalLimit(per_s=50)
    assert all(limit.take(5.0 + n / 100) is None for n in range(50))
    refused = limit.take(5.75)
    assert refused is not None
    assert (refused.scope, refused.retry_after_s) == (Scope.GLOBAL, 0.25)
    assert limit.take(6.0) is None


def test_ten_thousand_invalid_requests_bring_a_ban() -> None:
    invalid = InvalidRequests()
    assert not any(invalid.add(n / 100) for n in range(9_999))
    assert invalid.add(100.0)
    assert invalid.banned_for_s(100.0) == buckets.BAN_S
    assert invalid.banned_for_s(100.0 + buckets.BAN_S) == 0.0
    assert invalid.count(100.0) == 0


def test_invalid_requests_leave_the_window() -> None:
    invalid = InvalidRequests(max_count=100)
    for second in range(1_000):
        assert not invalid.add(float(second * 7))
    assert invalid.count(6_993.0) == 86
    assert len(invalid._slots) <= 600


def test_what_counts_as_invalid() -> None:
    counts = InvalidRequests.counts
    assert counts(401, None)
    assert counts(403, None)
    assert counts(429, Scope.USER)
    assert counts(429, Scope.GLOBAL)
    assert not counts(429, Scope.SHARED)
    assert not counts(404, None)
