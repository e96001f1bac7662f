"""Asks the broker: one DEALER socket, one request at a time, a deadline on each."""

from __future__ import annotations

import itertools
import os
import time
from types import TracebackType
from typing import Any, Final, Self

import zmq

from shard_node.wire import topics
from shard_node.wire.bodies import (
    DeadLettersRequest,
    ErrorBody,
    LettersChosen,
    LettersDone,
    RoutesRequest,
    StatusRequest,
    StopReply,
    StopRequest,
    WhereReply,
    WhereRequest,
)
from shard_node.wire.codec import WireError, decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import operator_id
from shard_node.wire.limits import DEAD_LETTERS_MAX, FRAME_MAX_BYTES
from shard_node.wire.targets import BROKER
from shardctl.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_TEMPFAIL, NoBroker, Refused
from shardctl.paths import FleetPaths, check_run_folder, known_fleets, running_names
from shardctl.running import supervisor_pid

TIMEOUT_S: Final = 5.0
LETTER_PAGES_MAX: Final = DEAD_LETTERS_MAX
"""More letters than there can be: new ones may come while the pages are read."""
_EXITS: Final = {
    "E_NOT_FOUND": EXIT_NOT_FOUND,
    "E_NOT_THERE": EXIT_NOT_FOUND,
    "E_NO_ACCOUNT": EXIT_NOT_FOUND,
    "E_NO_TX": EXIT_NOT_FOUND,
    "E_TIMEOUT": EXIT_TEMPFAIL,
    "E_BUSY": EXIT_TEMPFAIL,
    "E_STORE_FULL": EXIT_TEMPFAIL,
    "E_IDENTIFY_BUDGET": EXIT_TEMPFAIL,
    "E_GATEWAY_INFO": EXIT_TEMPFAIL,
    "E_MEMORY": EXIT_TEMPFAIL,
}
_counter = itertools.count(1)


