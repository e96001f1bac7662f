"""What a person sees when a command fails, and the number it ends with."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from shardctl.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_SOFTWARE,
    EXIT_USAGE,
    ShardctlError,
)


def exit_code_of(run: Callable[[], Any]) -> int:
    """Run a command; show what went wrong on stderr; return the process's exit code."""
    try:
        code = run()
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.UsageError as error:
        _show(_usage(error))
        return EXIT_USAGE
    except click.ClickException as error:
        _show(ShardctlError(error.format_message()))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except ShardctlError as error:
        _show(error)
        return error.exit_code
    except OSError as error:
        return _system(error)
    except Exception as error:
        return _bug(error)
    return code if isinstance(code, int) else EXIT_OK


def _show(error: ShardctlError) -> None:
    click.echo(error.render(), err=True)


_PLAIN: Final = (
    (re.compile(r"is not a valid integer( range)?\b"), "is not a whole number"),
    (re.compile(r"is not a valid float( range)?\b"), "is not a number"),
    (re.compile(r"is not in the range ([\d.]+)<=x<=([\d.]+)"), r"is not between \1 and \2"),
    (re.compile(r"is not in the range x>=([\d.]+)"), r"is less than \1"),
)


_NEGATIVE: Final = re.compile(r"-\.?[0-9]")


def _plain(text: str) -> str:
    """The message of the library in the words of people who do not program."""
    for pattern, words in _PLAIN:
        text = pattern.sub(words, text)
    return text


def _system(error: OSError) -> int:
    """The system refused something that no better error names: a full disk, a closed pipe."""
    _give_up_stdout()
    if isinstance(error, BrokenPipeError):
        return EXIT_FAILED  # the reader has seen enough
    if os.environ.get("SHARDCTL_DEBUG") == "1":
        traceback.print_exc(file=sys.stderr)
    name = f"{error.filename}: " if error.filename else ""
    _show(
        ShardctlError(
            f"{name}{error.strerror or type(error).__name__}.",
            consequence="The system refused it; the command ended early.",
            hint="SHARDCTL_DEBUG=1 shows where.",
            code="E_SYSTEM",
        )
    )
    return EXIT_FAILED


def _give_up_stdout() -> None:
    """What cannot be written now cannot at the interpreter's end either, which would say so."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _usage(error: click.UsageError) -> ShardctlError:
    path = error.ctx.command_path if error.ctx is not None else "shardctl"
    usage = error.ctx.get_usage() if error.ctx is not None else ""
    hint = f"{path} --help"
    if isinstance(error, click.NoSuchOption) and _NEGATIVE.match(error.option_name):
        hint = f"a number below zero stands behind `--`: {path} ... -- -5"
    return ShardctlError(
        _plain(error.format_message()),
        consequence=usage,
        hint=hint,
        code="E_USAGE",
        exit_code=EXIT_USAGE,
    )


def _bug(error: Exception) -> int:
    if os.environ.get("SHARDCTL_DEBUG") == "1":
        traceback.print_exc(file=sys.stderr)
        return EXIT_SOFTWARE
    where = _write_report(error)
    _show(
        ShardctlError(
            f"a bug in shardctl: {type(error).__name__}.",
            consequence=f"The command ended early. The details are in {where}.",
            hint="SHARDCTL_DEBUG=1 shows them here; please report them.",
            code="E_BUG",
        )
    )
    return EXIT_SOFTWARE


def _write_report(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    token = os.environ.get("DISCORD_TOKEN")
    if token:
        text = text.replace(token, "[token]")
    handle, name = tempfile.mkstemp(prefix="shardctl-bug-", suffix=".log")
    os.close(handle)
    Path(name).write_text(text)
    return name
