"""Where a token is looked for, in which order, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.errors import ConfigError
from shardctl.token import Token, find_token


def test_the_order_of_the_places(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "discord_token").write_text("from-systemd\n")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert find_token(tmp_path, environ).value == "from-systemd"
    (tmp_path / "secret").write_text("from-file\n")
    assert find_token(tmp_path, environ, token_file="secret").value == "from-file"
    (tmp_path / ".env").write_text("DISCORD_TOKEN='from-env-file'\nOTHER=1\n")
    assert find_token(tmp_path, environ, token_file="secret").value == "from-env-file"
    environ["DISCORD_TOKEN"] = "from-environment"
    assert find_token(tmp_path, environ, token_file="secret").value == "from-environment"


def test_another_variable(tmp_path: Path) -> None:
    environ = {"DISCORD_TOKEN": "no", "MY_TOKEN": "yes"}
    assert find_token(tmp_path, environ, token_env="MY_TOKEN").value == "yes"


def test_without_a_token_each_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_token(tmp_path, {}, token_env="MY_TOKEN")
    shown = caught.value.render()
    assert caught.value.exit_code == 78
    for word in ("MY_TOKEN", str(tmp_path / ".env"), "token_file", "systemd", "--sandbox"):
        assert word in shown


@pytest.mark.parametrize("value", ["two words", "línea", "a\nb"])
def test_what_cannot_be_a_token_is_refused_unshown(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_token(tmp_path, {"DISCORD_TOKEN": value})
    assert value not in caught.value.render()


def test_a_file_that_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    for name in ("nothing", "empty"):
        (tmp_path / "empty").write_text("")
        with pytest.raises(ConfigError, match=name):
            find_token(tmp_path, {}, token_file=name)


def test_a_line_that_is_no_assignment_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("DISCORD_TOKEN=x\nthis is = not ' one\n")
    assert find_token(tmp_path, {}).value == "x"
    err = capsys.readouterr().err
    assert err == f"warning: {tmp_path / '.env'}:2 is not NAME=value; it is left out\n"


def test_a_token_has_no_readable_form() -> None:
    token = Token("secret-value", "the variable X")
    assert "secret-value" not in f"{token!r} {token}"
