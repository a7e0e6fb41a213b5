"""The golden numbers from the command line, in the root of the repository.

python -m tests.golden            compare with the record
python -m tests.golden --record   record anew
"""

from __future__ import annotations

import argparse
import sys
import warnings

from tests.golden.cases import CASES
from tests.golden.recording import PATH, Record, differences, environment


def main() -> int:
    """Record, or compare and say what differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description="Golden numbers of mfpde.")
    parser.add_argument("--record", action="store_true", help=f"write {PATH.name} instead of comparing with it")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    found = Record(environment(), {name: case.outcome() for name, case in CASES.items()})
    if arguments.record:
        found.write(PATH)
        print(f"{len(found.cases)} cases recorded in {PATH}")
        return 0
    recorded = Record.read(PATH)
    bits = found.environment == recorded.environment
    print("compared bit for bit" if bits else "another machine or other packages: compared to tolerances")
    failed = 0
    for name in sorted(found.cases.keys() | recorded.cases.keys()):
        said = differences(found.cases.get(name), recorded.cases.get(name), bits)
        failed += bool(said)
        for line in said:
            print(f"{name}: {line}")
    print(f"{failed} of {len(found.cases)} cases differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
