"""A fit on disk: written so that a kill leaves the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pysciml._version import __version__
from pysciml.errors import InvalidInputError
from pysciml.fit.trajectory import Trajectory

FORMAT = 2


class Checkpoint:
    """Where and how often a fit is saved, and what must be the same for it to go on.

    Args:
        path: the file. every: epochs between saves. resume: True goes on from the file if it is there, False writes
            over it, None refuses to.

    Raises:
        InvalidInputError: no such folder, a file nobody said what to do with, an interval that is no whole number.
    """

    def __init__(self, path: str | os.PathLike, every: int, resume: bool | None):
        self.path, self.every, self.resume = Path(path).expanduser(), every, resume
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidInputError("checkpoint_every must be a whole number of epochs, 1 or more.",
                                    got=f"checkpoint_every={every!r}", fix="checkpoint_every=10")  # fmt: skip
        if not self.path.parent.is_dir():
            raise InvalidInputError("the checkpoint's folder does not exist.", got=str(self.path.parent),
                                    fix=f"pathlib.Path({str(self.path.parent)!r}).mkdir(parents=True)")  # fmt: skip
        if self.path.is_dir():
            raise InvalidInputError(
                "the checkpoint must be a file.", got=f"the folder {self.path}", fix=f"{self.path / 'fit.pt'}"
            )
        if resume is None and self.path.exists():
            raise InvalidInputError("the checkpoint file exists already.", got=str(self.path),
                                    fix="resume=True goes on with that fit, resume=False writes over it")  # fmt: skip

    def save(self, content: dict[str, Any]) -> None:
        """Replaces the file in one step."""
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, "pysciml": __version__, **content}, file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may keep the new name and lose what is in it
        os.replace(temporary, self.path)

    def load(self, setup: dict[str, Any]) -> dict[str, Any] | None:
        """What was saved, or None when there is nothing to go on from.

        Raises:
            InvalidInputError: not a checkpoint, or that of a fit set up in another way; says which part differs.
        """
        if not self.resume or not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
            raise self._refusal("cannot be read", f"{type(error).__name__}: {error}"[:200]) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise self._refusal("is not one that this version of pysciml writes", f"a {type(content).__name__}")
        for name, value in setup.items():
            if content["setup"].get(name) != value:
                raise self._refusal(
                    f"belongs to another fit: the {name} differs",
                    f"{content['setup'].get(name)!r:.200}",
                    f"{value!r:.200}",
                )
        return content

    def _refusal(self, what: str, got: str, expected: str | None = None) -> InvalidInputError:
        return InvalidInputError(f"the checkpoint {self.path} {what}.", got=got, expected=expected,
                                 fix="resume=False starts anew and writes over it; another path keeps it")  # fmt: skip


def fingerprint(every: Sequence[Trajectory]) -> str:
    """A digest of times, data and weights: a fit must not go on with others."""
    digest = hashlib.sha256()
    for x in every:
        for leaf in (x.t, *x.data, *(x.weights or ())):
            digest.update(str((leaf.dtype, tuple(leaf.shape))).encode())
            digest.update(leaf.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def random_state(own: torch.Generator) -> dict[str, Any]:
    """The state of all random numbers a loss may draw, and of the fit's own, in types that torch loads safely."""
    version, words, gauss = random.getstate()
    # Users' code draws from this one.
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {"torch": torch.get_rng_state(), "own": own.get_state(), "python": [version, list(words), gauss],
             "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest]}  # fmt: skip
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any], own: torch.Generator) -> None:
    """Undoes what was drawn since `random_state`."""
    torch.set_rng_state(state["torch"])
    own.set_state(state["own"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
