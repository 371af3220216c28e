"""MC dropout: off in eval, on when asked for, and the statistics of its samples."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError
from zoo.layers.mc_dropout import MCDropout, mc_predict, mc_sampling

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


class Recorder(nn.Module):
    """Passes its logits through dropout and remembers nothing."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.drop = MCDropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x)


def sampled_softmax(model: nn.Module, x: Tensor, passes: int) -> Tensor:
    with mc_sampling(model), torch.no_grad():
        return torch.stack([model(x).softmax(-1) for _ in range(passes)])


def test_it_is_the_identity_in_eval() -> None:
    x = torch.randn(3, 4)
    assert MCDropout(0.5).eval()(x) is x


def test_it_drops_in_training() -> None:
    x = torch.ones(10_000)
    y = MCDropout(0.3).train()(x)
    assert y.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.03


@pytest.mark.parametrize("training", [False, True])
def test_rate_zero_is_always_the_identity(training: bool) -> None:
    layer = MCDropout(0.0).train(training)
    x = torch.randn(3, 4)
    assert layer(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\); got"):
        MCDropout(rate)


def test_sampling_drops_in_eval_and_ends_with_the_block() -> None:
    model = Recorder().eval()
    x = torch.ones(1000)
    with mc_sampling(model):
        assert 0 < int((model(x) == 0).sum()) < 1000
    assert model(x) is x


def test_sampling_is_of_the_thread_that_asked() -> None:
    model, x, found = Recorder().eval(), torch.ones(1000), []
    with mc_sampling(model):
        thread = threading.Thread(target=lambda: found.append(model(x)))
        thread.start()
        thread.join()
    assert found[0] is x


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_does_not_sample_with_the_original(again: Callable[[nn.Module], nn.Module]) -> None:
    model, x = Recorder().eval(), torch.ones(1000)
    with mc_sampling(model):
        other = again(model)
        assert other(x) is x
        with mc_sampling(other):
            assert 0 < int((other(x) == 0).sum()) < 1000


@pytest.mark.slow  # the first export of a process takes seconds
def test_what_is_exported_of_it_is_the_identity() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), MCDropout(0.5)).eval(), torch.ones(2, 4)
    exported = torch.export.export(model, (x,))
    assert "dropout" not in str(exported.graph)
    assert torch.equal(exported.module()(x), model(x))


def test_what_is_traced_of_it_is_the_identity() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), MCDropout(0.5)).eval(), torch.ones(2, 4)
    traced = torch.jit.trace(model, x)
    assert "aten::dropout" not in str(traced.inlined_graph)
    assert torch.equal(traced(x), model(x))


def test_a_compiled_model_samples_when_asked_and_in_no_other_thread() -> None:
    model, x, found = Recorder().eval(), torch.ones(1000), []
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), x)
    with mc_sampling(model):
        assert 0 < int((compiled(x) == 0).sum()) < 1000
        thread = threading.Thread(target=lambda: found.append(compiled(x)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], x)
    assert torch.equal(compiled(x), x)


def test_sampling_ends_after_an_error_too() -> None:
    model = Recorder().eval()
    with pytest.raises(RuntimeError), mc_sampling(model):
        raise RuntimeError
    assert not model.drop.here.sampling


def test_sampling_may_be_nested() -> None:
    model = Recorder().eval()
    with mc_sampling(model):
        with mc_sampling(model):
            pass
        assert model.drop.here.sampling
    assert not model.drop.here.sampling


@pytest.mark.parametrize("model", [nn.Linear(2, 2), Recorder(0.0)])
def test_a_model_without_mc_dropout_is_refused(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"no MC dropout .* resnet_nano, with block='mcdo'"):
        mc_predict(model.eval(), torch.zeros(1, 2))


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"call model\.eval\(\) first"):
        mc_predict(Recorder().train(), torch.zeros(1, 2))


def test_no_passes_are_refused() -> None:
    with pytest.raises(ConfigError, match="mc_samples must be at least 1; got 0"):
        mc_predict(Recorder().eval(), torch.zeros(1, 2), mc_samples=0)


@pytest.mark.parametrize("passes", [1, 2, 7])
def test_mean_and_variance_are_those_of_the_probabilities(passes: int) -> None:
    model, x = Recorder().eval(), torch.randn(3, 5)
    torch.manual_seed(1)
    samples = sampled_softmax(model, x, passes)
    torch.manual_seed(1)
    prediction = mc_predict(model, x, passes)
    torch.testing.assert_close(prediction.probabilities, samples.mean(0))
    torch.testing.assert_close(prediction.variance, samples.var(0, correction=0))
    assert prediction.mc_samples == passes


def test_probabilities_sum_to_one_and_follow_the_seed() -> None:
    model = zoo.create_model("hdvw:resnet_mcdo_18", num_classes=4).eval()
    x = torch.randn(2, 3, 16, 16)
    torch.manual_seed(3)
    first = model.mc_predict(x, mc_samples=3)
    torch.manual_seed(3)
    second = model.mc_predict(x, mc_samples=3)
    torch.testing.assert_close(first.probabilities.sum(-1), torch.ones(2))
    assert torch.equal(first.probabilities, second.probabilities)
    assert (first.variance > 0).any()


def test_half_precision_is_averaged_in_single() -> None:
    model, x = Recorder().eval(), torch.randn(2, 4).to(torch.bfloat16)
    assert mc_predict(model, x, 2).probabilities.dtype == torch.float32


def test_batch_norm_statistics_stay_as_they_are() -> None:
    model = zoo.create_model("hdvw:resnet_mcdo_18", num_classes=4).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.mc_predict(torch.randn(2, 3, 16, 16), mc_samples=2)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
