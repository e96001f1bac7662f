"""How `shardctl sandbox` finds a sandbox and asks it: JSON over HTTP, standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import click

from shardctl.cli.common import chosen_fleet
from shardctl.errors import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    ShardctlError,
)

TIMEOUT_S: Final = 30.0
"""Listing 100,000 guilds takes seconds; everything else milliseconds."""
EXISTS_SHOWN_MAX: Final = 20
_CONTROL: Final = "/sandbox"
_HTTP_CODES: Final = {
    400: ("E_USAGE", EXIT_USAGE),
    404: ("E_NOT_FOUND", EXIT_NOT_FOUND),
    409: ("E_UNPLAYABLE", EXIT_FAILED),
}


class SandboxLink:
    """The control surface of one sandbox."""

    def __init__(self, control_url: str, where: str) -> None:
        self._url = control_url
        self._where = where
        # No proxy of the environment stands between two processes of one machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        """The decoded answer of a GET. Raises ShardctlError."""
        return self._ask(urllib.request.Request(self._url + path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The decoded answer of a POST. Raises ShardctlError."""
        raw = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(self._url + path, raw, headers))

    def delete(self, path: str) -> Any:
        """The decoded answer of a DELETE. Raises ShardctlError."""
        return self._ask(urllib.request.Request(self._url + path, method="DELETE"))

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read()) from None
        except (OSError, ValueError) as error:
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> ShardctlError:
        reason = getattr(error, "reason", error)
        return ShardctlError(
            f"no sandbox answers at {self._url}: {reason}.",
            consequence=f"The address comes from {self._where}. Nothing was done.",
            hint="shardctl start --sandbox\nshardctl sandbox run    (alone, for any bot)",
            code="E_NO_SANDBOX",
            exit_code=EXIT_UNAVAILABLE,
        )


def _refused(status: int, raw: bytes) -> ShardctlError:
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    code, exit_code = _HTTP_CODES.get(status, ("E_SANDBOX", EXIT_FAILED))
    return ShardctlError(
        str(answer.get("message", f"the sandbox answered {status}")) + ".",
        consequence=_existing(answer.get("exists")),
        hint=str(answer.get("hint", "")),
        code=code,
        exit_code=exit_code,
    )


def _existing(exists: Any) -> str:
    if not isinstance(exists, list):
        return ""
    shown = [_named(item) for item in exists[:EXISTS_SHOWN_MAX]]
    more = len(exists) - len(shown)
    text = ", ".join(shown) or "none"
    return f"there are: {text}" + (f" and {more} more" if more else "")


def _named(item: Any) -> str:
    if isinstance(item, dict) and "shard" in item:
        return f"shard {item['shard']} of {item.get('num_shards', '?')}"
    return str(item)


def find_sandbox(url: str | None, fleet: str | None) -> SandboxLink:
    """The sandbox of ``--url``, else of the fleet. Raises ShardctlError (exit 69)."""
    if url is not None:
        return SandboxLink(_control_url(url), "--url (SHARDCTL_SANDBOX_URL)")
    paths = chosen_fleet(fleet)
    try:
        info = json.loads(paths.sandbox_file.read_text())
        return SandboxLink(info["control_url"], str(paths.sandbox_file))
    except (OSError, ValueError, KeyError, TypeError):
        raise _absent(paths.fleet, paths.sandbox_file) from None


def _control_url(url: str) -> str:
    base = url.rstrip("/")
    if "://" not in base:
        base = f"http://{base}"
    if not base.startswith(("http://", "https://")):
        raise click.UsageError(f"{url!r} is no http address, such as http://127.0.0.1:8080")
    return base if base.endswith(_CONTROL) else base + _CONTROL


def _absent(fleet: str, file: Path) -> ShardctlError:
    return ShardctlError(
        f"fleet {fleet} has no sandbox.",
        consequence=f"There is no {file}: the fleet is not running, or it runs on Discord.",
        hint="shardctl start --sandbox\n"
        "another fleet: --fleet NAME; one started alone: --url http://127.0.0.1:PORT",
        code="E_NO_SANDBOX",
        exit_code=EXIT_UNAVAILABLE,
    )
