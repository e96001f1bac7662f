"""The aiohttp shell of REST: token, limits, body, handler, answer, in that order."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import BodyPartReader, web

from shard_node.sandbox import faults
from shard_node.sandbox.buckets import Refusal, Scope, Standing
from shard_node.sandbox.config import API_PATH
from shard_node.sandbox.faults import ApiError
from shard_node.sandbox.rest.call import Call, Reply, Route, Upload
from shard_node.sandbox.state import SandboxState

JSON_MAX_BYTES: Final = 1 << 20
BODY_MAX_BYTES: Final = 10 << 20
"""Discord's default limit of an upload."""
FILES_MAX: Final = 10
_MAJORS: Final = ("channel", "guild", "token")
_CHUNK_BYTES: Final = 1 << 16
_LOG: Final = logging.getLogger(__name__)

Shell = Callable[[web.Request], Awaitable[web.Response]]


def endpoint(state: SandboxState, route: Route) -> web.RouteDef:
    """The aiohttp route of one row."""
    name = f"{route.method} {route.path}"

    async def serve(request: web.Request) -> web.Response:
        return await _serve(state, route, name, request)

    return web.route(route.method, API_PATH + route.path, serve)


def unknown(state: SandboxState) -> Shell:
    """Answers what no row serves: 404, or 50041 for another version of the API."""

    async def serve(request: web.Request) -> web.Response:
        ours = request.path.startswith(API_PATH + "/")
        fault = faults.NOT_FOUND if ours else faults.INVALID_API_VERSION
        state.audit.counters["rest_requests"] += 1
        return _finish(state, _error(ApiError(fault)))

    return serve


async def _serve(
    state: SandboxState, route: Route, name: str, request: web.Request
) -> web.Response:
    now = state.now()
    state.audit.counters["rest_requests"] += 1
    banned_s = state.memory.invalid.banned_for_s(now)
    if banned_s > 0:
        return _banned(state, banned_s)
    if route.needs_token and request.headers.get("Authorization") != f"Bot {state.world.token}":
        return _finish(state, _error(ApiError(faults.UNAUTHORIZED)))
    standing = _limits(state, route, name, request.match_info, now)
    if isinstance(standing, Refusal):
        return _refused(state, standing)
    try:
        response = _answer(route.handler(await _call(state, request, now)))
    except ApiError as error:
        response = _error(error)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        # A body of a shape that no check foresaw. The log tells a fault of ours from theirs.
        _LOG.warning("%s: a body that cannot be read", name, exc_info=True)
        response = _error(ApiError(faults.INVALID_FORM, {}))
    response.headers.update(standing.headers(state.clock.wall_ms() / 1000))
    return _finish(state, response)


def _limits(
    state: SandboxState, route: Route, name: str, params: Mapping[str, str], now: float
) -> Standing | Refusal:
    storm = state.take_storm(exempt=route.exempt)
    if storm is not None:
        return Refusal(Scope(storm.scope), storm.retry_after_s)
    if route.needs_token and not route.exempt:
        refusal = state.memory.global_limit.take(now)
        if refusal is not None:
            return refusal
    major = next((params[key] for key in _MAJORS if key in params), "")
    return state.memory.buckets.take(name, major, now)


# -- Reading


async def _call(state: SandboxState, request: web.Request, now: float) -> Call:
    call = Call(
        state=state,
        params=request.match_info,
        query=request.query,
        now=now,
        reason=request.headers.get("X-Audit-Log-Reason"),
    )
    if not request.can_read_body:
        return call
    if request.content_type.startswith("multipart/"):
        await _read_multipart(request, call)
    else:
        call.body = _json(await _read(request.content.iter_chunked(_CHUNK_BYTES)))
    # The time of arrival, after the body has come: the 3 s are counted at the server.
    call.now = state.now()
    return call


async def _read(chunks: Any) -> bytes:
    read = bytearray()
    async for chunk in chunks:
        read += chunk
        if len(read) > JSON_MAX_BYTES:
            raise ApiError(faults.TOO_LARGE)
    return bytes(read)


async def _read_multipart(request: web.Request, call: Call) -> None:
    form: dict[str, Any] = {}
    left_bytes = BODY_MAX_BYTES
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise ApiError(faults.INVALID_FORM, {})
        content = bytearray()
        size_bytes = 0
        keep = part.filename is None
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            size_bytes += len(chunk)
            left_bytes -= len(chunk)
            if left_bytes < 0:
                raise ApiError(faults.TOO_LARGE)
            if keep:
                content += chunk
        if keep:
            form[part.name or ""] = content.decode(errors="replace")
        else:
            call.files.append(_upload(part, size_bytes))
    if len(call.files) > FILES_MAX:
        raise ApiError(faults.INVALID_FORM, {})
    payload = form.pop("payload_json", None)
    call.body = form if payload is None else _json(payload.encode())


def _upload(part: BodyPartReader, size_bytes: int) -> Upload:
    content_type = part.headers.get("Content-Type", "application/octet-stream")
    return Upload(part.name or "", part.filename or "file", content_type, size_bytes)


def _json(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise ApiError(faults.INVALID_JSON) from None


# -- Answering


def _answer(result: Any) -> web.Response:
    if result is None:
        return web.Response(status=204)
    if not isinstance(result, Reply):
        return _json_response(200, result)
    if result.json is None:
        return web.Response(status=result.status)
    return _json_response(result.status, result.json)


def _json_response(status: int, body: Any) -> web.Response:
    # Exactly application/json: libraries compare the whole header.
    raw = json.dumps(body, separators=(",", ":")).encode()
    return web.Response(status=status, body=raw, headers={"Content-Type": "application/json"})


def _error(error: ApiError) -> web.Response:
    return _json_response(error.fault.status, error.body())


def _refused(state: SandboxState, refusal: Refusal) -> web.Response:
    state.audit.counters["rest_429"] += 1
    state.audit.counters["rest_global_429"] += refusal.scope is Scope.GLOBAL
    response = _json_response(429, refusal.body())
    response.headers.update(refusal.headers(state.clock.wall_ms() / 1000))
    return _finish(state, response, refusal.scope)


def _banned(state: SandboxState, left_s: float) -> web.Response:
    """Cloudflare's answer: no Discord headers, no ``Via``, no JSON."""
    state.audit.counters["rest_429"] += 1
    state.audit.counters["rest_banned"] += 1
    headers = {"Retry-After": str(int(left_s) + 1)}
    return web.Response(status=429, text="error code: 1015", headers=headers)


def _finish(
    state: SandboxState, response: web.Response, scope: Scope | None = None
) -> web.Response:
    invalid = state.memory.invalid
    if invalid.counts(response.status, scope):
        state.audit.counters["invalid_requests"] += 1
        invalid.add(state.now())
    return response
