"""What all tests share: the instruction-set level, the path and the number of threads as fixtures, and slow tests left out."""

from contextlib import nullcontext

import hypothesis
import numpy as np
import pytest
from paths import only_general

import celoss
from celoss import _kernels

# A failure has to show again in the next run, and a busy machine is no failure.
hypothesis.settings.register_profile(
    "celoss",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
# Other examples in each run, many of them: python -m pytest --hypothesis-profile=long
hypothesis.settings.register_profile("long", hypothesis.settings.get_profile("celoss"), derandomize=False, max_examples=10_000)
hypothesis.settings.load_profile("celoss")


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked slow, unless marks were asked for with -m or a test by its name."""
    if config.option.markexpr or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if runs else pytest.mark.skip(reason="this CPU cannot run it"))
        for name, runs in _kernels.levels()
    ]
)
def level(request):
    """Each instruction-set level in turn, used for the length of a test."""
    before = _kernels.level()
    _kernels.use_level(request.param)
    yield request.param
    _kernels.use_level(before)


@pytest.fixture(params=["short", "general"])
def path(request):
    """Both ways that calls go: the short one where it takes them, and the general one for all."""
    with only_general() if request.param == "general" else nullcontext():
        yield request.param


@pytest.fixture
def keep_num_threads():
    """The number of threads as it was, after a test that sets it."""
    before = celoss.get_num_threads()
    yield
    celoss.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
