"""Time of the usual calls of small arrays, one group per function: its plain call is the first of each."""

import pytest

from bench import cases, timing, usual


@pytest.mark.parametrize(
    ("function", "label"),
    [
        pytest.param(function, label, id=f"usual-{function}-{label}", marks=pytest.mark.benchmark(group=f"usual {function}"))
        for function in usual.FUNCTIONS
        for label in usual.calls(function)
    ],
)
def test_usual_calls(benchmark, budget, function, label):
    call = usual.calls(function)[label]
    size = cases.SMALL.size
    timing.benchmarked(benchmark, budget / 10, call, size, case=function, name=label, kind="usual")
