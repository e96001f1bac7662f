"""A shard's hearing: no healthy shard is cured for nothing, a deaf one soon is."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from shard_node import pulse
from shard_node.means import Rate
from shard_node.missing import Cure, Finding
from shard_node.pulse import Pulse

LOOK_S = 4.0
HOUR_S = 3600.0
SHARES = {"MESSAGE_CREATE": 0.6, "TYPING_START": 0.3, "PRESENCE_UPDATE": 0.08, "RARE": 0.02}


class Line:
    """The gateway of one shard, played: answers probes, RESUMEs and IDENTIFYs as it is told.

    ``deaf`` is None, ``until-resume`` or ``until-identify``; ``types`` are withheld likewise.
    """

    def __init__(self, seed: int, now: float = 1000.0) -> None:
        self.rng = random.Random(seed)
        self.now = now
        self.pulse = Pulse(now)
        self.deaf: str | None = None
        self.withheld: dict[str, str] = {}
        self.others = True
        self.lost_probes = 0.0
        self.found: list[tuple[float, Finding]] = []
        self.cures: Counter[Cure] = Counter()
        self.answers: list[float] = []
        self.back_at = math.inf
        self.way = Cure.NONE
        self.permit_s = 0.5
        self.pulse.connected(now, resumed=False)

    def look(self, hour: int, came: Counter[str], seconds: float) -> None:
        self.now += seconds
        if self.now >= self.back_at:
            self._back()
        answered = [at for at in self.answers if at <= self.now]
        self.answers = [at for at in self.answers if at > self.now]
        heard = Counter({k: n for k, n in came.items() if n and k not in self.withheld})
        heard["GUILD_MEMBERS_CHUNK"] += len(answered)
        if self.deaf or self.back_at < math.inf:
            heard = Counter()
        self._act(self.pulse.look(self.now, hour, +heard))

    def _act(self, found: list[Finding]) -> None:
        for finding in found:
            self.cures[finding.cure] += 1
            if finding.what or finding.cure in (Cure.RESUME, Cure.IDENTIFY):
                self.found.append((self.now, finding))
            if finding.cure is Cure.PROBE:
                if not self.deaf and self.rng.random() >= self.lost_probes:
                    slow = self.rng.random() < 0.01
                    self.answers.append(self.now + self.rng.uniform(0.02, 3.5 if slow else 0.5))
            elif finding.cure is Cure.ASK:
                self._act(self.pulse.answered(self.now, finding.event, others=self.others))
            elif finding.cure is not Cure.NONE:
                self.way = finding.cure
                self.back_at = self.now + (0.1 if self.way is Cure.RESUME else self.permit_s)

    def _back(self) -> None:
        self.back_at = math.inf
        identified = self.way is Cure.IDENTIFY
        if self.deaf == "until-resume" or identified:
            self.deaf = None
        cured = ("until-resume", "until-identify") if identified else ("until-resume",)
        self.withheld = {k: way for k, way in self.withheld.items() if way not in cured}
        self._act(self.pulse.connected(self.now, resumed=not identified))


class Users(NamedTuple):
    """How a shard's users behave: the rate by day and, a part of it, by night."""

    per_s: float
    night: float
    bursty: bool = False

    def rate(self, hour: float) -> float:
        swing = (1 - math.cos(2 * math.pi * (hour - 4) / 24)) / 2
        return self.per_s * (self.night + (1 - self.night) * swing)


def poisson(rng: random.Random, mean: float) -> int:
    if mean > 40:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count, product = count + 1, product * rng.random()
    return count


def bursts(rng: random.Random) -> Iterator[float]:
    """A factor for each look: pauses and bursts whose lengths have no mean to speak of."""
    while True:
        pause = min(3 * HOUR_S, 8 * rng.paretovariate(0.9))
        burst = min(600.0, 4 * rng.paretovariate(1.2))
        yield from itertools.repeat(0.0, math.ceil(pause / LOOK_S))
        yield from itertools.repeat(5.0, math.ceil(burst / LOOK_S))