class Client:
    """An operator's connection to one fleet's broker. Not for several threads.

    Raises NoBroker where the fleet does not run. Every call raises it without an answer in
    time, and Refused for an error answered.
    """

    def __init__(
        self, paths: FleetPaths, timeout_s: float = TIMEOUT_S, *, must_run: bool = True
    ) -> None:
        if must_run and not (paths.socket_file.exists() or paths.supervisor_file.exists()):
            raise no_broker(paths, f"the fleet {paths.fleet} does not run.")
        self._paths = paths
        self._timeout_s = timeout_s
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, FRAME_MAX_BYTES)
        self._socket.setsockopt(zmq.ROUTING_ID, operator_id(os.getpid(), next(_counter)))
        self._socket.connect(paths.endpoint)
        self._correlations = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        self._context.term()

    def status(self) -> dict[str, Any]:
        """What `status --json` prints, put together from its pages."""
        report: dict[str, Any] = self._request(topics.STATUS, StatusRequest(), dict)
        for page in range(1, int(report.pop("pages", 1))):
            more: dict[str, Any] = self._request(topics.STATUS, StatusRequest(page), dict)
            for key in ("nodes", "shards"):
                report[key] += more[key]
        return report

    def where(self, guild: int, what: str = "") -> WhereReply:
        """Who handles a guild; or who gets what is sent to ``what``, such as ``topic:NAME``."""
        reply: WhereReply = self._request(topics.WHERE, WhereRequest(guild, what), WhereReply)
        if reply.what != what:
            text = "this fleet's broker is of an older version and explains guilds only"
            raise Refused(f"{text}.", hint="shardctl stop, then shardctl start")
        return reply

    def routes(self) -> dict[str, Any]:
        """The routing table."""
        table: dict[str, Any] = self._request(topics.ROUTES, RoutesRequest(), dict)
        return table

    def dead_letters(self, after: int = 0) -> dict[str, Any]:
        """The dead letters with a number above ``after``, put together from their pages."""
        shown: dict[str, Any] = self._request(topics.DEAD_LETTERS, DeadLettersRequest(after), dict)
        page = shown
        for _ in range(LETTER_PAGES_MAX):
            if not page["more"] or not page["letters"]:
                break
            last = DeadLettersRequest(page["letters"][-1]["number"])
            page = self._request(topics.DEAD_LETTERS, last, dict)
            shown["letters"] += page["letters"]
        shown.pop("more")
        return shown

    def retry_letters(self, numbers: tuple[int, ...]) -> LettersDone:
        """Send dead letters again; no numbers: all of them."""
        done: LettersDone = self._request(
            topics.DEAD_LETTERS_RETRY, LettersChosen(numbers), LettersDone
        )
        return done

    def drop_letters(self, numbers: tuple[int, ...]) -> LettersDone:
        """Forget dead letters; no numbers: all of them."""
        done: LettersDone = self._request(
            topics.DEAD_LETTERS_DROP, LettersChosen(numbers), LettersDone
        )
        return done

    def stop(self, *, discard_sessions: bool) -> StopReply:
        """Begin to stop the fleet."""
        reply: StopReply = self._request(topics.STOP, StopRequest(discard_sessions), StopReply)
        return reply

    def ask(self, topic: str, body: Any) -> Any:
        """The reply to a request of the vocabulary, such as those of the state."""
        return self._request(
            topic, body, topics.TOPICS[topic].reply or topics.TOPICS[topic].up or dict
        )

    def _request(self, topic: str, body: Any, reply_type: type[Any]) -> Any:
        correlation = next(self._correlations)
        head = header(
            Kind.REQUEST,
            BROKER,
            topic,
            lane=topics.TOPICS[topic].lane,
            correlation=correlation,
            ttl_ms=int(self._timeout_s * 1000),
        )
        deadline = time.monotonic() + self._timeout_s
        self._socket.send_multipart([encode_header(head), encode_body(body)], flags=zmq.NOBLOCK)
        while True:
            kind, data = self._answer(correlation, deadline)
            if kind is Kind.ERROR:
                raise refused(decode_body(data, ErrorBody))
            if kind is Kind.REPLY:
                return decode_body(data, reply_type)

    def _answer(self, correlation: int, deadline: float) -> tuple[Kind | None, bytes]:
        """The next frame, if it answers ``correlation``. Raises NoBroker at the deadline."""
        rest_ms = int(max(0.0, deadline - time.monotonic()) * 1000)
        if not self._socket.poll(rest_ms, zmq.POLLIN):
            raise no_broker(
                self._paths,
                f"no answer in {self._timeout_s:g} s from the fleet {self._paths.fleet}.",
            )
        parts = self._socket.recv_multipart(flags=zmq.NOBLOCK)
        if len(parts) != 2:
            return None, b""
        try:
            head = decode_header(parts[0])
        except WireError:
            return None, b""
        return (head.kind, parts[1]) if head.correlation == correlation else (None, b"")


def refused(body: ErrorBody) -> Refused:
    """The broker's error in the words of the command line."""
    exists = body.details.get("exists")
    consequence = f"There are: {_listed(exists)}." if exists else ""
    if exists is not None and not exists:
        consequence = "There are none."
    return Refused(
        body.message,
        consequence=consequence,
        hint=body.hint,
        code=body.code,
        exit_code=_EXITS.get(body.code, EXIT_REFUSED),
    )


_LISTED_MAX: Final = 32


def _listed(values: Any) -> str:
    names = [str(value) for value in values] if isinstance(values, list | tuple) else [str(values)]
    more = f" and {len(names) - _LISTED_MAX} more" if len(names) > _LISTED_MAX else ""
    return ", ".join(names[:_LISTED_MAX]) + more


def _mute_broker(paths: FleetPaths, message: str, pid: int) -> NoBroker:
    return NoBroker(
        message,
        consequence=f"The fleet runs (supervisor pid {pid}), but its broker is silent.",
        hint=f"shardctl logs --broker --fleet {paths.fleet}\nshardctl stop --fleet {paths.fleet}",
    )


def no_broker(paths: FleetPaths, message: str) -> NoBroker:
    """Nobody answers; the likely causes, and what to type for each."""
    check_run_folder(paths)
    pid = supervisor_pid(paths)
    if pid is not None:
        return _mute_broker(paths, message, pid)
    others = [name for name in known_fleets() if name != paths.fleet]
    running = running_names(others)
    known = f"Other fleets that run here: {_listed(running)}." if running else ""
    return NoBroker(
        message,
        consequence=known,
        hint="not running -> `shardctl start`\nanother fleet -> `--fleet NAME`",
    )
