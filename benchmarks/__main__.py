"""All benchmarks, or those named: `python -m benchmarks [case ...]`, or `make bench`.

And the table of gradients, of all problems or those named: `python -m benchmarks gradients [problem ...]`.
"""

import sys
from importlib import import_module

CASES = ("lotka_volterra_ude", "stiff_ude", "stochastic", "dde", "cold_start")
TABLE = "gradients"


def run(case: str, *names: str) -> None:
    print(f"\n== {case}: {import_module(f'benchmarks.{case}').__doc__}")
    import_module(f"benchmarks.{case}").main(*names)


if __name__ == "__main__":
    first, *others = sys.argv[1:] or CASES
    if first == TABLE:
        run(first, *others)
    else:
        for case in (first, *others):
            if case not in CASES:
                sys.exit(f"there is no benchmark {case!r}; there are {', '.join((*CASES, TABLE))}")
            run(case)