KINDS = {
    "busy": Users(40.0, 0.2),
    "day and night": Users(10.0, 1 / 30),
    "small": Users(0.5, 1 / 30),
    "hardly anybody": Users(0.01, 0.1),
    "bursts": Users(2.0, 0.1, bursty=True),
}


def lived(kind: str, seed: int, hours: float, line: Line | None = None) -> Line:
    """A shard's life, with stalls of the process and jumps of the clock on the wall."""
    users, line = KINDS[kind], line or Line(seed)
    rng, start = line.rng, line.now
    factors = bursts(rng) if users.bursty else itertools.repeat(1.0)
    clock = rng.uniform(0, 24)
    while line.now < start + hours * HOUR_S:
        seconds, unread = LOOK_S, False
        chance = rng.random()
        if chance < 0.0003:
            seconds, unread = rng.uniform(5.5, 120.0), True
        elif chance < 0.0004:
            clock += rng.uniform(-12, 12)
        hour = (clock + (line.now - start) / HOUR_S) % 24
        mean = users.rate(hour) * next(factors) * seconds
        came = Counter({k: poisson(rng, mean * share) for k, share in SHARES.items()})
        line.look(int(hour), Counter() if unread else came, seconds)
    return line


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_healthy_shard_identifies(kind: str) -> None:
    """In all 1,000 shard-hours, with one question in a hundred lost."""
    cures: Counter[Cure] = Counter()
    hours, lives = 50.0, 4
    for seed in range(lives):
        line = Line(seed)
        line.lost_probes = 0.01
        cures += lived(kind, seed, hours, line).cures
        assert not line.cures[Cure.IDENTIFY], line.found
    total = hours * lives
    assert cures[Cure.RESUME] <= 1, cures
    quiet = {"hardly anybody": 7, "bursts": 12, "small": 5}
    assert cures[Cure.PROBE] < quiet.get(kind, 1) * total


@pytest.mark.slow
def test_no_type_that_comes_and_goes_makes_a_shard_identify() -> None:
    """Types that come in turns of minutes, in 200 shard-hours of a busy shard."""
    alarms, rng = 0, random.Random(3)
    for seed in range(4):
        line = Line(seed)
        on = dict.fromkeys(SHARES, True)
        end = line.now + 50 * HOUR_S
        while line.now < end:
            for kind, mean_s in (("TYPING_START", 600.0), ("PRESENCE_UPDATE", 1500.0)):
                if rng.random() < LOOK_S / (mean_s / 3 if on[kind] else mean_s):
                    on[kind] = not on[kind]
            came = {k: poisson(rng, 30 * share * LOOK_S * on[k]) for k, share in SHARES.items()}
            line.look(12, Counter(came), LOOK_S)
        assert not line.cures[Cure.IDENTIFY], line.found
        alarms += sum(finding.what == "partly-deaf" for _, finding in line.found)
    assert alarms <= 8


