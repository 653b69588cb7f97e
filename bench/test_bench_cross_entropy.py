"""Time per logit of loss + gradient, float32: every peer and every floor, one group per shape.

Every benchmark also checks its answer against the float64 truth, outside the timed region: celoss
to its last digits, the peers well enough that nobody is fast by being wrong.
"""

from functools import lru_cache, partial

import numpy as np
import pytest

from bench import accuracy, cases, limits, peers, timing

# What the peers deprecate is not ours to fix here.
pytestmark = pytest.mark.filterwarnings("ignore")


@lru_cache(maxsize=1)  # the shapes come one after another; two of the large ones would not fit
def data_and_truth(case):
    logits, target = cases.make(case)
    return logits, target, *accuracy.truth(logits, target, np.float64)


def assert_agrees(answer, case, tight):
    """Relative to each exact value; a peer, which subtracts near-equal numbers, relative to 1 too."""
    _, _, exact_loss, exact_grad = data_and_truth(case)
    loss, grad = peers.as_numpy(answer)
    rtol, atol = (5e-7, 0) if tight else (1e-3, 1e-5)
    np.testing.assert_allclose(float(loss), exact_loss.mean(), rtol=rtol, atol=atol)
    atol += case.rows * np.finfo(np.float32).tiny  # the gradient of the mean may be subnormal
    for rows in accuracy.blocks(*case.shape):
        exact = exact_grad[rows]
        error = np.abs(grad[rows].astype(np.float64) * case.rows - exact)
        worst = float((error / (rtol * np.abs(exact) + atol)).max())
        assert worst <= 1, f"gradient off by {worst:.3g} times what is allowed"


def run_peer(benchmark, budget, n_threads, case, peer, kind):
    if peer.missing:
        pytest.skip(peer.missing)
    logits, target, *_ = data_and_truth(case)
    call = peer.make(logits, target, n_threads=n_threads)
    answer = timing.benchmarked(benchmark, budget, call, case.size, case=str(case), name=peer.name, kind=kind)
    assert_agrees(answer, case, tight=peer in peers.OWN)


def per_shape(argument, values, shapes, label=str):
    """Parametrize so that all values of a shape follow one another, in the group of that shape."""
    return pytest.mark.parametrize(
        ("case", argument),
        [
            pytest.param(
                case, value, id=f"{label(case)}-{value}",
                marks=pytest.mark.benchmark(group=label(case)),
            )
            for case in shapes
            for value in values
        ],
    )  # fmt: skip


@per_shape("peer", peers.ALL, cases.SPEED)
def test_loss_and_gradient(benchmark, budget, n_threads, case, peer):
    run_peer(benchmark, budget, n_threads, case, peer, "shape")


@pytest.mark.benchmark(group="curve over classes, out=, one thread")
@pytest.mark.parametrize("case", cases.CURVE, ids=lambda case: f"curve-{case}")
def test_curve(benchmark, budget, case):
    logits, target, *_ = data_and_truth(case)
    call = partial(peers.CELOSS_OUT.make(logits, target), n_threads=1)
    answer = timing.benchmarked(benchmark, budget / 4, call, case.size, case=str(case), name="celoss out=", kind="curve")
    assert_agrees(answer, case, tight=True)


@per_shape("floor", limits.NAMES, cases.SPEED)
def test_floor(benchmark, budget, n_threads, case, floor):
    call = limits.make(case, n_threads)[floor]
    timing.benchmarked(benchmark, budget, call, case.size, case=str(case), name=floor, kind="floor")


@per_shape("peer", peers.SCALING, cases.BY_ROWS, label=lambda case: f"rows={case.rows}")
def test_scaling_with_rows(benchmark, budget, n_threads, case, peer):
    run_peer(benchmark, budget, n_threads, case, peer, "rows")


@per_shape("peer", peers.SCALING, cases.BY_CLASSES, label=lambda case: f"classes={case.classes}")
def test_scaling_with_classes(benchmark, budget, n_threads, case, peer):
    run_peer(benchmark, budget, n_threads, case, peer, "classes")
