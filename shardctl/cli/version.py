"""`shardctl version`."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

import click

from shardctl import __version__
from shardctl.cli.common import echo_json, json_option

_SHOWN: Final = ("disnake", "pyzmq", "msgspec", "lmdb", "aiohttp")


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the versions of shardctl, its protocol, Python, and what it stands on."""
    from shard_node.wire.limits import PROTOCOL_VERSION

    packages = {name: _installed(name) for name in _SHOWN}
    if as_json:
        echo_json(
            {
                "shardctl": __version__,
                "protocol": PROTOCOL_VERSION,
                "python": platform.python_version(),
                "packages": packages,
            }
        )
        return
    click.echo(f"shardctl {__version__} (protocol {PROTOCOL_VERSION})")
    click.echo(f"python {platform.python_version()}")
    for name, found in packages.items():
        click.echo(f"{name} {found or 'not installed'}")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
