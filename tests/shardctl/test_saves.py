"""Which files count as saved."""

from __future__ import annotations

import os
from pathlib import Path

from shardctl.saves import Saves


def test_what_was_saved_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("1")
    (tmp_path / "cogs").mkdir()
    saves = Saves(tmp_path)
    assert saves.changed() == []
    (tmp_path / "cogs" / "fun.py").write_text("2")
    os.utime(tmp_path / "main.py", ns=(1, 1))
    (tmp_path / ".env").write_text("A=1")
    assert [p.name for p in saves.changed()] == [".env", "fun.py", "main.py"]
    assert saves.changed() == []
    (tmp_path / "main.py").unlink()
    assert [p.name for p in saves.changed()] == ["main.py"]


def test_what_is_no_source_is_not_watched(tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    for name in ("__pycache__/a.py", ".venv/b.py", "node_modules/c.py", "data.sqlite", "x.log"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert saves.changed() == []
