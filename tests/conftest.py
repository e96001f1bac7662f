"""How the tests are dealt to the workers of `make test`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final

import pytest

WHOLE: Final = (
    "tests/fleet/",
    "tests/packaging/",
    "tests/store/test_records_survival.py",
    "tests/sandbox/test_foreign.py",
)
"""Their files go to one worker each: what a module starts once (a fleet, an environment with the
wheel) would be started by both. All others are dealt test by test."""


def pytest_configure() -> None:
    """A shell that runs the tests in the background has them and all they start ignore Ctrl-C,
    with which some end what they started."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Callable[..., Any]) -> Any:
    """In place of the marks of xdist's own groups: pytest 9.2 lets it change no test's name, in
    which it keeps the group, and every test would go its own way. Files come first."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path.startswith(WHOLE) else nodeid

    return ByFile(config, log)
