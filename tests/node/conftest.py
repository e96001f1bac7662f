"""What tests with a real node process play with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.fake_broker import FakeBroker
from tests.support.sandbox import sandbox_process


@pytest.fixture
def info(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A sandbox with the options of the module, ``SANDBOX``."""
    with sandbox_process(*request.module.SANDBOX) as found:
        yield found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FakeBroker]:
    """A broker that the test plays."""
    with FakeBroker(f"ipc://{tmp_path}/b.sock") as made:
        yield made
