"""`make bench`: ours and the peers side by side, interleaved, medians, ratios.

Each run is a JSON line on stdout or in ``--out``; the table goes to stderr at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Final

from shardctl.bench.worker import WorkerFailed
from tests.bench.checks import CHECKS
from tests.bench.contenders.base import Server
from tests.bench.lines import LINES, Contender, Figures, Line
from tests.bench.own import Check
from tests.bench.state_lines import STATE_LINES
from tests.bench.table import Row, check_rows, line_rows, print_rows

REPEATS: Final = 5
QUICK_DIVISOR: Final = 20
QUICK_COUNT_MIN: Final = 640
ALL_LINES: Final = (*LINES, *STATE_LINES)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: few messages, once")
    parser.add_argument("--repeats", type=int, help=f"runs of each (default {REPEATS})")
    known = [line.key for line in ALL_LINES] + [check.key for check in CHECKS]
    parser.add_argument(
        "--only",
        default=",".join(known),
        help="of: %(default)s; `transfers` means each `transfers-...`",
    )
    parser.add_argument("--peers", default="", help="modules to run, e.g. nats_peer,ours_peer")
    parser.add_argument("--out", help="file for the JSON lines (default: stdout)")
    return parser.parse_args(argv)


class Servers:
    """Each contender's server, started when first needed; its address."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, str] = {}

    @contextlib.contextmanager
    def address(self, contender: Contender) -> Iterator[str]:
        """Of the server that lasts for the whole comparison, or of one for this run."""
        if contender.fresh:
            with _serving(contender) as address:
                yield address
            return
        if contender.module not in self._started:
            address = self._stack.enter_context(_serving(contender))
            self._started[contender.module] = address
        yield self._started[contender.module]


@contextlib.contextmanager
def _serving(contender: Contender) -> Iterator[str]:
    server: Server = contender.server()
    try:
        yield server.start()
    finally:
        server.stop()


def run_line(
    line: Line, servers: Servers, repeats: int, quick: bool, peers: set[str], say: Saying
) -> dict[Contender, list[Figures]]:
    """Round after round through the contenders; the figures of those that ran."""
    runs: dict[Contender, list[Figures]] = {}
    for repeat in range(repeats):
        for contender, full in line.counts.items():
            if peers and contender.module not in peers:
                continue
            count = max(QUICK_COUNT_MIN, full // QUICK_DIVISOR) if quick else full
            figures = _attempt(line, contender, servers, count, say)
            if figures is not None:
                runs.setdefault(contender, []).append(figures)
                say({"line": line.key, "contender": contender.name, "run": repeat, **figures})
    return runs


Saying = Callable[[dict[str, object]], None]


def _attempt(
    line: Line, contender: Contender, servers: Servers, count: int, say: Saying
) -> Figures | None:
    missing = contender.missing()
    try:
        if missing:
            raise WorkerFailed(f"not installed: {missing}")
        with servers.address(contender) as address:
            return line.run(contender, address, count)
    except (WorkerFailed, AssertionError) as error:
        say({"line": line.key, "contender": contender.name, "failed": str(error)})
        return None


def run_check(check: Check, repeats: int, quick: bool, say: Saying) -> list[Figures]:
    """Of ours alone; the figures of the runs that came to their end."""
    runs = []
    for repeat in range(repeats):
        try:
            figures = check.run(quick)
        except (WorkerFailed, AssertionError) as error:
            say({"line": check.key, "failed": str(error)})
            continue
        runs.append(figures)
        say({"line": check.key, "run": repeat, **figures})
    return runs


def wanted(key: str, only: set[str]) -> bool:
    """Whether a line is named, or its family, which is what stands before the "-"."""
    return not only.isdisjoint((key, key.partition("-")[0]))


def rows(options: argparse.Namespace, say: Saying) -> Iterator[Row]:
    """Runs what is wanted."""
    only = set(options.only.split(","))
    peers = set(filter(None, options.peers.split(",")))
    repeats = options.repeats or (1 if options.quick else REPEATS)
    with contextlib.ExitStack() as stack:
        servers = Servers(stack)
        for line in ALL_LINES:
            if wanted(line.key, only):
                result = run_line(line, servers, repeats, options.quick, peers, say)
                yield from line_rows(line, result)
    for check in CHECKS:
        if check.key in only and (not peers or "ours_peer" in peers):
            yield from check_rows(check, run_check(check, repeats, options.quick, say))


def main(argv: Sequence[str] | None = None) -> int:
    """0 when everything that was measured reaches its mark, else 1."""
    options = arguments(argv)
    with contextlib.ExitStack() as stack:
        out: IO[str] = sys.stdout
        if options.out:
            out = stack.enter_context(open(options.out, "a"))  # noqa: PTH123

        def say(value: dict[str, object]) -> None:
            out.write(json.dumps({"at": round(time.time(), 1), **value}) + "\n")
            out.flush()

        table = list(rows(options, say))
    print_rows(table)
    return 0 if all(row.reached in (None, True) for row in table) else 1


if __name__ == "__main__":
    raise SystemExit(main())
