"""``python -m broker``: what the supervisor starts. By hand it says what to type instead."""

from __future__ import annotations

import os
import sys

from broker import daemon
from broker.config import read_config
from broker.errors import EXIT_BUG, BrokerError
from broker.ports.folders import check_folder
from broker.ports.log import close_log, open_log


def main() -> int:
    """Returns the exit code: 0, 2 (by hand), 78 (configuration), 74 (the store gave up: to be
    started again), 70 (a bug of ours)."""
    try:
        config = read_config(os.environ)
        check_folder(config.data_dir, "data", local=False)
        log = open_log(config.data_dir / "logs", config.record.log_level, config.token)
    except BrokerError as error:
        print(error.text(), file=sys.stderr)
        return error.exit_code
    try:
        return daemon.run(config, log)
    except BrokerError as error:
        log.error("%s", error)
        print(error.text().replace(config.token, "[token]"), file=sys.stderr)
        return error.exit_code
    except Exception:
        log.critical("a bug of the broker ends it", exc_info=True)
        return EXIT_BUG
    finally:
        close_log(log)


if __name__ == "__main__":
    sys.exit(main())