def test_the_judge_of_false_alarms_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted faults: questions that get no answer, and silences taken for long ones."""
    line = Line(1)
    line.lost_probes = 0.7
    assert lived("bursts", 1, 20, line).cures[Cure.IDENTIFY]
    monkeypatch.setattr(pulse, "EVENTS_MISSED", 2.0)
    monkeypatch.setattr(pulse, "PATIENT_S", 0.0)
    assert lived("small", 1, 5).cures[Cure.PROBE] > 25


def settled(seed: int = 1, per_s: float = 10.0, seconds: float = 3 * HOUR_S) -> Line:
    """A shard with a steady rate."""
    line = Line(seed)
    run(line, seconds, per_s, look_s=LOOK_S)
    assert line.found == []
    return line


def run(line: Line, seconds: float, per_s: float = 10.0, look_s: float = 0.5) -> None:
    end = line.now + seconds
    while line.now < end:
        came = {k: poisson(line.rng, per_s * share * look_s) for k, share in SHARES.items()}
        line.look(12, Counter(came), look_s)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("until", ["until-resume", "until-identify"])
def test_a_deaf_shard_recovers_within_30_s(until: str, seed: int) -> None:
    line = settled(seed)
    since, line.deaf, line.permit_s = line.now, until, 5.0
    while line.deaf:
        run(line, 0.5)
        assert line.now - since < 30.0, line.found
    run(line, 60)
    ways = [finding.cure for _, finding in line.found]
    assert ways == [Cure.RESUME, Cure.IDENTIFY][: 1 if until == "until-resume" else 2]
    assert {finding.what for _, finding in line.found} == {"deaf"}


def test_a_shard_that_stays_deaf_identifies_once_an_hour_and_is_heard_at_last() -> None:
    line = settled()

    class Stubborn(Line):
        def _back(self) -> None:
            super()._back()
            self.deaf = "for ever"

    line.__class__ = Stubborn
    line.deaf = "for ever"
    run(line, 1000)
    ways = [finding.cure for _, finding in line.found]
    assert (ways.count(Cure.IDENTIFY), ways[-1]) == (1, Cure.NONE)
    line.deaf = None
    run(line, 5)
    assert line.found[-1][1] == Finding("heard", Cure.NONE)


def test_deafness_that_comes_back_after_what_a_resume_brought_ends_with_an_identify() -> None:
    """The session is deaf, and its RESUME replays what was missed, each time."""
    line = settled()
    line.deaf = "until-resume"
    run(line, 30)
    assert line.deaf is None
    line.deaf = "until-identify"
    run(line, 40)
    assert [f.cure for _, f in line.found] == [Cure.RESUME, Cure.IDENTIFY]


def test_an_ordinary_resume_is_not_questioned() -> None:
    line = settled()
    line.pulse.connecting()
    line.pulse.connecting()
    assert line.pulse.connected(line.now + 5, resumed=True) == []
    run(line, 60)
    assert line.found == []


@pytest.mark.parametrize("way", ["until-resume", "until-identify"])
def test_a_type_that_others_get_is_missed_and_cured(way: str) -> None:
    line = settled(seconds=2 * HOUR_S)
    since = line.now
    line.withheld = {"MESSAGE_CREATE": way}
    run(line, 600)
    assert not line.withheld
    ways = [finding.cure for _, finding in line.found]
    cured = [Cure.NONE, Cure.RESUME, Cure.NONE, Cure.IDENTIFY]
    assert ways == cured[: 2 if way == "until-resume" else 4]
    assert [f.what for _, f in line.found] == ["partly-deaf", ""] * (len(ways) // 2)
    assert all("MESSAGE_CREATE" in f.detail for _, f in line.found)
    assert line.found[0][0] - since < 130


def test_a_type_that_stays_away_identifies_once_in_six_hours_and_comes_back_at_last() -> None:
    line = settled(seconds=2 * HOUR_S)
    line.withheld = {"MESSAGE_CREATE": "for ever"}
    run(line, 5 * HOUR_S, look_s=2.0)
    assert line.cures[Cure.IDENTIFY] == 1
    line.found.clear()
    line.withheld = {}
    run(line, 3 * HOUR_S, look_s=2.0)
    assert not line.cures[Cure.IDENTIFY] - 1


def test_a_guild_that_leaves_takes_its_types_along() -> None:
    line = settled(seconds=2 * HOUR_S)
    line.withheld = {"MESSAGE_CREATE": "its guild is gone"}
    line.look(12, Counter({"GUILD_DELETE": 1, "TYPING_START": 2}), 0.5)
    run(line, 1200)
    assert line.found == []


def test_a_long_silence_of_a_type_is_learned() -> None:
    line = settled(seconds=2 * HOUR_S)
    line.others = False
    for _ in range(2):
        line.withheld = {"TYPING_START": "for a while"}
        run(line, 300)
        line.withheld = {}
        run(line, 600)
    # The second time it is no longer than the first.
    assert [f.what for _, f in line.found] == ["partly-deaf", "heard"]


def test_what_is_known_of_a_shard_goes_to_the_next_process() -> None:
    line = settled(seconds=2 * HOUR_S)
    kept = line.pulse.keep(line.now, 1e9)
    heir = Pulse(50.0, 1e9 + 5, kept)
    assert heir.events_per_s == pytest.approx(line.pulse.events_per_s)
    assert heir.silence_max_s(50.0, 12) == line.pulse.silence_max_s(line.now, 12)
    line.pulse, line.withheld = heir, {"MESSAGE_CREATE": "until-resume"}
    line.now = 50.0
    run(line, 200)
    assert [f.cure for _, f in line.found] == [Cure.NONE, Cure.RESUME]
    late = Pulse(50.0, 1e9 + 2 * HOUR_S, kept)
    assert late.events_per_s == 0
    for broken in (b"", b"nonsense", kept[:-3], b"\x98" + bytes(8)):
        assert Pulse(50.0, 1e9, broken).events_per_s == 0


def test_a_new_process_does_not_identify_again_for_the_same() -> None:
    line = settled()
    line.deaf = "for ever"
    run(line, 20)
    line.deaf = "until-identify"
    run(line, 20)
    assert line.cures[Cure.IDENTIFY] == 1
    line.pulse = Pulse(line.now, 1e9 + 60, line.pulse.keep(line.now, 1e9))
    line.deaf = "for ever"
    run(line, 300)
    assert line.cures[Cure.IDENTIFY] == 1
    assert line.found[-1][1].cure is Cure.NONE


def test_a_type_that_ends_for_everybody_is_said_once() -> None:
    line = settled(seconds=2 * HOUR_S)
    line.others = False
    line.withheld = {"TYPING_START": "for ever"}
    run(line, 3000, look_s=2.0)
    assert [(f.what, f.cure) for _, f in line.found] == [("partly-deaf", Cure.NONE)]
    assert line.cures[Cure.ASK] > 10


def test_a_type_that_falls_silent_with_all_others_is_not_missed() -> None:
    line = settled(seconds=2 * HOUR_S)
    run(line, 600, per_s=0.1)
    assert line.found == []


def test_how_long_ago_each_type_came() -> None:
    line = Line(1)
    line.look(12, Counter({"MESSAGE_CREATE": 1}), 1.0)
    line.look(12, Counter({"TYPING_START": 1}), 4.0)
    assert line.pulse.ages(line.now + 1.0, 60.0) == {"MESSAGE_CREATE": 5.0, "TYPING_START": 1.0}
    assert line.pulse.ages(line.now + 1.0, 2.0) == {"TYPING_START": 1.0}


def test_a_rate_is_right_from_the_first_look_on() -> None:
    rate = Rate(600.0)
    assert rate.per_s == 0
    for _ in range(5):
        rate.add(20, 2.0)
    assert rate.per_s == pytest.approx(10.0)
    for _ in range(600):
        rate.add(0, 1.0)
    assert rate.per_s < 4


def test_a_night_is_expected_where_there_was_one_before() -> None:
    """The hour of the day counts where it says less than the last minutes do."""
    line = Line(1)
    for hour, per_s in [(11, 10.0), (12, 0.1), (11, 10.0)]:
        for _ in range(900):
            line.look(hour, Counter({"MESSAGE_CREATE": poisson(line.rng, per_s * 4)}), 4.0)
    assert line.pulse.silence_max_s(line.now, 11) == pulse.SILENCE_MIN_S
    assert line.pulse.silence_max_s(line.now, 12) == pytest.approx(100 / 10, rel=0.2)
