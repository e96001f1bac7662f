"""The supervisor's decisions, driven by events and a clock that only this file moves."""

from __future__ import annotations

from typing import Any

from shardctl.supervisor.backoff import BACKOFF_MAX_S, BACKOFF_RESET_S
from shardctl.supervisor.core import BROKER_MUTE_S, SANDBOX_READY_S, Supervisor
from shardctl.supervisor.effects import (
    BROKER,
    SANDBOX,
    Effects,
    Exit,
    Finish,
    Phase,
    Say,
    Send,
    Signal,
    Spawn,
)

DRAIN_S = 8.0
NODE = {"op": "spawn", "name": "node:a", "epoch": 7, "index": 0, "shards": [0, 1], "num_shards": 4}


def silent(effects: Effects) -> Effects:
    return [effect for effect in effects if not isinstance(effect, Say)]


def said(effects: Effects) -> str:
    return "\n".join(effect.text for effect in effects if isinstance(effect, Say))


class World:
    """Carries out what the core asks, as the shell does; children never die by themselves."""

    def __init__(self, *, sandbox: bool = False) -> None:
        self.core = Supervisor(sandbox=sandbox, drain_s=DRAIN_S, pid=1)
        self.now = 100.0
        self.pid = 10
        self.log: Effects = []
        self.feed(self.core.start(self.now))

    def feed(self, effects: Effects) -> Effects:
        done: Effects = []
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            done.append(effect)
            if isinstance(effect, Spawn):
                self.pid += 1
                queue += self.core.spawned(
                    effect.name, effect.epoch, self.pid, self.now, effect.spec
                )
        self.log += done
        return done

    def asked(self, **line: Any) -> Effects:
        return self.feed(self.core.asked(line, self.now))

    def node(self, name: str = "node:a", epoch: int = 7) -> Effects:
        return self.asked(**{**NODE, "name": name, "epoch": epoch})

    def exited(
        self, name: str, epoch: int = 0, code: int | None = 0, signal: int | None = None
    ) -> Effects:
        end = Exit(code, signal, ("last words",))
        return self.feed(self.core.exited(name, epoch, end, self.now))

    def tick(self, seconds: float = 0.0) -> Effects:
        self.now += seconds
        return self.feed(self.core.tick(self.now))


def running() -> World:
    world = World()
    world.asked(op="serving")
    world.node()
    return world


def test_the_broker_is_told_first_who_lives() -> None:
    world = World()
    assert silent(world.log)[0] == Spawn(BROKER)
    assert silent(world.log)[1] == Send({"ev": "hello", "supervisor_pid": 1, "procs": []})


def test_the_sandbox_comes_before_the_broker() -> None:
    world = World(sandbox=True)
    assert silent(world.log) == [Spawn(SANDBOX)]
    effects = world.feed(world.core.sandbox_ready("http://x"))
    assert Spawn(BROKER) in effects
    assert world.core.phase is Phase.RUNNING


def test_a_sandbox_that_never_listens_ends_the_start() -> None:
    world = World(sandbox=True)
    assert world.core.deadline() == world.now + SANDBOX_READY_S
    assert Signal(SANDBOX, 0, "KILL") in world.tick(SANDBOX_READY_S)
    effects = world.exited(SANDBOX, code=None, signal=9)
    assert effects[-1] == Finish(1, "sandbox cannot start (signal 9)", ("last words",))


def test_a_node_is_spawned_on_the_brokers_word_and_reported() -> None:
    world = World()
    effects = silent(world.node())
    assert effects[0] == Spawn("node:a", 7, NODE)
    assert effects[1] == Send({"ev": "spawned", "name": "node:a", "epoch": 7, "pid": world.pid})
    gone = world.exited("node:a", 7, code=3)
    assert isinstance(gone[-1], Send)
    line = gone[-1].line
    assert (line["ev"], line["code"], line["signal"]) == ("exited", 3, None)
    assert line["tail"] == ["last words"]


def test_the_same_epoch_is_not_spawned_twice_but_another_is() -> None:
    world = running()
    refused = silent(world.node())
    assert len(refused) == 1
    assert isinstance(refused[0], Send)
    assert refused[0].line["ev"] == "spawn_failed"
    assert Spawn("node:a", 8, {**NODE, "epoch": 8}) in world.node(epoch=8)


def test_a_spawn_that_the_system_refuses_is_reported() -> None:
    world = World()
    effects = world.core.spawn_failed("node:a", 7, "no memory", world.now)
    assert "no memory" in said(effects)
    assert isinstance(effects[-1], Send)
    assert effects[-1].line["ev"] == "spawn_failed"


