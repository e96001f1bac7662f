"""Settings from files: strict, and wrong ones named by file, line, key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl import config, lifecycles
from shardctl.errors import ConfigError


def write(folder: Path, text: str, name: str = "shardctl.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_without_a_file_nothing_is_set(tmp_path: Path) -> None:
    assert config.load(tmp_path) == config.FileConfig()
    write(tmp_path, "[project]\nname = 'shardctl-user'\n", "pyproject.toml")
    assert config.load(tmp_path) == config.FileConfig()


def test_both_files_mean_the_same(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[tool.shardctl]\nshards = 4\n[tool.shardctl.sandbox]\nguilds = 9\n",
        "pyproject.toml",
    )
    found = config.load(tmp_path)
    assert (found.get("shards"), dict(found.sandbox)) == (4, {"guilds": 9})
    path = write(tmp_path, 'shards = "auto"\n')
    assert config.load(tmp_path).get("shards") == "auto"
    assert config.load(tmp_path).path == path


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("shards = 0\n", 1, ["shards = 0", '"auto" or a whole number from 1']),
        ("\n# a note\nshards = true\n", 3, ["shards = true"]),
        ('target = "main.py"\nnodes = "many"\n', 2, ["nodes = 'many'"]),
        ('log_level = "loud"\n', 1, ['"debug" or "info"']),
        ("drain_s = -1\n", 1, ["seconds from 0"]),
        ("shrads = 4\n", 1, ["unknown key 'shrads'", "did you mean 'shards'"]),
        ("[sandbox]\nguilds = 1\nseeds = 2\n", 3, ["'seeds'", "did you mean 'seed'"]),
        ("\nsandbox.guilds = -4\n", 2, ["guilds = -4"]),
        ("sandbox = {guilds = 'x'}\n", 1, ["guilds = 'x'"]),
        ('shards = 4\nfleet = "A B"\n', 2, ["fleet = 'A B'", "at most 64 of a-z 0-9 _ -"]),
        ("sandbox = 4\n", 1, ["a table"]),
        ("[lifecycle]\nhang_s = 1\n", 2, ["hang_s = 1", "seconds from 2 to 3600"]),
        ("[lifecycle]\ndeaf = 1\n", 2, ["deaf = 1", "true or false"]),
        ("[lifecycle]\nhang = 9\n", 2, ["'hang'", "did you mean 'hang_s'"]),
        ('[lifecycle]\nlinger = "2h"\n', 2, ["linger = '2h'", 'a length up to "1h"', '"never"']),
        ("[lifecycle]\nready_s = 0\n", 2, ["ready_s = 0", "seconds from 1 to 3600"]),
        ("[lifecycle]\nrelease_s = 90\n", 2, ["release_s = 90", "seconds from 0.5 to 60"]),
        ("[lifecycle]\nresume_max = 600\n", 2, ["resume_max = 600", 'such as "10m"']),
        ('[balance]\nauto = "yes"\n', 2, ["auto = 'yes'", "true or false"]),
        ('[balance]\nevery = "30s"\n', 2, ["every = '30s'", 'a length from "1m"']),
        ("[balance]\nevry = 3\n", 2, ["'evry'", "did you mean 'every'"]),
        ('token = "abc"\n', 1, ["token_file"]),
    ],
)
def test_a_bad_value_is_named_by_line_and_key(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    shown = caught.value.render()
    assert f"{path}:{line}:" in shown
    assert caught.value.exit_code == 78
    for word in words:
        assert word in shown


def test_a_loop_must_lag_before_it_hangs(tmp_path: Path) -> None:
    write(tmp_path, "shards = 4\n[lifecycle]\nhang_s = 5\nlag_s = 0.5\n")
    assert config.load(tmp_path).lifecycle == {"hang_s": 5, "lag_s": 0.5}
    path = write(tmp_path, "shards = 4\n[lifecycle]\nlag_s = 20\n")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert f"{path}:2: [lifecycle] lag_s = 20 must be less than hang_s = 15." in str(caught.value)


def test_lengths_reach_the_record_in_seconds(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[lifecycle]\nhang_s = 5\nlinger = "never"\nresume_max = "1m30s"\n'
        '[balance]\nauto = true\nevery = "5m"\n',
    )
    found = config.load(tmp_path)
    assert lifecycles.recorded(found.lifecycle) == {
        "hang_s": 5,
        "linger_s": 0,
        "resume_max_s": 90,
    }
    assert lifecycles.recorded_balance(found.balance) == {"auto": True, "every_s": 300}


def test_the_line_is_found_inside_a_project_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[project]\nname = "x"\nshards = 3\n\n[tool.shardctl]\nshards = 0\n',
        "pyproject.toml",
    )
    with pytest.raises(ConfigError, match=r"pyproject\.toml:6: shards"):
        config.load(tmp_path)


def test_what_is_no_toml_is_named_by_line(tmp_path: Path) -> None:
    write(tmp_path, "shards = 4\nnodes == 2\n")
    with pytest.raises(ConfigError, match="line 2"):
        config.load(tmp_path)


def test_a_key_that_stands_twice_gets_a_hint_that_fits(tmp_path: Path) -> None:
    write(tmp_path, "shards = 4\nshards = 5\n")
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert caught.value.hint == "each key and each table stands once"


def test_a_broken_project_file_is_spoken_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "[project\nname = 1\n", "pyproject.toml")
    assert config.load(tmp_path) == config.FileConfig()
    assert f"warning: {path} is not TOML" in capsys.readouterr().err


def test_the_token_itself_is_not_repeated(tmp_path: Path) -> None:
    write(tmp_path, 'token = "my-secret"\n')
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path)
    assert "my-secret" not in caught.value.render()
