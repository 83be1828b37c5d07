"""As many hostile cases as one has time for: python -m tests.hostile.long --cases=100000 [--kind=rows]

Prints every case that fails as (kind, seed), which `--kind=KIND --first=SEED --cases=1` repeats. Exits with 1
if any did.
"""

import argparse
import logging
import sys
import time

from tests.hostile.kinds import KINDS
from tests.hostile.oracle import problems


def main() -> int:
    """Runs the seeds from `--first` on, of all kinds in the proportions of the short run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    chosen = {options.kind: KINDS[options.kind]} if options.kind else KINDS
    total = sum(count for _, count in chosen.values())
    failed = 0
    for kind, (make, count) in chosen.items():
        start, cases = time.monotonic(), max(1, options.cases * count // total)
        found = problems(kind, make, range(options.first, options.first + cases))
        print(f"{kind}: {cases} cases, {len(found)} problems, {time.monotonic() - start:.0f} s", flush=True)
        for problem in found:
            print(f"  {problem}", flush=True)
        failed += len(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
