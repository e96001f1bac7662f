"""What a person sees when a command fails, and the number it ends with."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from shardctl.errors import (
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
    except Exception as error:
        return _bug(error)
    return code if isinstance(code, int) else EXIT_OK


def _show(error: ShardctlError) -> None:
    click.echo(error.render(), err=True)


def _usage(error: click.UsageError) -> ShardctlError:
    path = error.ctx.command_path if error.ctx is not None else "shardctl"
    usage = error.ctx.get_usage() if error.ctx is not None else ""
    return ShardctlError(
        error.format_message(),
        consequence=usage,
        hint=f"{path} --help",
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
