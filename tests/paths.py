"""The two ways that a call can go: `only_general` and `only_short` let it go one of them, for the length of a with statement.

The short path (src/celoss/_short_paths.pxi) hands what is unusual to the general one. Both give the same bits and errors.
"""

from contextlib import contextmanager

import pytest

from celoss import _general_paths, _kernels

GENERAL = ["loss_of_rows", "loss_of_scores", "activation_of_rows", "logsumexp_of_rows", "vjp_of_rows", "activation_of_scores"]


@contextmanager
def only_general():
    with pytest.MonkeyPatch.context() as patch:
        for name in vars(_kernels):
            if name.startswith("short_"):
                patch.setattr(_kernels, name, lambda general, *arguments: general(*arguments))
        yield


@contextmanager
def only_short():
    """The general path is an AssertionError."""

    def refuse(*arguments):
        raise AssertionError("the call left the short path")

    with pytest.MonkeyPatch.context() as patch:
        for name in GENERAL:
            patch.setattr(_general_paths, name, refuse)
        yield
