"""``python -m fuzz``: random problems put to the compiled kernels, each checked, until the time is over.

Trials run in a process of their own. If it dies, or a result is wrong, the number of the trial is reported, and
``python -m fuzz --first NUMBER --count 1`` repeats it. With ``--sanitize`` the kernels are compiled with
AddressSanitizer and UndefinedBehaviorSanitizer first (once: into build/sanitized).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuzz.sanitized import sanitized_environment

TESTS = Path(__file__).parents[1]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial (default: 0)")
    parser.add_argument("--count", type=int, help="how many trials")
    parser.add_argument("--seconds", type=float, help="how long")
    parser.add_argument("--sanitize", action="store_true", help="with kernels that check themselves")
    arguments = parser.parse_args(argv)
    if (arguments.count is None) == (arguments.seconds is None):
        parser.error("one of --count and --seconds is needed")
    return arguments


def supervise(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs trials in a process of their own, and says in which one it ended, if it failed."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    *_, last = ["no trial", *done.stdout.splitlines()]
    if done.returncode == 0:
        sys.stdout.write(f"{last}\n")
        return 0
    sys.stderr.write(f"fuzz: exit status {done.returncode} in {last}; again: --first {last.split()[1]} --count 1\n")
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trials and gives the exit code."""
    arguments = _arguments(argv)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    if arguments.sanitize:
        environment |= sanitized_environment(environment)
    limit = ["--count", str(arguments.count)] if arguments.count else ["--seconds", str(arguments.seconds)]
    command = [sys.executable, "-m", "fuzz.trials", "--first", str(arguments.first), *limit]
    return supervise(command, environment)


if __name__ == "__main__":
    sys.exit(main())
