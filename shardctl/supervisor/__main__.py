"""`python -P -m shardctl.supervisor [--foreground] [--no-quotes] FLEET.JSON`

Started by `shardctl start`, which has made the folders and the launch record and has put
the token into the environment. Exit codes: that of the fleet's end; 70 and a traceback
for a bug; 77 where another supervisor holds the fleet.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from shardctl.launch import Command, LaunchError, Record, load_record
from shardctl.supervisor.journal import Lock, read_note
from shardctl.supervisor.loop import Loop

EXIT_REFUSED: Final = 77
EXIT_CONFIG: Final = 78
DISPLAY_MODULE: Final = "shardctl.cli.progress"


def main() -> int:
    """Run one fleet; returns the exit code."""
    options = _parser().parse_args()
    try:
        record = load_record(options.record)
    except LaunchError as error:
        print(f"error[E_RECORD]: {error}", file=sys.stderr)
        return EXIT_CONFIG
    lock = Lock.handed_over(Path(record.data_dir), os.environ)
    if not lock.take():
        note = read_note(Path(record.run_dir)) or {}
        print(
            f"error[E_RUNNING]: the fleet {record.fleet} runs already "
            f"(supervisor pid {note.get('pid', 'unknown')}).\n"
            f"  hint: shardctl status --fleet {record.fleet}",
            file=sys.stderr,
        )
        return EXIT_REFUSED
    os.chdir("/")
    display = _display(record, options.record) if options.foreground else None
    loop = Loop(
        record,
        options.record,
        os.environ,
        foreground=options.foreground,
        quotes=not options.no_quotes,
    )
    return loop.run(display).exit_code


def _display(record: Record, record_file: Path) -> Command:
    argv = [record.python, "-P", "-m", DISPLAY_MODULE, str(record_file)]
    return Command(argv, dict(os.environ), "/")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shardctl.supervisor")
    parser.add_argument("record", type=Path, metavar="FLEET.JSON")
    parser.add_argument("--foreground", action="store_true", help="report to this terminal")
    parser.add_argument("--no-quotes", action="store_true", help="no lines of children's logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
