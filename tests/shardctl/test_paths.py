"""Names and folders of a fleet, and what is said of those that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shardctl import paths
from shardctl.errors import PathError


def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "run").mkdir(exist_ok=True)
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


def test_a_fleet_is_named_after_its_folder_and_the_hash_of_its_path(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "My Bot!", tmp_path / "b" / "My Bot!"
    assert paths.fleet_name(one).startswith("my-bot-")
    assert paths.fleet_name(one) != paths.fleet_name(two)
    assert paths.fleet_name(one) == paths.fleet_name(one)
    assert paths.check_fleet_name(paths.fleet_name(Path("/"))).startswith("bot-")


@pytest.mark.parametrize("name", ["", "-x", "a/b", "../x", "A", "a" * 65, "x y"])
def test_a_name_that_is_no_folder_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(PathError) as caught:
        paths.check_fleet_name(name)
    assert caught.value.exit_code == 2


def test_folders_are_made_for_us_alone(tmp_path: Path) -> None:
    fleet = paths.fleet_paths("bot", env(tmp_path))
    paths.create_folders(fleet)
    paths.create_folders(fleet)
    for folder in (fleet.data_dir, fleet.logs_dir, fleet.run_dir):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert fleet.endpoint == f"ipc://{tmp_path}/run/shardctl/bot/broker.sock"


def test_a_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    fleet = paths.fleet_paths("bot", env(tmp_path))
    fleet.data_dir.mkdir(parents=True)
    fleet.data_dir.chmod(0o777)
    paths.create_folders(fleet)
    assert fleet.data_dir.stat().st_mode & 0o777 == 0o700


def test_a_relative_variable_is_ignored() -> None:
    root = paths.data_root({"XDG_STATE_HOME": "here", "HOME": "/home/x"})
    assert root == Path("/home/x/.local/state/shardctl")


def test_without_a_runtime_folder_the_sockets_go_to_tmp() -> None:
    expected = Path(f"/tmp/shardctl-{os.geteuid()}")
    assert paths.run_root({}) == expected
    assert paths.run_root({"XDG_RUNTIME_DIR": "/does/not/exist"}) == expected


def test_a_long_path_gets_a_short_hashed_folder(tmp_path: Path) -> None:
    long = tmp_path / ("r" * 100)
    long.mkdir()
    one = paths.fleet_paths("bot", {"XDG_RUNTIME_DIR": str(long)})
    two = paths.fleet_paths("bot2", {"XDG_RUNTIME_DIR": str(long)})
    assert paths.socket_fits(one.run_dir)
    assert one.run_dir.parent == Path(f"/tmp/shardctl-{os.geteuid()}")
    assert one.run_dir != two.run_dir


def test_a_socket_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    fleet = paths.FleetPaths("bot", tmp_path / "data", tmp_path / ("r" * 120))
    with pytest.raises(PathError, match=r"takes 10\d") as caught:
        paths.create_folders(fleet)
    assert caught.value.code == "E_SOCKET_PATH"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    fleet = paths.fleet_paths("bot", env(tmp_path))
    fleet.data_dir.parent.mkdir(parents=True)
    fleet.data_dir.write_text("")
    with pytest.raises(PathError) as caught:
        paths.create_folders(fleet)
    assert caught.value.code == "E_NOT_A_FOLDER"
    assert str(fleet.data_dir) in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    fleet = paths.fleet_paths("bot", env(tmp_path))
    fleet.data_dir.mkdir(parents=True)
    os.chown(fleet.data_dir, 12345, 12345)
    with pytest.raises(PathError) as caught:
        paths.create_folders(fleet)
    assert caught.value.code == "E_NOT_OURS"
    assert "12345" in caught.value.message


def test_a_planted_link_in_tmp_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PathError):
        paths.create_private(tmp_path / "link", follow_symlinks=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PathError) as caught:
        paths.create_private(tmp_path / "closed" / "x")
    assert caught.value.code == "E_PERMISSION"


MOUNTS = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /home rw - nfs4 host:/home rw
31 30 0:41 / /home/with\\040space rw - xfs /dev/vdb rw
32 22 0:42 / /homely rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/x", None),
        ("/home/me", "nfs4"),
        ("/home", "nfs4"),
        ("/home/with space/x", None),
        ("/homely/x", None),
    ],
)
def test_a_network_file_system_is_recognised(folder: str, kind: str | None) -> None:
    assert paths.network_file_system(Path(folder), MOUNTS) == kind


def test_known_fleets_are_those_with_a_record(tmp_path: Path) -> None:
    environ = env(tmp_path)
    assert paths.known_fleets(environ) == []
    for name in ("b", "a"):
        fleet = paths.fleet_paths(name, environ)
        paths.create_folders(fleet)
        fleet.record_file.write_text("{}")
    paths.create_folders(paths.fleet_paths("c", environ))
    assert paths.known_fleets(environ) == ["a", "b"]
