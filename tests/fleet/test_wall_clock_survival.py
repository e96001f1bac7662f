"""The wall clock jumps by 3 h, both ways, under a running broker and running programs: nothing
ends early, nothing is stuck.

Two fleets at once, one for each order of the jumps: what ends after a minute is waited for once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import wall
from tests.support.broker_rig import ROOT, WAIT_S, Rig
from tests.support.waiting import wait_for
from tests.support.wall_child import CLOCK_OF_WALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JUMP_S = 3 * 3600
SOON_S = 16
"""Long enough for both jumps and the broker's restart, on a busy machine."""
LOGGED_S = wall.LOGGED_OVER_S + 1
"""The shortest cooldown that is in the log."""
LONG_S = 2 * 3600
"""Over, if the clock's jump were time."""
LATE_S = 15
USERS = {"soon": 80351110224678912, "long": 80351110224678913}
TIERS = {"soon": "user:80351110224678912", "long": "guild:81384788765712384"}
COOLDOWNS = {"short": SOON_S, "logged": LOGGED_S, "long": LONG_S}
BROKER_OF_WALL = """
import time
from broker.core.logtime import LogClock
LogClock.at_ms = lambda clock, now: time.time_ns() // 10**6
"""


class Program:
    """A process of the fleet, which reads the state's file itself."""

    def __init__(self, rig: Rig, clock: Path, *fault: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.wall_child", rig.endpoint, str(clock), *fault],
            cwd=ROOT,
            env={"SHARDCTL_STATE_DIR": str(rig.data / "state"), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "serving\n"

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, args, kwargs]) + "\n")
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_S)
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()


