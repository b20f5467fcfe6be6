"""The loop: stages of epochs, setbacks survived, the best kept, and a state from which it can go on."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from pysciml.errors import PySciMLWarning
from pysciml.fit.checkpoint import random_state, set_random_state
from pysciml.fit.errors import FitError, Setback
from pysciml.fit.evaluate import Evaluation, evaluate
from pysciml.fit.history import History
from pysciml.fit.objective import Objective
from pysciml.fit.parameters import Named, put, values_of
from pysciml.fit.progress import Silence
from pysciml.fit.settings import Settings
from pysciml.fit.stage import Stage, needs_closure
from pysciml.fit.steps import LineSearch, batch_steps, whole_step

_QUIET_EPOCHS = 3


class Run:
    """One fit on its way.

    `saved` holds everything the next epoch depends on, taken after each epoch. A setback goes back to it, a
    checkpoint writes it, and a resumed run starts from it: one mechanism, so that all three agree.

    Args:
        objective: the loss. named: the fitted tensors. settings: how. show: where progress goes.
        result: makes the FitResult of this run; called when it ends.
        setup: what a checkpoint must agree with.
    """

    def __init__(self, objective: Objective, named: Named, settings: Settings, show: Silence,
                 result: Callable[[Run], Any], setup: dict[str, Any]):  # fmt: skip
        self.objective, self.settings, self.show, self._result, self._setup = objective, settings, show, result, setup
        self.own = list(named.values())
        self.tensors = self.own + list(objective.learned_states().values())
        self.history, self.failures, self.stopped = History(), 0, "running"
        self.best: dict[str, Any] = {}
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.index, self.epoch, self.reason = 0, 0, ""
        self.stale, self.anchor, self.quiet, self.scale = 0, float("inf"), 0, 1.0
        self.saved: dict[str, Any] | None = None
        self.optimizer: Any = None
        self.scheduler: Any = None
        self.at: Evaluation = Evaluation(float("nan"), [])

    def run(self) -> Any:
        """Runs all stages and returns the result, with the best values in the tensors.

        Raises:
            FitError: no loss at the start, or too many setbacks in a row; has the result so far.
            Exception: whatever f or the loss raises, unchanged, after the best values and the checkpoint are in place.
        """
        checkpoint = self.settings.checkpoint
        content = checkpoint.load(self._setup) if checkpoint else None
        try:
            self._begin(content)
            while self.index < len(self.settings.stages) and self.stopped == "running":
                self._stage()
            if self.stopped == "running":
                self.stopped = self.reason or "epochs"
        except KeyboardInterrupt:
            if not self.best:
                raise
            self.stopped = "interrupted"
        except FitError as error:
            self._close_down()
            if self.best:
                self.stopped = "solve failed"
                error.result = self._result(self)
            raise
        except BaseException:
            self._close_down()
            raise
        finally:
            self.show.close()
        self._close_down()
        return self._result(self)

    @property
    def stage(self) -> Stage:
        return self.settings.stages[self.index]

    @property
    def active(self) -> list[torch.Tensor]:
        """What the present stage fits: the segments' states take no part in solving straight through."""
        return self.tensors if self.objective.shoots else self.own

    def _close_down(self) -> None:
        if self.saved is not None:
            self.history.truncate(self.saved["count"])  # an epoch that was cut off is not one
            self._save()
        if self.best:
            put(self.tensors, self.best["values"])
        for x in self.tensors:
            x.grad = None

    # Beginning, and beginning again from a checkpoint.

    def _begin(self, content: dict[str, Any] | None) -> None:
        total = sum(stage.epochs for stage in self.settings.stages)
        if content is None:
            self.show.start(total, 0)
            self.objective.enter(self.stage)
            self._first_look()
            return
        self.history, self.best, self.failures = History(**content["history"]), content["best"], content["failures"]
        self.show.start(total, len(self.history) - 1)
        self.saved = content["state"]
        self.index, self.epoch, self.reason = (self.saved[name] for name in ("index", "epoch", "reason"))
        self.objective.look(self.saved["shoots"], self.saved["horizon"])
        self._build()
        self._restore()

    def _first_look(self) -> None:
        start = time.perf_counter()
        self.objective.solver.take()
        try:
            self.at = evaluate(self.objective, self.active)
        except Setback as setback:
            raise FitError(
                f"the loss cannot be computed at the start: {setback.reason}", got="no loss to begin with",
                fix="start from other values, fit shorter times first, or shooting=pysciml.MultipleShooting(5)",
            ) from setback.cause  # fmt: skip
        self._record(self.at.norm, 0.0, 0, start)

    def _stage(self) -> None:
        """Runs the present stage to its end, or what is left of it, and moves on to the next."""
        resumed = self.optimizer is not None
        if self.stage.epochs > 0 and not resumed:
            self._enter()
        while self.epoch < self.stage.epochs and not self.reason and self.stopped == "running":
            self._epoch()
        if self.stopped == "running" and self.index + 1 < len(self.settings.stages):
            self.reason, self.epoch = "", 0
            self.index, self.optimizer = self.index + 1, None
        else:
            self.stopped = self.stopped if self.stopped != "running" else self.reason or "epochs"

    def _enter(self) -> None:
        """Starts the present stage from the best values so far."""
        changed = self.objective.enter(self.stage)
        if self.index > 0:
            put(self.tensors, self.best["values"])
            try:
                self.at = evaluate(self.objective, self.active)
            except Setback as setback:
                warnings.warn(
                    f"the fit stops before {self.stage!r}: {setback.reason}\nThe best values so far are kept.",
                    PySciMLWarning,
                    stacklevel=5,
                )
                self.stopped = "solve failed"
                return
        if changed and not self.objective.split.validates:
            self._keep_best(self.at.loss, float("nan"))  # losses with jumps or of other times cannot be compared
        self.stale, self.quiet, self.anchor = 0, 0, self._monitor(self.best["loss"], self.best["val_loss"])
        self.scale = 1.0 / abs(self.at.loss) if abs(self.at.loss) > 1e-200 else 1.0
        self._build()
        self._capture()

    def _build(self) -> None:
        self.optimizer = self.stage.build(self.active)
        self.scheduler = self.stage.scheduler(self.optimizer) if self.stage.scheduler else None
        self.closure = needs_closure(self.optimizer)

    # One epoch.

    def _epoch(self) -> None:
        start, before = time.perf_counter(), self.failures
        self.objective.solver.take()
        for attempt in range(1, self.settings.max_failures + 1):
            try:
                norm, lr = self._advance()
                break
            except Setback as setback:
                self.failures += 1
                last = setback
                self._restore(self.settings.backoff**attempt)
        else:
            raise self._gave_up(last) from last.cause
        self.epoch += 1
        self._record(norm, lr, self.failures - before, start)
        self._judge()
        self._capture()
        checkpoint = self.settings.checkpoint
        if checkpoint and (len(self.history) - 1) % checkpoint.every == 0:
            self._save()
        if self.settings.callback is not None and self.settings.callback(self.history) is True:
            self.stopped = "callback"

    def _advance(self) -> tuple[float, float]:
        """Makes the epoch's steps; the gradient's norm and the learning rate."""
        lr = float(self.optimizer.param_groups[0]["lr"])
        size = self.settings.batch_size
        if self.closure:
            self._search()
        elif size is not None and size < len(self.objective.split.train):
            order = torch.randperm(len(self.objective.split.train), generator=self.generator).tolist()
            batches = [order[i : i + size] for i in range(0, len(order), size)]
            self.at, norm = batch_steps(self.optimizer, self.objective, self.active, batches, self.settings.clip)
            return norm, lr
        else:
            self.at = whole_step(self.optimizer, self.objective, self.active, self.at, self.settings.clip)
        return self.at.norm, lr

    def _search(self) -> None:
        search = LineSearch(self.objective, self.active, self.at, self.scale)
        before = self.at.loss
        try:
            self.at = search.step(self.optimizer)
        finally:
            self.failures += max(0, search.failures - (search.setback is not None and not search.moved))
        if not search.moved:
            self.optimizer.state.clear()  # once more from the steepest descent, before calling it converged
            self.quiet += _QUIET_EPOCHS - 1
        elif before - self.at.loss <= self.stage.tolerance * abs(before):
            self.quiet += 1
        else:
            self.quiet = 0

    def _record(self, norm: float, lr: float, failures: int, start: float) -> None:
        counts = self.objective.solver.take()
        val_loss = self.objective.validate()
        if not self.best or self._rank(self.at.loss, val_loss) < self._rank(self.best["loss"], self.best["val_loss"]):
            self._keep_best(self.at.loss, val_loss, len(self.history))
        self.history.append(
            stage=self.stage.name,
            loss=self.at.loss,
            val_loss=val_loss,
            lr=lr,
            grad_norm=norm,
            failures=failures,
            time=time.perf_counter() - start,
            **counts,
        )
        self.show.update(self.history, self.failures)

    def _keep_best(self, loss: float, val_loss: float, epoch: int | None = None) -> None:
        epoch = self.best["epoch"] if epoch is None else epoch
        self.best = {"loss": loss, "val_loss": val_loss, "epoch": epoch, "values": values_of(self.tensors)}

    def _monitor(self, loss: float, val_loss: float) -> float:
        return val_loss if self.objective.split.validates else loss

    def _rank(self, loss: float, val_loss: float) -> tuple[float, float]:
        """What the best has least of; while no forecast can be solved at all, the training loss decides."""
        return self._monitor(loss, val_loss), loss

    def _judge(self) -> None:
        """Whether the stage is over before its time, and the learning rate of the next epoch."""
        value = self._monitor(self.history.loss[-1], self.history.val_loss[-1])
        if self.scheduler is not None:
            plateau = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            self.scheduler.step(*([value] if plateau else []))
        if value < self.anchor - self.settings.min_delta:
            self.anchor, self.stale = value, 0
        else:
            self.stale += 1
        if self.closure and self.quiet >= _QUIET_EPOCHS:
            self.reason = "converged"
        elif self.settings.patience is not None and self.stale >= self.settings.patience:
            self.reason = "early stopping"

    # The state to go back to.

    def _capture(self) -> None:
        self.saved = {
            "index": self.index, "epoch": self.epoch, "reason": self.reason, "count": len(self.history),
            "shoots": self.objective.shoots, "horizon": self.objective.horizon,
            "values": values_of(self.tensors), "loss": self.at.loss,
            "gradients": self.at.gradients, "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "scheduler": copy.deepcopy(self.scheduler.state_dict()) if self.scheduler else None,
            "stale": self.stale, "anchor": self.anchor, "quiet": self.quiet, "scale": self.scale,
            "random": random_state(self.generator),
        }  # fmt: skip

    def _restore(self, backoff: float | None = None) -> None:
        """Goes back to `saved`; after a setback with smaller steps, and without the curvature that led astray."""
        assert self.saved is not None  # noqa: S101 - for the type checker
        state = self.saved
        put(self.tensors, state["values"])
        self.at = Evaluation(state["loss"], state["gradients"])
        # load_state_dict keeps the tensors it is given, and the next step would change them in place.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(copy.deepcopy(state["scheduler"]))
        self.stale, self.anchor, self.quiet, self.scale = (state[n] for n in ("stale", "anchor", "quiet", "scale"))
        set_random_state(state["random"], self.generator)
        if backoff is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = group["lr"] * backoff
            if self.closure:
                self.optimizer.state.clear()

    def _save(self) -> None:
        if self.settings.checkpoint is not None and self.saved is not None:
            self.settings.checkpoint.save({"setup": self._setup, "state": self.saved, "history": self.history.as_dict(),
                                           "best": self.best, "failures": self.failures})  # fmt: skip

    def _gave_up(self, last: Setback) -> FitError:
        tries = self.settings.max_failures
        return FitError(
            f"{tries} attempts in a row failed in epoch {len(self.history)} ({self.stage.name}): {last.reason}",
            got=f"learning rate down to {float(self.optimizer.param_groups[0]['lr']):.2g}",
            expected=f"the parameters hold the best so far, and so does error.result (loss {self.best['loss']:.6g})",
            fix="bound what f can do (a tanh on the network's output), or raise max_failures",
        )