def test_only_living_children_are_signalled() -> None:
    world = running()
    asked = world.asked(op="signal", name="node:a", epoch=7, signal="TERM")
    assert asked == [Signal("node:a", 7, "TERM")]
    assert world.asked(op="signal", name="node:a", epoch=6, signal="TERM") == []
    assert world.asked(op="signal", name="node:a", epoch=7, signal="STOP") == []


def test_a_dead_broker_is_started_again_and_hears_of_the_living() -> None:
    world = running()
    died = world.exited(BROKER, code=None, signal=9)
    assert "signal 9" in said(died)
    assert silent(died) == []
    assert world.core.deadline() == world.now + 0.1
    effects = silent(world.tick(0.1))
    assert effects[0] == Spawn(BROKER)
    hello = effects[1]
    assert isinstance(hello, Send)
    assert [p["name"] for p in hello.line["procs"]] == ["node:a"]
    assert hello.line["procs"][0]["shards"] == [0, 1]


def test_what_ends_while_the_broker_is_away_is_told_to_the_next() -> None:
    world = running()
    world.exited(BROKER, code=1)
    assert silent(world.exited("node:a", 7, code=2)) == []
    effects = silent(world.tick(0.1))
    assert [e.line["ev"] for e in effects if isinstance(e, Send)] == ["hello", "exited"]


def test_the_backoff_doubles_to_its_limit_and_starts_anew() -> None:
    world = running()
    delays = []
    for _ in range(8):
        world.exited(BROKER, code=1)
        deadline = world.core.deadline()
        assert deadline is not None
        delays.append(round(deadline - world.now, 3))
        world.tick(deadline - world.now)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF_MAX_S, BACKOFF_MAX_S]
    world.now += BACKOFF_RESET_S
    world.exited(BROKER, code=1)
    assert world.core.deadline() == world.now + 0.1


def test_a_broker_that_cannot_be_configured_ends_the_first_start() -> None:
    world = World()
    effects = world.exited(BROKER, code=78)
    assert effects[-1] == Finish(78, "broker cannot start (code 78)", ("last words",))


def test_a_broker_that_never_serves_is_given_up() -> None:
    world = World()
    for _ in range(2):
        world.exited(BROKER, code=1)
        world.tick(5.0)
    effects = world.exited(BROKER, code=1)
    assert isinstance(effects[-1], Finish)
    assert effects[-1].exit_code == 1


def test_once_served_code_78_is_a_crash_like_others() -> None:
    world = running()
    assert silent(world.exited(BROKER, code=78)) == []
    assert world.core.phase is Phase.RUNNING


def test_a_dead_sandbox_is_started_again() -> None:
    world = World(sandbox=True)
    world.feed(world.core.sandbox_ready("http://x"))
    world.exited(SANDBOX, code=None, signal=11)
    assert silent(world.tick(0.1)) == [Spawn(SANDBOX)]
    assert silent(world.feed(world.core.sandbox_ready("http://x"))) == []


def test_a_stop_goes_through_the_broker() -> None:
    world = running()
    effects = silent(world.feed(world.core.stop("SIGTERM", world.now)))
    assert effects == [Send({"ev": "stop", "reason": "SIGTERM", "discard_sessions": False})]
    world.exited("node:a", 7)
    assert silent(world.asked(op="stopped", reason="signal", exit_code=0)) == [
        Signal(BROKER, 0, "TERM")
    ]
    assert world.exited(BROKER)[-1] == Finish(0)
    assert world.core.phase is Phase.DONE
    assert world.core.deadline() is None


def test_a_node_that_does_not_stop_is_killed_within_ten_seconds() -> None:
    world = running()
    start = world.now
    world.feed(world.core.stop("SIGTERM", world.now))
    assert silent(world.asked(op="stopping", reason="SIGTERM", exit_code=0)) == []
    deadline = world.core.deadline()
    assert deadline == start + DRAIN_S + 1.0
    effects = silent(world.tick(deadline - world.now))
    assert effects == [Signal("node:a", 7, "KILL"), Signal(BROKER, 0, "TERM")]
    world.exited("node:a", 7, code=None, signal=9)
    deadline = world.core.deadline()
    assert deadline is not None
    assert deadline - start < 10.0
    assert silent(world.tick(deadline - world.now)) == [Signal(BROKER, 0, "KILL")]
    assert world.exited(BROKER, code=None, signal=9)[-1] == Finish(0)


def test_without_a_broker_the_nodes_are_told_directly() -> None:
    world = running()
    world.exited(BROKER, code=1)
    effects = silent(world.feed(world.core.stop("SIGTERM", world.now)))
    assert effects == [Signal("node:a", 7, "TERM")]
    assert world.exited("node:a", 7)[-1] == Finish(0)


