"""GET /gateway/bot, asked in a thread: it waits in the network and computes nothing.

The token goes into the request's header and nowhere else: messages name the status alone.
"""

from __future__ import annotations

import http.client
import json
import queue
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from broker.core.events import GatewayFailed, GatewayInfo
from broker.ports.timed_http import Deadline, open_url
from shard_node.wire.limits import SHARDS_MAX

TIMEOUT_S: Final = 10.0
"""From the question to the end of the answer."""
ANSWER_MAX_BYTES: Final = 1 << 16
RETRY_AFTER_MAX_S: Final = 3600.0
USER_AGENT: Final = "DiscordBot (https://github.com/shardctl, 0.1)"
_TOKEN_HINT: Final = (
    "check DISCORD_TOKEN: Discord's developer portal, Bot, Reset Token gives a new one"
)

Answer = GatewayInfo | GatewayFailed


class GatewayPort:
    """One question at a time; ``wake`` is called when there is an answer."""

    def __init__(self, api_base: str, token: str, wake: Callable[[], None]) -> None:
        self._api_base = api_base
        self._token = token
        self._wake = wake
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Asks, unless a question is under way."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._run, name="gateway-info", daemon=True)
        self._thread.start()

    def answers(self) -> list[Answer]:
        """The answers that have come."""
        found: list[Answer] = []
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    def _run(self) -> None:
        self._answers.put(fetch(self._api_base, self._token))
        self._wake()


def fetch(api_base: str, token: str) -> Answer:
    """Asks once, TIMEOUT_S at most. Every failure comes back as a GatewayFailed."""
    with Deadline(TIMEOUT_S) as deadline:
        answer = _fetch(api_base, token, deadline)
    if deadline.is_passed and isinstance(answer, GatewayFailed):
        text = f"no whole answer in {TIMEOUT_S:g} s"
        return GatewayFailed("E_NETWORK", text, "check the network")
    return answer


def _fetch(api_base: str, token: str, deadline: Deadline) -> Answer:
    try:
        request = urllib.request.Request(
            f"{api_base}/gateway/bot",
            headers={"Authorization": f"Bot {token}", "User-Agent": USER_AGENT},
        )
        with open_url(request, deadline) as answer:
            return read_answer(answer.read(ANSWER_MAX_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error)
    except urllib.error.URLError as error:
        return GatewayFailed("E_NETWORK", _reason(error.reason), "check the network")
    except (OSError, http.client.HTTPException, ssl.SSLError) as error:
        return GatewayFailed("E_NETWORK", _reason(error), "check the network")
    except ValueError:
        # http.client refuses a header with a line break and prints it: the token.
        text = "the token cannot be sent: it holds characters that no token has"
        return GatewayFailed("E_TOKEN", text, _TOKEN_HINT, fatal=True)


def read_answer(data: bytes) -> Answer:
    """The body of a 200."""
    try:
        value = json.loads(data)
        limit = value["session_start_limit"]
        info = GatewayInfo(
            shards=int(value["shards"]),
            total=int(limit["total"]),
            remaining=int(limit["remaining"]),
            reset_after_s=float(limit["reset_after"]) / 1000,
            max_concurrency=int(limit.get("max_concurrency", 1)),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return GatewayFailed("E_ANSWER", "the answer is not what Discord documents")
    if not 1 <= info.shards <= SHARDS_MAX or info.max_concurrency < 1:
        return GatewayFailed("E_ANSWER", f"the answer recommends {info.shards} shards")
    return info


def _refused(error: urllib.error.HTTPError) -> GatewayFailed:
    if error.code in (401, 403):
        text = f"Discord refuses the token ({error.code})"
        return GatewayFailed("E_TOKEN", text, _TOKEN_HINT, fatal=True)
    return GatewayFailed(
        "E_RATE_LIMIT" if error.code == 429 else "E_HTTP",
        f"status {error.code}",
        retry_after_s=_retry_after_s(error.headers.get("Retry-After")),
    )


def _retry_after_s(value: Any) -> float:
    try:
        return min(RETRY_AFTER_MAX_S, max(0.0, float(value)))
    except (TypeError, ValueError):
        return 0.0


def _reason(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__ if isinstance(reason, Exception) else str(reason)
