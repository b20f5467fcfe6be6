"""All benchmarks: `python -m benchmarks`, or `make bench`."""

from benchmarks import lotka_volterra_ude

if __name__ == "__main__":
    lotka_volterra_ude.main()
