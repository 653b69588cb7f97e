"""Plugin of pytest: scikit-learn's own tests of its multinomial and binomial loss, computed by celoss.

Its loss objects call a compiled `closs`, which is replaced. Kept are what celoss has no name for: the diagonal of the
hessian, p (1 - p), computed here from celoss's probabilities, and the constants of the binomial loss.
"""

import numpy as np
import pytest

import celoss

MODULE = "sklearn._loss.tests.test_loss"

# Tests of a loss that reach behind the interface that is replaced.
UNREACHABLE = {
    "test_loss_same_as_C_functions": "calls scikit-learn's C functions of one score by name",
    "test_multinomial_cy_gradient": "calls scikit-learn's C function of one row by name",
    "test_loss_array_api": "tests scikit-learn's pure Python classes",
    "test_cy_loss_classes_module": "tests where scikit-learn's compiled classes live",
    "test_loss_init_parameter_validation": "tests how scikit-learn's objects are made, no number",
    "test_init_gradient_and_hessian": "tests how scikit-learn's objects are made, no number",
}


def put(out, values):
    out[...] = values


class Multinomial:
    """What `CyHalfMultinomialLoss` does, row by row."""

    def _loss_and_gradient(self, y_true, raw_prediction, sample_weight, n_threads):
        y_true, raw_prediction = np.asarray(y_true), np.asarray(raw_prediction)
        return celoss.cross_entropy_with_grad(
            raw_prediction, y_true.astype(np.int64), sample_weight=sample_weight, reduction="none", n_threads=n_threads
        )

    def _probabilities(self, raw_prediction):
        return celoss.softmax(np.asarray(raw_prediction))

    def loss(self, y_true, raw_prediction, sample_weight, loss_out, n_threads=1):
        put(loss_out, self._loss_and_gradient(y_true, raw_prediction, sample_weight, n_threads)[0])

    def gradient(self, y_true, raw_prediction, sample_weight, gradient_out, n_threads=1):
        put(gradient_out, self._loss_and_gradient(y_true, raw_prediction, sample_weight, n_threads)[1])

    def loss_gradient(self, y_true, raw_prediction, sample_weight, loss_out, gradient_out, n_threads=1):
        loss, gradient = self._loss_and_gradient(y_true, raw_prediction, sample_weight, n_threads)
        put(loss_out, loss)
        put(gradient_out, gradient)

    def gradient_hessian(self, y_true, raw_prediction, sample_weight, gradient_out, hessian_out, n_threads=1):
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out, n_threads)
        p = self._probabilities(raw_prediction)
        s = 1.0 if sample_weight is None else np.asarray(sample_weight).reshape((-1,) + (1,) * (p.ndim - 1))
        put(hessian_out, p * (1 - p) * s)

    def gradient_proba(self, y_true, raw_prediction, sample_weight, gradient_out, proba_out, n_threads=1):
        self.gradient(y_true, raw_prediction, sample_weight, gradient_out, n_threads)
        put(proba_out, self._probabilities(raw_prediction))


class Binomial(Multinomial):
    """What `CyHalfBinomialLoss` does, score by score."""

    def _loss_and_gradient(self, y_true, raw_prediction, sample_weight, n_threads):
        return celoss.binary_cross_entropy_with_grad(
            np.asarray(raw_prediction), np.asarray(y_true), weight=sample_weight, reduction="none", n_threads=n_threads
        )

    def _probabilities(self, raw_prediction):
        return celoss.sigmoid(np.asarray(raw_prediction))


def pytest_configure():
    """Before the tests are imported, as they make loss objects at their import."""
    from sklearn._loss import loss

    loss.CyHalfMultinomialLoss, loss.CyHalfBinomialLoss = Multinomial, Binomial


def pytest_collection_modifyitems(config, items):
    kept = [item for item in items if "inomial" in item.nodeid and "ArrayAPI" not in item.nodeid]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in items:
        assert item.module.__name__ == MODULE
        for name, reason in UNREACHABLE.items():
            if name in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))
