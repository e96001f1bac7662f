"""Errors of the daemon that end it. Each says what failed, why, and what to do next.

BrokerError                    code, hint, exit_code
+-- ByHand                     started without a supervisor
+-- ConfigError                the launch record or the environment: exit code 78
|   +-- FolderError            the data or run folder cannot be used
|   +-- LockedError            another broker runs on the data folder
|   +-- EndpointError          the socket cannot be bound
+-- SupervisorSilent           the supervisor said nothing at the start
"""

from __future__ import annotations

from typing import Final

EXIT_USAGE: Final = 2
EXIT_BUG: Final = 70
EXIT_CONFIG: Final = 78


class BrokerError(Exception):
    """Root of the errors that end the daemon."""

    code = "E_BROKER"
    exit_code = 1

    def __init__(self, message: str, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code

    def text(self) -> str:
        """The error for people."""
        lines = [f"error[{self.code}]: {self}"]
        return "\n".join([*lines, f"  hint: {self.hint}"] if self.hint else lines)


class ByHand(BrokerError):
    """The daemon was started without its supervisor."""

    code = "E_BY_HAND"
    exit_code = EXIT_USAGE


class ConfigError(BrokerError):
    """What the daemon was given cannot be used."""

    code = "E_CONFIG"
    exit_code = EXIT_CONFIG


class FolderError(ConfigError):
    """A folder that the daemon cannot use."""

    code = "E_DATA_FOLDER"


class LockedError(ConfigError):
    """Another broker holds the data folder."""

    code = "E_LOCKED"


class EndpointError(ConfigError):
    """The socket cannot be bound."""

    code = "E_ENDPOINT"


class SupervisorSilent(BrokerError):
    """No hello from the supervisor."""

    code = "E_SUPERVISOR"
