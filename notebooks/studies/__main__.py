"""`python -m notebooks.studies recovery` or `table`: counts what the notebooks claim, into notebooks/results."""

from __future__ import annotations

import argparse

import torch


def main() -> None:
    """Runs the study that the command line names."""
    torch.set_num_threads(1)  # of tensors this small, more threads only wait for each other
    parser = argparse.ArgumentParser(prog="python -m notebooks.studies")
    parser.add_argument("study", choices=("recovery", "table"))
    parser.add_argument("--seeds", type=int, default=10, help="data sets for each level of noise, of `recovery`")
    parser.add_argument("--engine", choices=("julia", "embedded"), help="of `recovery`; the table is of both")
    given = parser.parse_args()
    if given.study == "recovery":
        from notebooks.studies import recovery

        recovery.main(given.seeds, given.engine)
    else:
        from notebooks.studies import laws

        laws.main()


if __name__ == "__main__":
    main()
