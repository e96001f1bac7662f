"""What TARGET may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.cli.target import TargetError, default_bot, find_bot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bots" / "inner").mkdir(parents=True)
    for name in ("main.py", "bots/main.py", "bots/inner/deep.py", "bots/inner/__init__.py"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "where", "found"),
    [
        ("main.py", "", "main.py"),
        ("main", "", "main.py"),
        ("main:bot", "", "main:bot"),
        ("main.py:bot", "", "main:bot"),
        ("bots/main.py", "bots", "main.py"),
        ("bots/main:bot", "bots", "main:bot"),
        ("bots", "bots", "main.py"),
        ("bots/inner:bot", "bots", "inner:bot"),
        ("bots.inner.deep:bot", "", "bots.inner.deep:bot"),
    ],
)
def test_a_target_names_a_folder_and_a_bot(
    folder: Path, target: str, where: str, found: str
) -> None:
    bot = find_bot(target, folder)
    assert (bot.folder, bot.target) == (str((folder / where).resolve()), found)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("mian.py", "did you mean 'main.py'"),
        ("nope:bot", "nope.py"),
        ("main:not a name", "no name"),
        ("bots/inner", "no main.py or bot.py"),
    ],
)
def test_a_target_that_is_not_there(folder: Path, target: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        find_bot(target, folder)
    assert words in caught.value.render()


def test_a_factory_needs_a_name(folder: Path) -> None:
    assert find_bot("main:make", folder, factory=True).factory
    with pytest.raises(TargetError, match="--factory"):
        find_bot("main.py", folder, factory=True)


def test_the_default_is_main_or_bot(folder: Path) -> None:
    assert default_bot(folder).target == "main.py"
    (folder / "main.py").rename(folder / "bot.py")
    assert default_bot(folder).target == "bot.py"
