"""UDEModule under Lightning's own Trainer: the optimum of `fit`, checkpoints, workers, copies."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from processes import output
from torch.utils.data import DataLoader, TensorDataset

import pysciml as ps

pl = pytest.importorskip("lightning.pytorch")
from pysciml.lightning import UDEModule  # noqa: E402 - it needs lightning

F64 = torch.float64
T = torch.linspace(0.2, 4.0, 20, dtype=F64)
STARTS = torch.tensor([[1.0, 0.0], [2.0, 0.5], [0.5, 1.0], [1.0, 1.0]], dtype=F64)
TRUE = torch.tensor([1.0, 0.5], dtype=F64)
OPTIONS = {"reltol": 1e-8, "abstol": 1e-8, "engine": "embedded"}

# Lightning's advice on hardware and workers, and its own use of deprecated parts of torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:lightning.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning.*"),
]


class Chain(torch.nn.Module):
    """A decays to B, which decays."""

    def __init__(self, rates=(0.3, 0.9)):
        super().__init__()
        self.rates = torch.nn.Parameter(torch.tensor(rates, dtype=F64))

    def forward(self, t, u):
        first = self.rates[0] * u[0]
        return torch.stack([-first, first - self.rates[1] * u[1]])


def problem(f=None, u0=None):
    return ps.ODEProblem(Chain() if f is None else f, STARTS[0] if u0 is None else u0, (0.0, 4.0))


@functools.cache
def truth():
    """(4, 20, 2) trajectories of the four starts."""
    with torch.no_grad():
        return torch.stack([ps.solve(problem(Chain(TRUE.tolist()), u0), saveat=T, **OPTIONS).u for u0 in STARTS])


def noisy():
    return truth() + 0.05 * torch.randn(truth().shape, generator=torch.Generator().manual_seed(0), dtype=F64)


def loader(data, batch_size=4, **options):
    return DataLoader(TensorDataset(T.expand(4, -1), data, STARTS), batch_size=batch_size, **options)


def trainer(folder, epochs, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(max_epochs=epochs, default_root_dir=folder, **{**quiet, **options})


def lbfgs(params):
    return torch.optim.LBFGS(params, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14)


@pytest.mark.parametrize("engine", ["embedded", pytest.param("julia", marks=pytest.mark.julia)])
def test_it_ends_at_the_optimum_of_fit(engine, tmp_path):
    """Another optimizer's loop, another package's batches: the same rates to six digits."""
    options = {**OPTIONS, "engine": engine}
    module = UDEModule(problem(), optimizer=lbfgs, **options)
    trainer(tmp_path, 5).fit(module, loader(noisy()))
    f = Chain()
    result = ps.fit(
        [problem(f, u0) for u0 in STARTS], list(noisy()), T, stages=("LBFGS", 60), progress="off", **options
    )
    torch.testing.assert_close(module.f.rates.detach(), f.rates.detach(), rtol=1e-5, atol=1e-6)
    assert result.loss == pytest.approx(0.05**2, rel=0.2)
    assert (f.rates.detach() - TRUE).abs().max() < 0.1


def test_many_epochs_of_small_batches_with_validation_and_a_checkpoint(tmp_path):
    module = UDEModule(problem(), lr=0.05, **OPTIONS)
    run = trainer(tmp_path, 60)
    run.fit(module, loader(truth(), 2, shuffle=True), loader(truth(), 4))
    torch.testing.assert_close(module.f.rates.detach(), TRUE, rtol=0.02, atol=0)
    assert float(run.callback_metrics["val_loss"]) < 1e-4
    assert float(run.callback_metrics["train_loss"]) < 1e-4
    path = run.checkpoint_callback.best_model_path
    again = UDEModule.load_from_checkpoint(path, prob=problem())
    assert torch.equal(again.f.rates, module.f.rates)
    assert again.lr == 0.05
    assert again._solver == OPTIONS
    more = trainer(tmp_path, 61)
    more.fit(again, loader(truth(), 2), ckpt_path=path)  # with the optimizer's state
    assert more.current_epoch == 61


def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    through = UDEModule(problem(), lr=0.05, **OPTIONS)
    trainer(tmp_path / "a", 6).fit(through, loader(truth(), 2))
    first = trainer(tmp_path / "b", 3)
    first.fit(UDEModule(problem(), lr=0.05, **OPTIONS), loader(truth(), 2))
    rest = UDEModule(problem(), lr=0.05, **OPTIONS)
    trainer(tmp_path / "b", 6).fit(rest, loader(truth(), 2), ckpt_path=first.checkpoint_callback.best_model_path)
    assert torch.equal(rest.f.rates, through.f.rates)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["embedded", pytest.param("julia", marks=pytest.mark.julia)])
def test_workers_load_batches_beside_a_running_solver(engine, tmp_path):
    """Workers are forked from a process that runs Julia, and do not touch it."""
    module = UDEModule(problem(), lr=0.05, **{**OPTIONS, "engine": engine})
    module.predict_step(next(iter(loader(truth()))), 0)  # starts the engine before the workers
    plain = copy.deepcopy(module)
    trainer(tmp_path / "a", 3).fit(module, loader(truth(), 2, num_workers=2, persistent_workers=True))
    trainer(tmp_path / "b", 3).fit(plain, loader(truth(), 2))
    assert torch.equal(module.f.rates, plain.f.rates)


def test_predictions_are_stacked_as_the_batch_is(tmp_path):
    module = UDEModule(problem(Chain(TRUE.tolist())), **OPTIONS)
    (predicted,) = trainer(tmp_path, 1).predict(module, loader(noisy()))
    torch.testing.assert_close(predicted, truth())
    torch.testing.assert_close(module(T), truth()[0].requires_grad_(), rtol=1e-6, atol=1e-8)
    alone = module.predict_step({"t": T[None, :5], "u0": STARTS[1:2]}, 0)
    torch.testing.assert_close(alone, truth()[1:2, :5], check_stride=False)


def test_trajectories_of_unequal_length_and_what_was_not_observed(tmp_path):
    data = truth().clone()
    data[2, 3:7] = torch.nan
    samples = [(T[:n], d[:n], u0) for n, d, u0 in zip((20, 5, 12, 8), data, STARTS, strict=True)]
    module = UDEModule(problem(Chain([0.8, 0.6])), optimizer=lbfgs, **OPTIONS)
    batches = DataLoader(samples, batch_size=3, collate_fn=list)
    trainer(tmp_path, 6).fit(module, batches)
    torch.testing.assert_close(module.f.rates.detach(), TRUE, rtol=1e-3, atol=1e-3)
    assert [len(x) for x in module.predict_step(samples[:2], 0)] == [20, 5]


def test_the_loss_is_over_observations_and_ones_own_may_be_another():
    data = noisy()
    data[0, 0] = torch.nan
    batch = (T.expand(4, -1), data, STARTS)
    seen = ~torch.isnan(data)
    module = UDEModule(problem(), **OPTIONS)
    with torch.no_grad():
        predicted = torch.stack([module(T, u0) for u0 in STARTS])
        expected = (predicted - data)[seen].square().mean()
    module.log = lambda *args, **options: None  # there is no trainer
    torch.testing.assert_close(module.training_step(batch, 0).detach(), expected)
    robust = UDEModule(problem(), loss=torch.nn.functional.l1_loss, observe=lambda u: u[:, 1], **OPTIONS)
    robust.log = module.log
    value = robust.validation_step((T.expand(4, -1), data[..., 1], STARTS), 0)
    expected = (predicted - data)[..., 1][seen[..., 1]].abs().mean()
    torch.testing.assert_close(value.detach(), expected)


def test_parameters_in_p_in_u0_and_in_what_is_observed(tmp_path):
    p = {"rates": torch.tensor([0.3, 0.9], dtype=F64, requires_grad=True), "fixed": torch.ones(2, dtype=F64)}
    u0 = torch.tensor([0.5, 0.5], dtype=F64, requires_grad=True)

    def f(t, u, p):
        first = p["rates"][0] * u[0]
        return torch.stack([-first, first - p["rates"][1] * u[1]]) * p["fixed"]

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(0.9, dtype=F64))

        def forward(self, u):
            return torch.cat([u[:, :1], self.gain * u[:, 1:]], dim=1)

    module = UDEModule(ps.ODEProblem(f, u0, (0.0, 4.0), p), observe=Scaled(), optimizer=lbfgs, **OPTIONS)
    assert {name for name, _ in module.named_parameters()} == {"p_rates", "u0", "observe.gain"}
    assert dict(module.named_buffers()).keys() == {"p_fixed"}
    trainer(tmp_path, 8).fit(module, DataLoader(TensorDataset(T[None], truth()[:1]), batch_size=1))
    assert (module(T) - truth()[0]).detach().square().mean() < 1e-8
    torch.testing.assert_close(p["rates"].detach(), module.p_rates.detach())  # the user's tensors are those fitted
    torch.testing.assert_close(u0.detach(), module.u0.detach())


def test_a_copy_is_a_model_of_its_own():
    module = UDEModule(problem(), **OPTIONS)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.f.rates.mul_(2)
    assert module.f.rates.tolist() == [0.3, 0.9]
    assert not torch.allclose(module(T), other(T))
    assert other.prob.f is other.f


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: UDEModule(Chain()), "trains an ODEProblem"),
        (lambda: UDEModule(problem(lambda t, u: -u)), "nothing to fit"),
        (lambda: UDEModule(problem(captures(), STARTS[0].clone().requires_grad_())), "no part of a module"),
        (lambda: UDEModule(problem(u0=2 * STARTS[0].clone().requires_grad_())), "`u0` was computed from other tensors"),
        (lambda: UDEModule(problem()).predict_step((T,), 0), "times and data, stacked"),
        (lambda: UDEModule(problem()).predict_step("batch", 0), "a sample must be times"),
        (lambda: UDEModule(problem()).training_step((T[None], truth()[:1, :, :1]), 0), r"\[20, 1\] for \[20, 2\]"),
    ],
)
def test_what_cannot_be_trained_is_refused(make, match):
    with pytest.raises(ps.InvalidInputError, match=match):
        make()


def captures():
    net = torch.nn.Linear(2, 2).double()
    return lambda t, u: net(u)


def test_a_solve_that_fails_says_so(tmp_path):
    explosive = Chain([-80.0, -80.0])
    module = UDEModule(problem(explosive), maxiters=50, **OPTIONS)
    with pytest.raises(ps.SolveError):
        trainer(tmp_path, 1).fit(module, loader(truth()))


def test_without_lightning_the_error_names_the_extra():
    printed = output("""
        import sys
        sys.modules["lightning"] = sys.modules["pytorch_lightning"] = None
        import pysciml
        try:
            import pysciml.lightning
        except pysciml.MissingExtraError as error:
            print(error)
        """)
    assert 'pip install "pysciml[lightning]"' in printed


def test_the_older_package_alone_will_do():
    """Its Trainer takes its own modules alone, and so this one."""
    pytest.importorskip("pytorch_lightning")
    printed = output("""
        import sys
        sys.modules["lightning"] = None
        import pytorch_lightning
        from pysciml.lightning import UDEModule
        print(issubclass(UDEModule, pytorch_lightning.LightningModule))
        """)
    assert printed.strip() == "True"