class Fleet:
    """A broker and a program from the beginning; ``join`` adds one that starts later."""

    def __init__(self, folder: Path, stack: ExitStack, faults: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        self._stack, self._clock = stack, folder / "wall"
        wall.move(self._clock, 0)
        self.rig = stack.enter_context(Rig(folder))
        self.rig.prelude = wall.prelude(self._clock, wall.SOON_LOGGED, *faults)
        self.rig.launch()
        self.rig.hear("serving")
        self.programs: list[Program] = []
        self.began_at = 0.0
        self.crashed = False

    def join(self, *fault: str) -> None:
        program = Program(self.rig, self._clock, *fault)
        self._stack.callback(program.close)
        self.programs.append(program)

    def begin(self) -> None:
        """What has an end. Its time is counted from here by the clock that nobody moves."""
        self.began_at = time.monotonic()
        do = self.programs[0]
        for which, end_s in (("soon", SOON_S), ("long", LONG_S)):
            args = (USERS[which], "global", "spam")
            assert do("moderation.ban", *args, until_in_s=end_s)["id"]
            assert do("premium.grant", TIERS[which], "gold", until_in_s=end_s)["id"]
        for key, per_s in COOLDOWNS.items():
            assert "remaining" in do("cooldowns.acquire", key, 1, per_s)

    def jump(self, by_s: int) -> None:
        wall.move(self._clock, by_s)

    def restart(self) -> None:
        """The broker dies, and what it had in memory only."""
        self.rig.kill()
        self.rig.launch()
        self.rig.hear("serving")
        self.crashed = True
        for program in self.programs:
            wait_for("the broker", lambda p=program: program_is_up(p), WAIT_S)  # type: ignore[misc]

    def wrong(self, moment: str) -> list[str]:
        """What is over though it should not be, or has too long to go."""
        found = []
        for number, program in enumerate(self.programs):
            who = f"{moment}, program {number}"
            found += [f"{who}: {text}" for text in self._over(program)]
            found += [f"{who}: {text}" for text in self._waits(program)]
        return found

    def _over(self, program: Program) -> Iterator[str]:
        for which in ("soon", "long"):
            if which == "soon" and time.monotonic() > self.began_at + SOON_S - 1:
                continue  # the machine was too busy for this look
            if not program("moderation.is_banned", USERS[which]):
                yield f"the {which} ban is over"
            if program("moderation.fetch", USERS[which]) is None:
                yield f"the {which} ban is over at the broker"
            if not program("premium.is_active", TIERS[which], "gold"):
                yield f"the {which} premium is over"
            if not program("premium.fetch", TIERS[which]):
                yield f"the {which} premium is over at the broker"

    def _waits(self, program: Program) -> Iterator[str]:
        for key, per_s in COOLDOWNS.items():
            passed_s = time.monotonic() - self.began_at
            if passed_s > per_s - 1 or (key == "short" and self.crashed):
                continue  # a crash may forget it, the manual says
            left = program("cooldowns.acquire", key, 1, per_s)
            if not isinstance(left, float):
                yield f"the {key} cooldown is over"
            elif abs(left - (per_s - passed_s)) > LATE_S:
                yield f"the {key} cooldown has {left:.0f} s to go after {passed_s:.0f}"

    def ends(self) -> Iterator[str]:
        """What does not end at its time."""
        self._wait_until(SOON_S + 1)
        for number, program in enumerate(self.programs):
            if program("moderation.is_banned", USERS["soon"]):
                yield f"program {number}: the ban is stuck"
            if program("premium.is_active", TIERS["soon"]):
                yield f"program {number}: the premium is stuck"
        if not isinstance(self.programs[0]("cooldowns.acquire", "short", 1, SOON_S), dict):
            yield "the short cooldown is stuck"
        self._wait_until(LOGGED_S + 1)
        if not isinstance(self.programs[-1]("cooldowns.acquire", "logged", 1, LOGGED_S), dict):
            yield "the logged cooldown is stuck"

    def _wait_until(self, after_s: float) -> None:
        """Nothing tells of an end: that is what log time is for."""
        time.sleep(max(0.0, self.began_at + after_s - time.monotonic()))


def program_is_up(program: Program) -> bool:
    return "error" not in str(program("state.sync"))


@contextmanager
def fleets(folder: Path, faults: tuple[str, ...] = ()) -> Iterator[dict[int, Fleet]]:
    """One for each first jump."""
    with ExitStack() as stack:
        yield {sign: Fleet(folder / f"{sign}", stack, faults) for sign in (1, -1)}


@pytest.mark.skipif(not os.environ.get("SHARDCTL_LIFECYCLE"), reason="runs in make soak")
def test_nothing_ends_early_and_nothing_is_stuck(tmp_path: Path) -> None:
    with fleets(tmp_path) as both:
        for fleet in both.values():
            fleet.join()
            fleet.begin()
            assert fleet.wrong("before") == []
        for sign, fleet in both.items():
            fleet.jump(sign * JUMP_S)
            assert fleet.wrong(f"{sign} jumped") == []
            fleet.join()
            fleet.restart()
            fleet.join()
            assert fleet.wrong(f"{sign} and a new broker") == []
            fleet.jump(-sign * JUMP_S)
            assert fleet.wrong(f"{-sign} jumped") == []
            fleet.restart()
            assert fleet.wrong(f"{-sign} and a new broker") == []
            print(
                f"all was looked at {time.monotonic() - fleet.began_at:.1f} s after the beginning"
            )
        assert [text for fleet in both.values() for text in fleet.ends()] == []


@pytest.mark.parametrize("fault", ["broker", "program"])
def test_the_look_sees_log_time_that_follows_the_wall(tmp_path: Path, fault: str) -> None:
    """The planted faults."""
    with fleets(tmp_path, (BROKER_OF_WALL,) if fault == "broker" else ()) as both:
        for sign, fleet in both.items():
            fleet.join(*((CLOCK_OF_WALL,) if fault == "program" else ()))
            fleet.begin()
            fleet.jump(sign * JUMP_S)
            found = fleet.wrong("jumped")
            if sign > 0:
                assert any("over" in text for text in found), found
            elif fault == "broker":
                assert any("to go" in text for text in found), found
