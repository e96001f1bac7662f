"""`shardctl` and `python -m shardctl`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; never returns."""
    from shardctl.cli import cli

    cli(prog_name="shardctl")


if __name__ == "__main__":
    main()
