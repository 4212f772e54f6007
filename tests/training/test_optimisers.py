"""AdamW's short way gives torch's own steps, bit by bit, and sees what changes between them."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch.optim.optimizer import register_optimizer_step_post_hook

from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.training.optimisers import AdamW

SETTINGS = {"lr": 0.1, "weight_decay": 0.1, "fused": True}


class Pair:
    """The same three parameters in two groups, of our optimiser and of torch's."""

    def __init__(self, **settings):
        self.parameters, self.optimizers = [], []
        for kind in (AdamW, torch.optim.AdamW):
            generator = torch.Generator().manual_seed(0)
            own = [torch.randn(4, 3, generator=generator).requires_grad_() for _ in range(3)]
            groups = [{"params": own[:2]}, {"params": own[2:], "lr": 0.01, "betas": (0.5, 0.9)}]
            self.parameters.append(own)
            self.optimizers.append(kind(groups, **SETTINGS | settings))

    def step(self, without=()):
        for own, optimizer in zip(self.parameters, self.optimizers, strict=True):

            def loss(own=own, optimizer=optimizer):
                optimizer.zero_grad()
                used = [p for number, p in enumerate(own) if number not in without]
                found = sum((p.sin() * (n + 1)).sum() for n, p in enumerate(used))
                found.backward()
                return found

            with torch.no_grad():  # the loss has its gradients all the same
                assert optimizer.step(loss).requires_grad
        for mine, its in zip(*self.parameters, strict=True):
            assert torch.equal(mine, its)

    def steps(self, n=3):
        before = self.parameters[0][0].detach().clone()
        for _ in range(n):
            self.step()
        assert not torch.equal(before, self.parameters[0][0])


@pytest.mark.parametrize(
    "settings", [{}, {"fused": False}, {"amsgrad": True}, {"maximize": True}, {"eps": 1.0}]
)
def test_same_steps_as_torch(settings):
    Pair(**settings).steps(5)


def test_rates_may_change_between_steps():
    pair = Pair()
    pair.steps()
    for optimizer in pair.optimizers:
        optimizer.param_groups[0]["lr"] = 0.001
    pair.steps()


def test_a_parameter_without_gradient_stays_and_may_learn_later():
    pair = Pair()
    pair.step(without=[1])
    pair.steps()
    pair.step(without=[0])
    pair.steps()


def test_moments_that_are_cleared_or_loaded_count():
    pair = Pair()
    pair.steps()
    kept = [optimizer.state_dict() for optimizer in pair.optimizers]
    for optimizer in pair.optimizers:
        optimizer.state.clear()
    pair.steps()
    for optimizer, state in zip(pair.optimizers, kept, strict=True):
        optimizer.load_state_dict(state)
    pair.steps()
    assert pair.optimizers[0].state_dict()["state"][0]["step"] == 6


@pytest.mark.parametrize("begins", [0, 3])
def test_a_parameter_may_lie_in_another_order(begins):
    """Its moments follow, those that are loaded too; torch's kernel would mix them up."""
    found = []
    for axis in (None, 1):
        weights = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        slopes = torch.linspace(-1, 1, 120).view(6, 5, 4)
        optimizer = AdamW([weights], **SETTINGS)
        for step in range(12):
            if axis is not None and step in (begins, 9):
                optimizer.lay(weights, axis if step == begins else 0)
            if step == 6:
                optimizer.load_state_dict(deepcopy(optimizer.state_dict()))
                for name in ("exp_avg", "exp_avg_sq"):  # as from a file
                    optimizer.state[weights][name] = optimizer.state[weights][name].contiguous()
                optimizer.load_state_dict(optimizer.state_dict())
            optimizer.zero_grad()
            (weights.sin() * slopes).sum().backward()
            optimizer.step()
            in_order = axis is None or not begins <= step < 9
            assert weights.is_contiguous() == in_order
        found.append(weights.detach())
    assert torch.equal(*found)


def test_a_new_group_learns():
    pair = Pair()
    pair.steps()
    for own, optimizer in zip(pair.parameters, pair.optimizers, strict=True):
        own.append(torch.ones(2).requires_grad_())
        optimizer.add_param_group({"params": own[-1:]})
    pair.steps()
    assert not torch.equal(pair.parameters[0][-1], torch.ones(2))


def test_hooks_are_called():
    pair, calls = Pair(), []
    pair.steps()
    pair.optimizers[0].register_step_pre_hook(lambda *_: calls.append("own"))
    handle = register_optimizer_step_post_hook(lambda *_: calls.append("all"))
    pair.step()
    handle.remove()
    pair.step()
    assert calls.count("own") == 2 and calls.count("all") == 2  # torch's optimiser, too


@pytest.mark.parametrize("kind", [KANRegressor, MetaKANRegressor])
@pytest.mark.parametrize("ending", [None, KeyboardInterrupt, RuntimeError])
def test_weights_of_known_terms_lie_function_by_function_while_they_train(kind, ending):
    X = np.random.default_rng(0).normal(size=(60, 3))
    lay = []

    class Looks(Callback):
        def on_epoch_end(self, net, **kwargs):
            weights = net.module_.layers[0].source.tensors()[0][0]
            moment = net.optimizer_.state[weights]["exp_avg"]
            lay.append((weights.stride() == moment.stride(), weights.is_contiguous()))
            if ending is not None and len(net.history) == 5:
                raise ending

    model = kind(grid_size=2, degree=2, max_iter=8, batch_size=20, callbacks=[Looks()])
    if ending is RuntimeError:
        with pytest.raises(RuntimeError):
            model.fit(X, X[:, 0])
    else:
        model.fit(X, X[:, 0])
        assert model.module_.layers[0].source.tensors()[0][0].is_contiguous()
        assert set(lay) == {(True, False)}
    lay.clear()
    model.set_params(warm_start=True, callbacks=None).fit(X, X[:, 0])
    again = model.set_params(callbacks=[Looks()]).fit(X, X[:, 0]) if ending is None else model
    assert again.module_.layers[0].source.tensors()[0][0].is_contiguous()
    assert set(lay) <= {(True, False)}
