"""All benchmarks, or those named: `python -m benchmarks [case ...]`, or `make bench`."""

import sys
from importlib import import_module

CASES = ("lotka_volterra_ude", "stiff_ude", "cold_start")

if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        if case not in CASES:
            sys.exit(f"there is no benchmark {case!r}; there are {', '.join(CASES)}")
        print(f"\n== {case}: {import_module(f'benchmarks.{case}').__doc__}")
        import_module(f"benchmarks.{case}").main()
