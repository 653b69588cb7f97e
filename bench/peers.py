"""Every way to get (loss, gradient) that is compared: one factory each, all of the same form.

``make(logits, target, reduction="mean", n_threads=1)`` prepares what a user would prepare once
(conversion of the arrays, compilation) and returns a function without arguments that returns
``(loss, grad)``. With "mean", the form that is timed, both belong to the mean over the rows; with
"none", the form whose accuracy is measured, to the single rows. Logits are two-dimensional.

Each library is written as someone who knows it would write it. It is imported only when its
factory is called, so ``machine.use_threads`` comes first; ``missing`` says what is not installed.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np


@dataclass(frozen=True)
class Peer:
    name: str
    make: Callable
    needs: tuple[str, ...] = ()  # importable names
    checks_target: bool = True  # a target out of range is noticed, not computed with
    compiles: bool = False  # for every shape anew, with a C++ compiler

    def __str__(self) -> str:
        return self.name

    @property
    def missing(self) -> str:
        """What keeps this peer from running here, or an empty string."""
        absent = [module for module in self.needs if find_spec(module) is None]
        if absent:
            return f"{', '.join(absent)} not installed"
        if self.compiles and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            return "no C++ compiler"
        return ""


def as_numpy(answer) -> tuple[np.ndarray, np.ndarray]:
    """The (loss, grad) of any peer as NumPy arrays; to be called outside the timed region."""
    loss, grad = (part.detach() if hasattr(part, "detach") else part for part in answer)
    return np.asarray(loss), np.asarray(grad)


def make_celoss(logits, target, reduction="mean", n_threads=1):
    """As a user calls it: the package's own choice of threads, bounded by the affinity mask."""
    from celoss import cross_entropy_with_grad

    options = {} if reduction == "mean" else {"reduction": reduction}
    return partial(cross_entropy_with_grad, logits, target, **options)


def make_celoss_out(logits, target, reduction="mean", n_threads=1):
    """The gradient goes into an array that the caller keeps: no fresh pages to fault in."""
    return partial(make_celoss(logits, target, reduction), out=np.zeros_like(logits))


def make_numpy(logits, target, reduction="mean", n_threads=1):
    """One temporary, the gradient itself; everything that can be done in place is."""
    rows = np.arange(len(logits))
    share = np.float32(1 / len(logits) if reduction == "mean" else 1)

    def call():
        grad = logits - logits.max(axis=1, keepdims=True)
        at_target = grad[rows, target]
        np.exp(grad, out=grad)
        total = grad.sum(axis=1)
        loss = np.log(total) - at_target
        grad *= (share / total)[:, None]
        grad[rows, target] -= share
        return (loss.mean() if reduction == "mean" else loss), grad

    return call


def make_scipy(logits, target, reduction="mean", n_threads=1):
    from scipy.special import log_softmax, softmax

    rows = np.arange(len(logits))

    def call():
        loss = -log_softmax(logits, axis=1)[rows, target]
        grad = softmax(logits, axis=1)
        grad[rows, target] -= 1
        if reduction == "none":
            return loss, grad
        grad /= len(logits)
        return loss.mean(), grad

    return call


def make_sklearn(logits, target, reduction="mean", n_threads=1):
    """The private loss of scikit-learn's estimators; its target is floating and goes unchecked."""
    from sklearn._loss import HalfMultinomialLoss

    rows, classes = logits.shape
    multinomial = HalfMultinomialLoss(n_classes=classes)
    labels = target.astype(logits.dtype)
    share = np.full(rows, 1 / rows, logits.dtype) if reduction == "mean" else None

    def call():
        loss, grad = multinomial.loss_gradient(labels, logits, share, n_threads=n_threads)
        return (loss.sum() if reduction == "mean" else loss), grad

    return call


def make_sklearn_sized(logits, target, reduction="mean", n_threads=1):
    """With the threads that its user would give it; PyTorch draws the same line by itself."""
    return make_sklearn(logits, target, reduction, n_threads if logits.size >= 2**15 else 1)


def _torch_tensors(logits, target, n_threads):
    import torch

    torch.set_num_threads(n_threads)
    return torch, torch.from_numpy(logits), torch.from_numpy(target)


def make_torch(logits, target, reduction="mean", n_threads=1):
    torch, logits, target = _torch_tensors(logits, target, n_threads)
    logits.requires_grad_()
    ones = None if reduction == "mean" else torch.ones(len(logits))

    def call():
        loss = torch.nn.functional.cross_entropy(logits, target, reduction=reduction)
        (grad,) = torch.autograd.grad(loss, logits, ones)
        return loss, grad

    return call


def make_torch_compile(logits, target, reduction="mean", n_threads=1):
    """Loss and gradient as one graph, which is faster than compiling the loss alone."""
    torch, logits, target = _torch_tensors(logits, target, n_threads)
    cross_entropy = torch.nn.functional.cross_entropy

    def summed(logits, target):
        each = cross_entropy(logits, target, reduction="none")
        return each.sum(), each

    mean = reduction == "mean"
    both = torch.func.grad_and_value(cross_entropy if mean else summed, has_aux=not mean)
    torch._dynamo.reset()  # else the ninth shape would silently run uncompiled
    compiled = torch.compile(both, dynamic=False)

    def call():
        grad, value = compiled(logits, target)
        return (value if reduction == "mean" else value[1]), grad

    return call


def make_jax(logits, target, reduction="mean", n_threads=1):
    """The threads of XLA follow the process's affinity mask, ``n_threads`` cannot reach them."""
    import jax
    from optax import softmax_cross_entropy_with_integer_labels as per_row

    def loss(logits, target):
        each = per_row(logits, target)
        return (each.mean(), None) if reduction == "mean" else (each.sum(), each)

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
    logits, target = jax.numpy.asarray(logits), jax.numpy.asarray(target)

    def call():
        (value, each), grad = jax.block_until_ready(compiled(logits, target))
        return (value if reduction == "mean" else each), grad

    return call


CELOSS = Peer("celoss", make_celoss, ("celoss",))
CELOSS_OUT = Peer("celoss out=", make_celoss_out, ("celoss",))
OWN = (CELOSS, CELOSS_OUT)

NUMPY = Peer("NumPy", make_numpy)
SKLEARN = Peer("scikit-learn", make_sklearn_sized, ("sklearn",), checks_target=False)
TORCH = Peer("PyTorch", make_torch, ("torch",))
JAX = Peer("JAX", make_jax, ("jax", "optax"), checks_target=False)
OTHERS = (
    NUMPY,
    Peer("SciPy", make_scipy, ("scipy",)),
    SKLEARN,
    TORCH,
    Peer("torch.compile", make_torch_compile, ("torch",), compiles=True),
    JAX,
)

ALL = OWN + OTHERS
SCALING = (CELOSS, NUMPY, TORCH, JAX)  # one of each kind, and nothing to compile for every point
