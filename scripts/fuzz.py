#!/usr/bin/env python3
"""Run the fuzz tests with new seeds until SEGA_FUZZ_SECONDS (600) have passed.

    SEGA_FUZZ_SECONDS=3600 scripts/fuzz.py [options of pytest]

The seed of each round is printed; that of a failure brings it back:
pytest test/fuzz --hypothesis-profile=long --hypothesis-seed=SEED. What was found becomes a test of its own.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(options: list[str]) -> int:
    """Return pytest's status of the first round that failed, else 0; the last round is cut short."""
    seconds = float(os.environ.get('SEGA_FUZZ_SECONDS', '600'))
    end, rounds = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        rounds += 1
        seed = random.SystemRandom().randrange(2**32)
        print(f'round {rounds}, seed {seed}, {left:.0f} s left', flush=True)
        command = [sys.executable, '-m', 'pytest', '-q', 'test/fuzz', '--hypothesis-profile=long', f'--hypothesis-seed={seed}',
                   '--timeout=3600', '-p', 'no:cacheprovider', *options]
        try:
            status = subprocess.run(command, cwd=ROOT, timeout=left, check=False).returncode
        except subprocess.TimeoutExpired:
            break
        if status:
            print(f'failed with seed {seed}')
            return status
    print(f'{rounds} rounds in {seconds:.0f} s without a finding')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
