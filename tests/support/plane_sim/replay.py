"""``python -m tests.support.plane_sim.replay SEED [--tight]``: one seed again, with its trace."""

from __future__ import annotations

import argparse

from tests.support.plane_sim.scenario import Failed, played


def main() -> None:
    """Plays it and prints what was seen last."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--tight", action="store_true", help="with limits that are soon reached")
    parser.add_argument("--lines", type=int, default=200, help="of the trace")
    asked = parser.parse_args()
    with played(tight=asked.tight) as play:
        try:
            fleet = play(asked.seed)
        except Failed as failed:
            print(failed)
            raise SystemExit(1) from None
    for at, text in list(fleet.world.trace)[-asked.lines :]:
        print(f"{at:12.6f} {text}")
    print(f"seed {asked.seed} holds; fingerprint {fleet.world.digest & (1 << 64) - 1:016x}")


if __name__ == "__main__":
    main()
