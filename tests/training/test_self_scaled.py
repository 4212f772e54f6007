"""Self-scaled quasi-Newton methods, on problems whose minima are known."""

from itertools import pairwise

import pytest
import torch

from sklearn_metakan.training.self_scaled import SelfScaled

both = pytest.mark.parametrize("method", ["broyden", "bfgs"])


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def powell(x):  # singular at its minimum, 0
    a, b, c, d = x
    return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4


def bowl(x):  # condition 1e8
    return 0.5 * (torch.logspace(-4, 4, len(x), dtype=x.dtype) * (x - 1) ** 2).sum()


def rastrigin_near_zero(x):
    return 10 * len(x) + (x**2 - 10 * (2 * torch.pi * x).cos()).sum()


PROBLEMS = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0], 1.0, 60),
    "rosenbrock of ten": (rosenbrock, [-1.2, 1.0] * 5, 1.0, 150),
    "powell": (powell, [3.0, -1.0, 0.0, 1.0], 0.0, 60),
    "bowl": (bowl, [0.0, 3.0] * 10, 1.0, 120),
    "rastrigin": (rastrigin_near_zero, [0.1, -0.2, 0.15], 0.0, 30),
}


def minimised(function, start, steps, method, **settings):
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = SelfScaled([x], method=method, **settings)

    def closure():
        optimizer.zero_grad()
        loss = function(x)
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure)) for _ in range(steps)]
    return x.detach(), losses, optimizer


@both
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_minimum_is_found(problem, method):
    function, start, minimum, steps = PROBLEMS[problem]
    x, losses, _ = minimised(function, start, steps, method)
    assert losses[-1] < 1e-12 and losses == sorted(losses, reverse=True)
    tolerance = 1e-2 if problem == "powell" else 1e-6
    torch.testing.assert_close(x, torch.full_like(x, minimum), rtol=0, atol=tolerance)


@both
def test_the_inverse_is_that_of_a_quadratic_function(method):
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = matrix @ matrix.T + torch.eye(6, dtype=torch.float64)

    def quadratic(x):
        return 0.5 * x @ matrix @ x

    _, _, optimizer = minimised(quadratic, [1.0, -1.0, 2.0, 0.5, 0.3, -2.0], 12, method)
    product = optimizer._inverse @ matrix
    assert optimizer._inverse.allclose(optimizer._inverse.T)
    assert (torch.linalg.eigvalsh(optimizer._inverse) > 0).all()
    assert (product - torch.eye(6, dtype=torch.float64)).norm() < 1.5


@both
def test_the_secant_equation_holds_after_a_step(method):
    """H' y = s, whatever phi and tau are."""
    seen = []

    class Watched(SelfScaled):
        def _update(self, length, direction, before, after):
            super()._update(length, direction, before, after)
            seen.append((self._inverse @ (after - before), length * direction))

    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64))
    optimizer = Watched([x], method=method)

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        return loss

    for _ in range(15):
        optimizer.step(closure)
    assert len(seen) == 15
    for product, step in seen:
        torch.testing.assert_close(product, step, rtol=1e-6, atol=1e-12)


def test_a_step_after_another_does_not_evaluate_its_start_again():
    calls = []

    def counted(x):
        calls.append(x.detach().clone())
        return rosenbrock(x)

    _, _, optimizer = minimised(counted, [-1.2, 1.0], 20, "broyden")
    assert len(calls) == optimizer.n_evaluations
    assert all(not torch.equal(a, b) for a, b in pairwise(calls))
    optimizer.forget()
    optimizer.step(lambda: rosenbrock(optimizer.trained[0]))
    assert optimizer.n_evaluations > 20


def test_where_the_loss_is_not_finite_shorter_steps_are_tried():
    def walled(x):  # infinite beyond 2
        return (x[0] - 1.9) ** 2 - 1e-3 * (2 - x[0]).log()

    x, losses, optimizer = minimised(walled, [-50.0], 40, "broyden")
    slope = 2 * (float(x) - 1.9) + 1e-3 / (2 - float(x))
    assert optimizer.stuck and abs(slope) < 1e-6 and losses == sorted(losses, reverse=True)
    _, losses, _ = minimised(lambda x: (x / 0).sum(), [1.0], 2, "broyden")
    assert all(not abs(loss) < float("inf") for loss in losses)


def test_an_interrupt_leaves_no_trial_point():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    optimizer, calls = SelfScaled([x]), []

    def closure():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert x.tolist() == [-1.2, 1.0]


def test_frozen_parameters_stay_and_float32_is_taken():
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0]))
    still = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    optimizer = SelfScaled([x, still])

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(x) + still.sum()
        loss.backward()
        return loss

    for _ in range(60):
        optimizer.step(closure)
    assert still.tolist() == [1.0] * 3
    torch.testing.assert_close(x.detach(), torch.ones(2), rtol=0, atol=1e-2)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="method must be 'broyden' or 'bfgs', got 'dfp'"):
        SelfScaled([torch.nn.Parameter(torch.ones(1))], method="dfp")
