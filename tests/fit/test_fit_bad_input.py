"""Bad input: each a clear error, before anything is lost."""

import pytest
import torch
from fit_cases import F64, decay, decay_data, number

import pysciml as ps
from pysciml.fit import MultipleShooting, Stage, fit

DATA, T = decay_data()


def holed(x: torch.Tensor, value: float) -> torch.Tensor:
    x = x.clone()
    x[3] = value
    return x


@pytest.mark.parametrize(("data", "t", "options", "message"), [
    (None, T, {}, "needs data, or a loss"),
    (DATA, None, {}, "needs the times"),
    (DATA, [], {}, r"^t must hold at least one time"),
    (DATA, T.flip(0), {}, r"^t must be strictly monotone"),
    (DATA, T + 1, {}, r"^t must lie inside tspan"),
    (DATA, ["a"] * 9, {}, "`t` must hold numbers"),
    (DATA[:5], T, {}, r"the data does not have the shape of the saved states[\s\S]*Got \[5, 1\]\n[\s\S]*\[9, 1\]"),
    (DATA[:, 0], T, {}, r"Got \[9\][\s\S]*Fix: data\[\.\.\., None\]"),
    (DATA.T, T, {}, r"Fix: data\.T: time comes first"),
    ({"x": DATA}, T, {}, r"the data must have the structure of u0[\s\S]*data\['x'\]"),
    (torch.empty(0, 1), T, {}, "the data is empty"),
    ([], T, {}, "the data is empty"),
    (DATA * float("nan"), T, {}, "no observation"),
    (holed(DATA, float("inf")), T, {}, "1 infinite values"),
    (["a", "b"], T, {}, "must have the structure of u0"),
    (DATA, T, {"weights": torch.ones(4)}, "weights must be numbers"),
    (DATA, T, {"weights": -1.0}, "weights must be numbers, 0 or more"),
    (DATA, T, {"weights": 1.0, "loss": torch.nn.functional.mse_loss}, "a loss of your own"),
    (DATA, T, {"loss": "mse"}, "loss must be a function"),
    (DATA, T, {"loss": lambda p, d: p - d}, r"loss must return a scalar tensor[\s\S]*shape \[9\]"),
    (DATA, T, {"loss": lambda p, d: 1.0}, "loss must return a scalar tensor[\\s\\S]*Got float"),
    (DATA, T, {"loss": lambda p, d: p.detach().sum()}, "there is nothing to fit"),
    (DATA, T, {"observe": lambda u: u[:3]}, "does not have the shape of the prediction"),
    (DATA[:4], T, {"observe": lambda u: u}, "one row for each time"),
    (DATA, T, {"val": 0.0}, "between 0 and 1"),
    (DATA, T, {"val": 1.0}, "between 0 and 1"),
    (DATA, T, {"val": -0.2}, "between 0 and 1"),
    (DATA, T, {"val": True}, "between 0 and 1"),
    (DATA, T, {"val": 0.99}, "at least one time on either side"),
    (DATA, T, {"val": [9]}, "indices from 0 to 8"),
    (DATA, T, {"val": [0.5]}, "val must be a fraction"),
    (DATA, T, {"val": "last"}, "val must be a fraction"),
    (DATA, T, {"val": list(range(9))}, "either side"),
    (holed(DATA, float("nan")), T, {"val": [3]}, "every value held out is NaN"),
    (DATA, T, {"epochs": -1}, r"epochs=-1"),
    (DATA, T, {"epochs": 1.5}, r"epochs=1\.5"),
    (DATA, T, {"epochs": (1, 2, 3)}, "3 for 2 stages"),
    (DATA, T, {"stages": ()}, "at least one stage"),
    (DATA, T, {"stages": "adan"}, r"no optimizer 'adan'[\s\S]*Stage\(\"Adam\", 300\)"),
    (DATA, T, {"stages": 7}, "a stage needs an optimizer"),
    (DATA, T, {"stages": torch.nn.Linear}, "a stage needs an optimizer"),
    (DATA, T, {"stages": Stage(lambda tensors: 3, 1)}, "must return a torch optimizer"),
    (DATA, T, {"stages": Stage("adam", 1, lr=-1.0)}, "Invalid learning rate"),
    (DATA, T, {"stages": Stage(torch.optim.Adam([number(1.0)]), 1)}, "tensors that are not fitted here"),
    (DATA, T, {"batch_size": 0}, "batch_size divides a list"),
    (DATA, T, {"patience": 0}, "patience must be a whole number"),
    (DATA, T, {"max_failures": None}, "max_failures must be a whole number"),
    (DATA, T, {"clip": 0.0}, "clip must be a positive norm"),
    (DATA, T, {"min_delta": -1.0}, "min_delta must be 0 or a positive"),
    (DATA, T, {"backoff": 1.0}, "backoff must be a number between 0 and 1"),
    (DATA, T, {"seed": 0.5}, "seed must be a whole number"),
    (DATA, T, {"callback": 3}, "callback must be a function"),
    (DATA, T, {"shooting": 5}, "must be a MultipleShooting"),
    (DATA, T, {"params": []}, "params holds no tensor"),
    (DATA, T, {"params": 3}, "params must be a module"),
    (DATA, T, {"params": [3.0]}, r"`params\[0\]` cannot be fitted"),
    (DATA, T, {"params": torch.ones(1)}, "must be a tensor that requires grad"),
    (DATA, T, {"params": number([1.0]) * 2}, "computed from other tensors before"),
    (DATA, T, {"params": {"idle": number(1.0)}}, "does not depend on `idle`"),
    (DATA, T, {"checkpoint_every": 0, "checkpoint": "x.pt"}, "checkpoint_every must be"),
    (DATA, T, {"checkpoint": "no/such/folder/x.pt"}, r"folder does not exist[\s\S]*mkdir"),
    (DATA, T, {"checkpoint": "."}, "must be a file"),
    (DATA, T, {"alg": "Tsit6"}, "no algorithm named"),
    (DATA, T, {"reltol": -1.0}, "reltol must be positive"),
])  # fmt: skip
def test_bad_input(data, t, options, message):
    k = number(0.3)
    with pytest.raises(ps.InvalidInputError, match=message):
        fit(decay(k), data, t, progress="off", **options)
    assert k.item() == 0.3
    assert k.grad is None


