"""shardctl(1) held to the code: every command, option, setting and exit code is in it."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest

from shardctl import errors
from shardctl.cli import COMMANDS, cli
from shardctl.cli.table import COLUMNS
from shardctl.config import BALANCE_KEYS, KEYS, LIFECYCLE_KEYS, SANDBOX_KEYS
from tests.rules.source import ROOT

PAGE = ROOT / "man" / "shardctl.1"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_its_options_are_described(page: str, name: str) -> None:
    found = command(name)
    assert re.search(rf"^\.Cm {name}$", page, re.MULTILINE)
    if isinstance(found, click.Group):
        for verb, each in found.commands.items():
            assert re.search(rf"\b{verb}\b", page), verb
            if name != "sandbox":  # whose verbs' own options are left to their --help
                check_options(page, each)
        return
    check_options(page, found)


def check_options(page: str, found: click.Command) -> None:
    for parameter in found.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            if option.startswith("--"):
                assert re.search(rf"Fl .*(?<!\w)-{option[2:]}(?![\w-])", page), option


def test_every_setting_and_column_is_described(page: str) -> None:
    tables = SANDBOX_KEYS | LIFECYCLE_KEYS | BALANCE_KEYS
    for key in (KEYS.keys() - {"sandbox"}) | tables.keys() | COLUMNS.keys():
        assert re.search(rf"\b{key}\b", page), key


def test_every_exit_code_is_described(page: str) -> None:
    section = page.split(".Sh EXIT STATUS")[1].split(".Sh EXAMPLES")[0]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\.It (\d+)$", section, re.MULTILINE)} == codes


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_page_is_well_formed() -> None:
    done = subprocess.run(
        ["groff", "-mandoc", "-ww", "-Tutf8", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert "shardctl start main.py --shards auto" in done.stdout