def test_a_broker_that_dies_during_the_stop_leaves_it_to_us() -> None:
    world = running()
    world.feed(world.core.stop("SIGTERM", world.now))
    assert silent(world.feed(world.core.link_closed(world.now))) == [Signal("node:a", 7, "TERM")]
    assert silent(world.exited(BROKER, code=None, signal=9)) == []  # told once, not twice
    assert world.exited("node:a", 7)[-1] == Finish(0)


def test_a_broker_that_hangs_at_the_stop_leaves_it_to_us() -> None:
    world = running()
    world.feed(world.core.stop("SIGTERM", world.now))
    effects = silent(world.tick(BROKER_MUTE_S))
    assert effects == [Signal("node:a", 7, "TERM"), Signal(BROKER, 0, "KILL")]
    assert silent(world.exited(BROKER, code=None, signal=9)) == []
    assert world.exited("node:a", 7)[-1] == Finish(0)


def test_nothing_is_spawned_during_a_stop() -> None:
    world = running()
    world.feed(world.core.stop("SIGTERM", world.now))
    refused = silent(world.node("node:b", 8))
    assert isinstance(refused[0], Send)
    assert refused[0].line["ev"] == "spawn_failed"


def test_a_stop_that_the_broker_began_is_finished_without_it() -> None:
    world = running()
    assert silent(world.asked(op="stopping", reason="operator", exit_code=0)) == []
    assert world.core.deadline() == world.now + DRAIN_S + 1.0
    effects = silent(world.exited(BROKER, code=None, signal=9))
    assert effects == [Signal("node:a", 7, "TERM")], "and no other broker"
    assert world.exited("node:a", 7)[-1] == Finish(0)


def test_a_fatal_stop_keeps_its_reason_without_the_broker() -> None:
    world = running()
    effects = world.asked(op="stopping", reason="fatal: 4004", exit_code=1)
    assert said(effects) == "the fleet stops: fatal: 4004"
    world.exited(BROKER, code=None, signal=9)
    result = world.exited("node:a", 7)[-1]
    assert isinstance(result, Finish)
    assert (result.exit_code, result.reason) == (1, "fatal: 4004")


def test_the_first_signal_into_a_stop_of_the_broker_hurries_nobody() -> None:
    world = running()
    world.asked(op="stopping", reason="operator", exit_code=0)
    assert silent(world.feed(world.core.stop("SIGTERM", world.now))) == []
    effects = silent(world.feed(world.core.stop("SIGTERM", world.now)))
    assert effects == [Signal("node:a", 7, "KILL"), Signal(BROKER, 0, "TERM")]


def test_asked_twice_what_is_left_is_killed_at_once() -> None:
    world = running()
    world.feed(world.core.stop("SIGINT", world.now))
    effects = silent(world.feed(world.core.stop("SIGINT", world.now)))
    assert effects == [Signal("node:a", 7, "KILL"), Signal(BROKER, 0, "TERM")]


def test_a_fatal_reason_ends_the_fleet_with_the_last_words_of_the_node() -> None:
    world = running()
    world.exited("node:a", 7, code=78)
    world.asked(op="stopped", reason="fatal: no bot", exit_code=1)
    assert world.exited(BROKER)[-1] == Finish(1, "fatal: no bot", ("last words",))


def test_a_broker_that_lets_go_of_its_link_is_killed() -> None:
    world = running()
    world.feed(world.core.link_closed(world.now))
    assert Signal(BROKER, 0, "KILL") in world.tick(2.0)
    world.exited(BROKER, code=None, signal=9)
    assert Spawn(BROKER) in world.tick(0.1)


def test_a_stop_before_the_sandbox_listens() -> None:
    world = World(sandbox=True)
    effects = silent(world.feed(world.core.stop("SIGINT", world.now)))
    assert effects == [Signal(SANDBOX, 0, "TERM")]
    assert world.exited(SANDBOX)[-1] == Finish(0)


def test_what_cannot_even_be_killed_is_not_waited_for_for_ever() -> None:
    world = running()
    world.feed(world.core.stop("SIGTERM", world.now))
    for _ in range(4):
        deadline = world.core.deadline()
        if deadline is not None:
            world.tick(deadline - world.now)
    result = world.log[-1]
    assert isinstance(result, Finish)
    assert result.exit_code == 1
    assert "node a (pid 12)" in result.reason


def test_the_log_says_why_a_node_is_killed_and_started_again() -> None:
    world = World()
    world.asked(op="serving")
    first = world.asked(**NODE)
    assert said(first) == ""
    killed = world.asked(op="signal", name="node:a", epoch=7, signal="KILL", why="silent for 15 s")
    assert said(killed) == "node a is killed: silent for 15 s"
    world.feed(world.core.exited("node:a", 7, Exit(None, 9), world.now))
    again = world.asked(**{**NODE, "epoch": 8, "why": "silent for 15 s"})
    assert said(again) == "node a is started again: silent for 15 s"
