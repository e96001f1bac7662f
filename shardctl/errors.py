"""Errors of the command line, all under one root. Standard library only.

ShardctlError                  code, message, consequence, hint, exit code
+-- PathError                  a folder or socket path that cannot be used
+-- ConfigError                a bad value; names file, line, key and what is allowed
+-- NoBroker                   nobody answers on the fleet's socket
+-- Refused                    the broker answered with an error

Exit codes (docs: "Exit codes" in shardctl(1)); the names are those of sysexits.h where
it has one.
"""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_DEGRADED: Final = 3
EXIT_NOT_FOUND: Final = 4
EXIT_UNAVAILABLE: Final = 69
EXIT_SOFTWARE: Final = 70
EXIT_TEMPFAIL: Final = 75
EXIT_REFUSED: Final = 77
EXIT_CONFIG: Final = 78
EXIT_INTERRUPTED: Final = 130


class ShardctlError(Exception):
    """What failed (``message``), why and what follows (``consequence``), what to type next."""

    code = "E_FAILED"
    exit_code = EXIT_FAILED

    def __init__(
        self,
        message: str,
        *,
        consequence: str = "",
        hint: str = "",
        code: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.consequence = consequence
        self.hint = hint
        if code is not None:
            self.code = code
        if exit_code is not None:
            self.exit_code = exit_code

    def render(self) -> str:
        """The lines that a person reads, without a final newline."""
        lines = [f"error[{self.code}]: {self.message}"]
        lines += [f"  {line}" for line in self.consequence.splitlines()]
        lines += [f"  hint: {line}" for line in self.hint.splitlines()]
        return "\n".join(lines)


class PathError(ShardctlError):
    """A folder or a socket path that cannot be used."""

    code = "E_PATH"
    exit_code = EXIT_CONFIG


class ConfigError(ShardctlError):
    """A bad value in a file, a variable or a flag."""

    code = "E_CONFIG"
    exit_code = EXIT_CONFIG


class NoBroker(ShardctlError):
    """Nobody answers on the fleet's socket before the deadline."""

    code = "E_NO_BROKER"
    exit_code = EXIT_UNAVAILABLE


class Refused(ShardctlError):
    """The broker answered a request with an error."""

    code = "E_REFUSED"
    exit_code = EXIT_REFUSED
