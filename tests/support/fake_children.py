"""Stands in for the interpreter that a supervisor starts: a broker, node or sandbox in small.

`install` writes it as an executable whose name goes into the launch record's ``python``.
What each does is told by empty files in the data folder:

``stubborn-node``   a node ignores SIGTERM
``broker-78``       the broker ends with 78 at once
``sandbox-1``       the sandbox ends with 1 at once
``orphan``          a node leaves a grandchild behind that ends by itself
"""

from __future__ import annotations

import sys
from pathlib import Path

_SCRIPT = r"""
import json, os, select, signal, socket, subprocess, sys, threading, time
from pathlib import Path

ARGV = " ".join(sys.argv[1:])
LIFELINE = int(os.environ.get("SHARDCTL_LIFELINE_FD", "-1"))
DATA = Path({data!r})


def wish(name):
    return (DATA / name).exists()


def note(name, value):
    with (DATA / name).open("a") as file:
        file.write(json.dumps(value) + "\n")


def watch_lifeline():
    def run():
        os.read(LIFELINE, 1)
        note("lifelines", ARGV[-40:])
        os._exit(0)
    threading.Thread(target=run, daemon=True).start()


def broker():
    if wish("broker-78"):
        print("the data folder is locked", file=sys.stderr)
        sys.exit(78)
    link = socket.socket(fileno=int(os.environ["SHARDCTL_SUPERVISOR_FD"]))
    note("environments", {{"who": "broker", **dict(os.environ)}})

    def send(**line):
        link.sendall(json.dumps(line).encode() + b"\n")

    send(op="serving")
    living, stopping = {{}}, False
    for raw in link.makefile("r"):
        line = json.loads(raw)
        note("broker-lines", {{"pid": os.getpid(), **line}})
        match line["ev"]:
            case "hello":
                living = {{p["name"]: p["epoch"] for p in line["procs"]}}
                for index, name in enumerate(("node:a", "node:b")):
                    if name not in living:
                        send(op="spawn", name=name, epoch=1, index=index, shards=[index],
                             num_shards=2)
            case "spawned":
                living[line["name"]] = line["epoch"]
            case "exited":
                living.pop(line["name"], None)
            case "stop":
                stopping = True
                if wish("silent-broker"):
                    continue
                send(op="stopping", reason="signal", exit_code=0)
                for name, epoch in living.items():
                    send(op="signal", name=name, epoch=epoch, signal="TERM")
        if stopping and not living:
            send(op="stopped", reason="signal", exit_code=0)
    sys.exit(0)


def node():
    note("environments", {{"who": os.environ["SHARDCTL_NODE"], **dict(os.environ)}})
    print("node speaks", flush=True)
    if wish("orphan"):
        subprocess.Popen([sys.executable, "-c", "import os\nif os.fork(): os._exit(0)\n"
                          "import time; time.sleep(0.3)"])
    if wish("stubborn-node"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def sandbox():
    if wish("sandbox-1"):
        print("port in use", file=sys.stderr)
        sys.exit(1)
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    arguments = dict(zip(sys.argv[4::2], sys.argv[5::2]))
    server.bind(("127.0.0.1", int(arguments["--port"])))
    server.listen()
    port = server.getsockname()[1]
    target = Path(arguments["--info-file"])
    target.with_suffix(".new").write_text(json.dumps({{
        "schema": 1, "rest_url": f"http://127.0.0.1:{{port}}/api/v10", "token": "sandbox-token",
        "witness_url": f"ws://127.0.0.1:{{port}}/w", "pid": os.getpid()}}))
    target.with_suffix(".new").replace(target)
    while True:
        signal.pause()


signal.signal(signal.SIGINT, signal.SIG_IGN)
if LIFELINE >= 0:
    watch_lifeline()
if "shard_node.sandbox" in ARGV:
    sandbox()
elif "shard_node" in ARGV:
    node()
elif "run_module" in ARGV:
    broker()
"""


def install(folder: Path, data_dir: Path) -> Path:
    """Write the executable into ``folder``; returns its path."""
    path = folder / "fake-python"
    path.write_text(f"#!{sys.executable}\n" + _SCRIPT.format(data=str(data_dir)))
    path.chmod(0o700)
    return path
