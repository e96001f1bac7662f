"""Real node processes on a real sandbox, with the broker played by the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.node.fake_broker import FakeBroker
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
BOTS = ROOT / "tests" / "bots"
EXIT_S = 20.0

CANARY = "Y2FuYXJ5.canary-token-that-must-not-be-seen.0123456789abcdef"


class NodeProcess:
    """One `python -P -m shard_node`, its output in a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, lifeline: int) -> None:
        self.popen, self.log, self.lifeline = popen, log, lifeline

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def exit_code(self, timeout_s: float = EXIT_S) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node still runs:\n{self.output}") from None

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        self.popen.send_signal(signal.SIGINT)

    def says(self, text: str, timeout_s: float = 20.0) -> None:
        """Wait until the output holds ``text``."""

        def look() -> bool:
            if text in self.output:
                return True
            if self.popen.poll() is not None and text not in self.output:
                raise AssertionError(f"ended without saying {text!r}:\n{self.output}")
            return False

        wait_for(f"{text!r} in the node's output", look, timeout_s)


def environment(
    endpoint: str,
    folder: Path,
    target: str,
    *,
    info: dict[str, Any] | None = None,
    name: str = "a",
    shards: tuple[int, ...] = (0, 1),
    num_shards: int = 2,
    **extra: str,
) -> dict[str, str]:
    """What the supervisor sets for a node."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SHARDCTL_", "DISCORD_"))}
    env = {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "SHARDCTL_FLEET": "test",
        "SHARDCTL_ENDPOINT": endpoint,
        "SHARDCTL_NODE": name,
        "SHARDCTL_NODE_INDEX": "0",
        "SHARDCTL_EPOCH": "7",
        "SHARDCTL_SHARDS": ",".join(map(str, shards)),
        "SHARDCTL_NUM_SHARDS": str(num_shards),
        "SHARDCTL_BOT_FOLDER": str(folder),
        "SHARDCTL_BOT_TARGET": target,
        "SHARDCTL_BOT_FACTORY": "0",
        "SHARDCTL_SANDBOX": "0",
        "SHARDCTL_API_BASE": "http://127.0.0.1:9/api/v10",
        "SHARDCTL_DRAIN_S": "5",
        "PYTHONUNBUFFERED": "1",
    }
    if info is not None:
        env.update(
            SHARDCTL_SANDBOX="1",
            SHARDCTL_API_BASE=info["rest_url"],
            SHARDCTL_WITNESS_URL=info["witness_url"],
            DISCORD_TOKEN=info["token"],
        )
    return {**env, **extra}


@contextmanager
def node(
    broker: FakeBroker,
    folder: Path,
    target: str = "main.py",
    **settings: Any,
) -> Iterator[NodeProcess]:
    """A node process; killed at the end if it still runs."""
    out, into = os.pipe()
    env = environment(broker.endpoint, folder, target, **settings, SHARDCTL_LIFELINE_FD=str(out))
    log = Path(broker.endpoint.removeprefix("ipc://")).with_name(
        f"node-{settings.get('name', 'a')}-{os.urandom(3).hex()}.log"
    )
    with log.open("wb") as stream:
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "shard_node"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            pass_fds=(out,),
            start_new_session=True,
        )
    os.close(out)
    process = NodeProcess(popen, log, into)
    try:
        yield process
    except BaseException:
        sys.stderr.write(process.output)
        raise
    finally:
        popen.kill()
        popen.wait()
        with contextlib.suppress(OSError):  # the test may have closed it
            os.close(into)