def test_nothing_to_fit():
    with pytest.raises(ps.InvalidInputError, match="there is nothing to fit"):
        fit(decay(number(0.3, grad=False)), DATA, T, progress="off")
    prob = ps.ODEProblem(lambda t, u, p: -u, torch.ones(1, dtype=F64), (0.0, 2.0), number([1.0]))
    with pytest.raises(ps.InvalidInputError, match=r"nothing to fit[\s\S]*p without influence"):
        fit(prob, DATA, T, progress="off")


def test_a_parameter_computed_before_the_fit():
    log_k = number(-1.0)
    with pytest.raises(ps.InvalidInputError, match=r"computed from other tensors before the fit[\s\S]*inside f"):
        fit(decay(log_k.exp()), DATA, T, progress="off")


def test_problems():
    with pytest.raises(ps.InvalidInputError, match="fit needs an ODEProblem"):
        fit(lambda t, u: -u, DATA, T)
    with pytest.raises(ps.InvalidInputError, match="data needs a problem"):
        fit(None, DATA, T)
    two = [decay(number(0.3)), decay(number(0.3))]
    with pytest.raises(
        ps.InvalidInputError, match=r"`data` must be a list with one entry for each problem[\s\S]*1 for 2"
    ):
        fit(two, [DATA], T)
    with pytest.raises(ps.InvalidInputError, match=r"the data of trajectory 1 does not have the shape"):
        fit(two, [DATA, DATA[:3]], T)
    with pytest.raises(ps.InvalidInputError, match="batch_size must be a whole number"):
        fit(two, [DATA, DATA], T, batch_size=-2)


def test_what_needs_data():
    loss = lambda sol: sol.u.sum()  # noqa: E731
    with pytest.raises(ps.InvalidInputError, match="shooting needs data"):
        fit(decay(number(0.3)), t=T, loss=loss, shooting=MultipleShooting(2))
    with pytest.raises(ps.InvalidInputError, match="validation is a function like the loss"):
        fit(decay(number(0.3)), t=T, loss=loss, val=0.2)


@pytest.mark.parametrize(("options", "message"), [
    ({"learning_rate": 0.1}, r"Adam has no option 'learning_rate'"),
    ({"betass": (0.9, 0.9)}, r"did you mean 'betas'"),
    ({"scheduler": 3}, "scheduler must be a function"),
    ({"tolerance": -1.0}, "tolerance must not be negative"),
])  # fmt: skip
def test_stage_options(options, message):
    with pytest.raises(ps.InvalidInputError, match=message):
        Stage("adam", 10, **options)


def test_options_for_an_optimizer_already_made():
    with pytest.raises(ps.InvalidInputError, match="already made takes no more options"):
        Stage(torch.optim.Adam([number(1.0)]), 10, lr=0.1)
