"""Routing rules of the settings: as the broker reads them, and wrong ones named by their line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from broker.config import read_config
from broker.core.rules import Rule
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import ROUTES_MAX
from shardctl import config, launch
from shardctl.errors import ConfigError
from shardctl.routes import in_words

GOOD = """\
shards = 4

[[routes]]
category = "PRICES"
to = ["node:a", "node:b", "node:a"]
lane = "low"

[[routes]]
category = "NOISE"
to = "nobody"

[[routes]]
category = "WORK"
to = "pool:math"

[[routes]]
category = "ONE"
to = "node:a"

[[routes]] # its lane alone
category = "SLOW"
lane = "low"

[sandbox]
guilds = 3
"""


def write(folder: Path, text: str, name: str = "shardctl.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_rules_are_read_as_the_broker_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, GOOD)
    found = config.load(tmp_path)
    assert found.sandbox == {"guilds": 3}
    assert [in_words(rule) for rule in found.routes] == [
        "PRICES -> node:a, node:b, lane low",
        "NOISE -> nobody",
        "WORK -> pool:math",
        "ONE -> node:a",
        "SLOW -> its subscribers, lane low",
    ]
    bot = launch.Bot(str(tmp_path), "main.py")
    record = launch.Record("f", "ipc:///x", "/d", "/r", bot, routes=found.routes)
    path = tmp_path / "fleet.json"
    launch.save_record(record, path)
    assert launch.load_record(path) == record
    with Path("/dev/null").open() as file:
        environ = {
            "SHARDCTL_FLEET_FILE": str(path),
            "SHARDCTL_SUPERVISOR_FD": str(file.fileno()),
            "DISCORD_TOKEN": "x.y.z",
        }
        rules = read_config(environ).settings().routes
    assert rules == (
        Rule("PRICES", ("a", "b"), "", Lane.LOW),
        Rule("NOISE", ()),
        Rule("WORK", None, "math"),
        Rule("ONE", ("a",)),
        Rule("SLOW", None, "", Lane.LOW),
    )


def test_a_record_of_an_older_version_has_no_rules(tmp_path: Path) -> None:
    record = launch.Record("f", "ipc:///x", "/d", "/r", launch.Bot("/b", "main.py"))
    value = dataclasses.asdict(record)
    del value["routes"]
    launch.write_json(tmp_path / "fleet.json", value)
    assert launch.load_record(tmp_path / "fleet.json") == record


HEAD = '[[routes]]\ncategory = "A"\nto = "nobody"\n\n'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (HEAD + '[[routes]]\ncategory = "B"\nlane = "fast"\n', 7, ["'fast'", '"high"', '"low"']),
        (HEAD + '[[routes]]\ncategory = "B"\nto = "b"\n', 7, ["to = 'b'", 'to = "node:b"']),
        (HEAD + '[[routes]]\ncategory = "B"\nto = ["a", "node:b"]\n', 7, ['["node:a", "node:b"]']),
        (HEAD + '[[routes]]\ncategory = "B"\nto = []\n', 7, ['hint: to = "nobody"']),
        (HEAD + '[[routes]]\ncategory = "B"\nto = "pool:"\n', 7, ["'pool:'", "pool:NAME"]),
        (HEAD + '[[routes]]\ncategory = "B"\nto = 4\n', 7, ["to = 4"]),
        (HEAD + '[[routes]]\ncategory = "B"\nto = "node:A B"\n', 7, ["node:A B"]),
        (HEAD + '[[routes]]\ncategory = "B"\nlanes = "low"\n', 7, ["did you mean 'lane'"]),
        (HEAD + '[[routes]]\nto = "nobody"\n', 5, ["without a category", "[[routes]]"]),
        (HEAD + '[[routes]]\ncategory = ""\nlane = "low"\n', 6, ["category = ''"]),
        (HEAD + '[[routes]]\ncategory = "B"\n', 6, ["neither `to` nor `lane`"]),
        (HEAD + HEAD, 6, ["a second rule for 'A'"]),
        ('[[routes]]\ncategory = "SHARD_READY"\nto = "nobody"\n', 2, ["the broker's own"]),
        ('[[routes]]\ncategory = "fleet.stop"\nto = "nobody"\n', 2, ["the broker's own"]),
        ('routes = [{category = "A", lane = "x"}]\n', 1, ["lane = 'x'"]),
        ("shards = 4\nroutes = 4\n", 2, ["tables [[routes]]"]),
        ("shards = 4\nroutes = [4]\n", 2, ["no list of tables"]),
    ],
)
def test_a_bad_rule_is_named_by_its_line(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    for name, before, under in (
        ("pyproject.toml", "[project]\nname = 'x'\n[tool.shardctl]\n", "tool.shardctl."),
        ("shardctl.toml", "", ""),
    ):
        path = write(tmp_path, before + text.replace("[[", "[[" + under), name)
        with pytest.raises(ConfigError) as caught:
            config.load(tmp_path)
        shown = caught.value.render()
        assert f"{path}:{line + before.count(chr(10))}:" in shown
        assert caught.value.exit_code == 78
        for word in words:
            assert word in shown
        path.unlink()


def test_too_many_rules_are_refused(tmp_path: Path) -> None:
    rules = "".join(
        f'[[routes]]\ncategory = "C{number}"\nlane = "low"\n' for number in range(ROUTES_MAX + 1)
    )
    path = write(tmp_path, rules)
    with pytest.raises(ConfigError, match=f"{ROUTES_MAX + 1} rules are too many") as caught:
        config.load(tmp_path)
    assert f"{path}:{3 * ROUTES_MAX + 1}:" in caught.value.message
