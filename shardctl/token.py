"""Where the bot's token comes from. Never a flag: argument lists are public on a machine."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from shardctl.errors import ConfigError
from shardctl.launch import TOKEN_VARIABLE

ENV_FILE: Final = ".env"
CREDENTIAL_NAME: Final = "discord_token"
"""systemd: LoadCredential=discord_token:/path (systemd.exec(5), "Credentials")."""
TOKEN_FILE_MAX_BYTES: Final = 4096
_TOKEN: Final = re.compile(r"[!-~]+")


class Token(NamedTuple):
    """The token and where it was found. It has no readable form, so none can leak."""

    value: str
    source: str

    def __repr__(self) -> str:
        return f"Token(from {self.source})"


def find_token(
    folder: Path,
    environ: Mapping[str, str],
    *,
    token_env: str = TOKEN_VARIABLE,
    token_file: str | None = None,
    target: str | None = None,
) -> Token:
    """The token of the bot in ``folder``: environment, .env, token_file, systemd credential.

    Raises ConfigError naming each place when none has it; ``target`` is what `start` was
    given, for its hint.
    """
    found = (
        _from_environment(environ, token_env)
        or _from_env_file(folder / ENV_FILE, token_env)
        or _from_token_file(folder, token_file)
        or _from_credential(environ)
    )
    if found is None:
        raise _missing(folder, token_env, token_file, target)
    return _checked(found)


def _from_environment(environ: Mapping[str, str], name: str) -> Token | None:
    value = environ.get(name, "").strip()
    return Token(value, f"the variable {name}") if value else None


def _from_env_file(path: Path, name: str) -> Token | None:
    if not path.is_file():
        return None
    import dotenv

    with _lines_left_out(path):
        value = (dotenv.dotenv_values(path).get(name) or "").strip()
    return Token(value, f"{name} in {path}") if value else None


@contextlib.contextmanager
def _lines_left_out(path: Path) -> Iterator[None]:
    """Says in our words which lines of ``path`` the library cannot read."""

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            where = f"{path}:{record.args[0]}" if isinstance(record.args, tuple) else str(path)
            print(f"warning: {where} is not NAME=value; it is left out", file=sys.stderr)

    logger, teller = logging.getLogger("dotenv.main"), Teller()
    logger.addHandler(teller)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(teller)
        logger.propagate = propagate


def _from_token_file(folder: Path, token_file: str | None) -> Token | None:
    return None if token_file is None else _read(folder / Path(token_file).expanduser())


def _from_credential(environ: Mapping[str, str]) -> Token | None:
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(credentials) / CREDENTIAL_NAME if credentials else None
    return _read(path) if path is not None and path.is_file() else None


def _read(path: Path) -> Token:
    try:
        with path.open("rb") as file:
            value = file.read(TOKEN_FILE_MAX_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"cannot read the token from {path}: {reason}.",
            consequence="Without a token no shard can IDENTIFY; nothing was started.",
            hint="the file holds the token alone, readable by this user.",
            code="E_TOKEN",
        ) from None
    return Token(value, str(path))


def _checked(token: Token) -> Token:
    if _TOKEN.fullmatch(token.value):
        return token
    raise ConfigError(
        f"what {token.source} holds is no token: it is empty, or has spaces or lines.",
        consequence="Discord would refuse it; nothing was started.",
        hint="copy it anew from https://discord.com/developers/applications, Bot, Reset Token.",
        code="E_TOKEN",
    )


def _missing(
    folder: Path, token_env: str, token_file: str | None, target: str | None
) -> ConfigError:
    start = "shardctl start" + (f" {shlex.quote(target)}" if target else "")
    places = [
        f"the variable {token_env} (token_env names another one)",
        f"{token_env}=... in {folder / ENV_FILE}",
        f"token_file in shardctl.toml: {token_file or 'not set'}",
        f"a systemd credential, $CREDENTIALS_DIRECTORY/{CREDENTIAL_NAME}",
    ]
    listed = "\n".join(f"- {place}" for place in places)
    return ConfigError(
        "no token for Discord was found.",
        consequence=f"Looked at:\n{listed}\nNothing was started.",
        hint=f"echo '{token_env}=your token' >> {folder / ENV_FILE}\n"
        f"without a Discord account: {start} --sandbox",
        code="E_TOKEN",
    )
