"""The functions beside cross-entropy, and every way to get them that is compared: softmax and its relatives, sigmoid
and its relatives, the ways back through softmax, binary cross-entropy with gradient, the Brier score with gradient, second
derivatives of both cross-entropies.

As in ``peers``: ``peer.make(*arrays, n_threads=1)`` prepares what a user prepares once and returns a function without
arguments. Every call makes a fresh result. Only the peers whose name ends in ``out=`` write into an array that the
caller keeps, and they are compared with one another only. The arrays are those that the function takes: x alone for an
activation, what it returned and the upstream gradient for a way back, scores and target for a loss, and the vector by which
its Hessian is multiplied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench import cases
from bench.cases import Case
from bench.peers import Peer
from celoss._checks import FUNCTIONS as FUNCTIONS_OF_CELOSS

NEEDS = {
    "celoss": ("celoss",),
    "SciPy": ("scipy",),
    "scikit-learn": ("sklearn",),
    "PyTorch": ("torch",),
    "JAX": ("jax", "optax"),
}


@dataclass(frozen=True)
class Function:
    """One function of the family: its name in celoss, the shapes it is measured on, and who computes it."""

    name: str
    shapes: tuple[Case, ...]
    peers: tuple[Peer, ...]
    make_data: Callable[[Case], tuple[np.ndarray, ...]]

    def __str__(self) -> str:
        return self.name

    @property
    def is_loss(self) -> bool:
        return FUNCTIONS_OF_CELOSS[self.name].is_loss

    @property
    def is_product(self) -> bool:
        return FUNCTIONS_OF_CELOSS[self.name].kind.startswith("product")

    @property
    def has_target(self) -> bool:
        return FUNCTIONS_OF_CELOSS[self.name].has_target

    def data(self, case: Case) -> tuple[np.ndarray, ...]:
        return self.make_data(case)

    def runnable(self, kept: bool = False) -> dict[str, Peer]:
        """Peers that run here: those with a fresh result in every call, or those that keep it; celoss first."""
        return {peer.name: peer for peer in self.peers if not peer.missing and peer.name.endswith("out=") == kept}


def _peers(**makers: Callable) -> tuple[Peer, ...]:
    """Peers by library; ``celoss_out`` and ``PyTorch_out`` are the forms with ``out=``."""
    found = []
    for key, make in makers.items():
        library, _, out = key.replace("scikit_learn", "scikit-learn").partition("_")
        found.append(Peer(f"{library} out=" if out else library, make, NEEDS.get(library, ())))
    return tuple(found)


# --- by library --------------------------------------------------------------------------------


def celoss(name: str, out: bool = False) -> Callable:
    """As a user calls it, or with ``out`` an array for each result; threads as in ``peers.make_celoss``."""
    kept = [option for option in ("out", "hess_out") if out and option in FUNCTIONS_OF_CELOSS[name].options]

    def make(*arrays, n_threads=1):
        import celoss

        return partial(getattr(celoss, name), *arrays, **{option: np.zeros_like(arrays[0]) for option in kept})

    return make


def numpy(call: Callable) -> Callable:
    return lambda *arrays, n_threads=1: partial(call, *arrays)


def scipy(name: str, **options) -> Callable:
    def make(x, n_threads=1):
        import scipy.special

        return partial(getattr(scipy.special, name), x, **options)

    return make


def torch(call: Callable, out: bool = False) -> Callable:
    """``call(torch, *tensors)``, or with ``out`` ``call(torch, *tensors, result)``, without a record for gradients."""

    def make(*arrays, n_threads=1):
        import torch

        torch.set_num_threads(n_threads)
        tensors = [torch.from_numpy(array) for array in arrays]
        return partial(call, torch, *tensors, *((torch.zeros_like(tensors[0]),) if out else ()))

    return make


def torch_gradient(loss: Callable) -> Callable:
    def make(x, target, n_threads=1):
        import torch

        torch.set_num_threads(n_threads)
        x, target = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)

        def call():
            value = loss(torch, x, target)
            (grad,) = torch.autograd.grad(value, x)
            return value, grad

        return call

    return make


def torch_back(scores: Callable, activation: Callable) -> Callable:
    """``activation(torch, scores(torch, x))`` returns x itself, once; every call goes back through the activation alone."""

    def make(x, upstream, n_threads=1):
        import torch

        torch.set_num_threads(n_threads)
        leaf = scores(torch, torch.from_numpy(x)).requires_grad_()
        result, upstream = activation(torch, leaf), torch.from_numpy(upstream)
        return lambda: torch.autograd.grad(result, leaf, upstream, retain_graph=True)[0]

    return make


def torch_hessp(loss: Callable) -> Callable:
    """Back through the loss, then back through that with the vector as upstream gradient."""

    def make(x, target, vector, n_threads=1):
        import torch

        torch.set_num_threads(n_threads)
        x, target, vector = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target), torch.from_numpy(vector)

        def call():
            (grad,) = torch.autograd.grad(loss(torch, x, target), x, create_graph=True)
            return torch.autograd.grad(grad, x, vector)[0]

        return call

    return make


def sklearn_gradient_hessian(loss: Callable, out: bool = False) -> Callable:
    """``loss(sklearn._loss, x)``, private to scikit-learn's estimators. These two come without the loss: less work than that of
    the others. Threads as in ``peers.make_sklearn_sized``.
    """

    def make(x, target, n_threads=1):
        import sklearn._loss

        labels, share = target.astype(x.dtype, copy=False), np.full(len(x), 1 / len(x), x.dtype)
        kept = {option: np.zeros_like(x) for option in ("gradient_out", "hessian_out") if out}
        threads = n_threads if x.size >= 2**15 else 1
        return partial(loss(sklearn._loss, x).gradient_hessian, labels, x, share, n_threads=threads, **kept)

    return make


def jax(function: Callable, gradient: bool = False) -> Callable:
    """``function(jax, *arrays)`` compiled, with its gradient where that is wanted; threads as in ``peers.make_jax``."""

    def make(*arrays, n_threads=1):
        import jax

        arrays = [jax.numpy.asarray(array) for array in arrays]
        traced = partial(function, jax)
        compiled = jax.jit(jax.value_and_grad(traced) if gradient else traced)
        return lambda: jax.block_until_ready(compiled(*arrays))

    return make


# --- in NumPy, with as few temporaries as there can be ---------------------------------------------


def numpy_softmax(x):
    p = x - x.max(axis=1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=1, keepdims=True)
    return p


def numpy_log_softmax(x):
    y = x - x.max(axis=1, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=1, keepdims=True))
    return y


def numpy_logsumexp(x):
    top = x.max(axis=1)
    e = x - top[:, None]
    np.exp(e, out=e)
    return top + np.log(e.sum(axis=1))


def numpy_sigmoid(x):
    p = np.negative(x)
    np.exp(p, out=p)
    p += 1
    return np.divide(1, p, out=p)


def numpy_log_sigmoid(x):
    return np.negative(np.logaddexp(np.float32(0), -x))


def numpy_binary_cross_entropy(x, target):
    e = np.exp(-np.abs(x))
    loss = (np.log1p(e) + np.maximum(x, 0) - x * target).mean()
    grad = numpy_sigmoid(x)
    grad -= target
    grad /= np.float32(x.size)
    return loss, grad


def numpy_brier(x, target):
    p = numpy_softmax(x)
    rows = np.arange(len(x))
    d = p.copy()
    d[rows, target] -= 1
    loss = np.einsum("ij,ij->", d, d) / len(x)
    d -= np.einsum("ij,ij->i", p, d)[:, None]
    d *= p
    d *= np.float32(2 / len(x))
    return loss, d


def numpy_softmax_vjp(p, upstream):
    grad = upstream - np.einsum("ij,ij->i", p, upstream)[:, None]
    grad *= p
    return grad


def numpy_log_softmax_vjp(y, upstream):
    grad = np.exp(y)
    grad *= upstream.sum(axis=1, keepdims=True)
    return np.subtract(upstream, grad, out=grad)


def numpy_cross_entropy_hess(x, target):
    p = x - x.max(axis=1, keepdims=True)
    rows, share = np.arange(len(x)), np.float32(1 / len(x))
    at_target = p[rows, target]
    np.exp(p, out=p)
    total = p.sum(axis=1)
    loss = (np.log(total) - at_target).mean()
    p *= (1 / total)[:, None]
    hess = 1 - p
    hess *= p
    hess *= share
    p[rows, target] -= 1
    p *= share
    return loss, p, hess


def numpy_cross_entropy_hessp(x, target, vector):
    product = numpy_softmax_vjp(numpy_softmax(x), vector)
    product *= np.float32(1 / len(x))
    return product


def numpy_binary_hess(p):
    """Of the probability, for each score."""
    hess = 1 - p
    hess *= p
    hess /= np.float32(p.size)
    return hess


def numpy_binary_cross_entropy_hess(x, target):
    e = np.exp(-np.abs(x))
    loss = (np.log1p(e) + np.maximum(x, 0) - x * target).mean()
    grad = numpy_sigmoid(x)
    hess = numpy_binary_hess(grad)
    grad -= target
    grad /= np.float32(x.size)
    return loss, grad, hess


def numpy_binary_cross_entropy_hessp(x, target, vector):
    product = numpy_binary_hess(numpy_sigmoid(x))
    product *= vector
    return product


# --- losses of the other libraries -----------------------------------------------------------------


def scipy_binary_cross_entropy(x, target, n_threads=1):
    from scipy.special import expit, log_expit

    def call():
        loss = np.mean((1 - target) * x - log_expit(x))
        grad = expit(x)
        grad -= target
        grad /= np.float32(x.size)
        return loss, grad

    return call


def scipy_brier(x, target, n_threads=1):
    from scipy.special import softmax

    rows = np.arange(len(x))

    def call():
        p = softmax(x, axis=1)
        d = p.copy()
        d[rows, target] -= 1
        loss = np.einsum("ij,ij->", d, d) / len(x)
        d -= np.einsum("ij,ij->i", p, d)[:, None]
        d *= p
        d *= np.float32(2 / len(x))
        return loss, d

    return call


def sklearn_binary_cross_entropy(x, target, n_threads=1):
    """The private loss of scikit-learn's estimators, one-dimensional; threads as in ``peers.make_sklearn_sized``."""
    from sklearn._loss import HalfBinomialLoss

    loss, share = HalfBinomialLoss(), np.full(x.size, 1 / x.size, x.dtype)
    threads = n_threads if x.size >= 2**15 else 1

    def call():
        each, grad = loss.loss_gradient(target, x, share, n_threads=threads)
        return each.sum(), grad

    return call


def sklearn_multinomial(losses, x):
    return losses.HalfMultinomialLoss(n_classes=x.shape[1])


def sklearn_binomial(losses, x):
    return losses.HalfBinomialLoss()


def torch_brier(torch, x, target):
    onehot = torch.nn.functional.one_hot(target, x.shape[1])
    return (torch.softmax(x, 1) - onehot).square().sum(1).mean()


def torch_cross_entropy(torch, x, target):
    return torch.nn.functional.cross_entropy(x, target)


def torch_binary_cross_entropy(torch, x, target):
    return torch.nn.functional.binary_cross_entropy_with_logits(x, target)


def torch_cross_entropy_hess(torch, x, target):
    """By the formula, without autograd: the gradient's p is also that of the diagonal."""
    log_p = torch.log_softmax(x, 1)
    loss = torch.nn.functional.nll_loss(log_p, target)
    p = log_p.exp_()
    hess = torch.addcmul(p, p, p, value=-1).div_(len(x))
    p[torch.arange(len(x)), target] -= 1
    return loss, p.div_(len(x)), hess


def torch_binary_cross_entropy_hess(torch, x, target):
    loss = torch_binary_cross_entropy(torch, x, target)
    p = torch.sigmoid(x)
    hess = torch.addcmul(p, p, p, value=-1).div_(x.numel())
    return loss, p.sub_(target).div_(x.numel()), hess


def jax_brier(jax, x, target):
    error = jax.nn.softmax(x) - jax.nn.one_hot(target, x.shape[1])
    return (error * error).sum(axis=1).mean()


def jax_cross_entropy(jax, x, target):
    from optax import softmax_cross_entropy_with_integer_labels

    return softmax_cross_entropy_with_integer_labels(x, target).mean()


def jax_binary_cross_entropy(jax, x, target):
    from optax import sigmoid_binary_cross_entropy

    return sigmoid_binary_cross_entropy(x, target).mean()


def jax_hess(loss: Callable, probabilities: Callable) -> Callable:
    """The gradient by differentiation, the diagonal, which would take a product for each class, by its formula."""

    def function(jax, x, target):
        value, grad = jax.value_and_grad(partial(loss, jax))(x, target)
        p = probabilities(jax, x)
        return value, grad, p * (1 - p) / len(x)

    return function


def jax_hessp(loss: Callable) -> Callable:
    """Forward over reverse."""

    def function(jax, x, target, vector):
        grad = jax.grad(partial(loss, jax))
        return jax.jvp(lambda x: grad(x, target), (x,), (vector,))[1]

    return function


def jax_softmax_vjp(jax, p, upstream):
    return p * (upstream - (p * upstream).sum(axis=1, keepdims=True))


def jax_log_softmax_vjp(jax, y, upstream):
    return upstream - jax.numpy.exp(y) * upstream.sum(axis=1, keepdims=True)


# --- the family ------------------------------------------------------------------------------------


def scores_alone(case: Case):
    return (cases.make_logits(case),)


def result_and_upstream(name: str, case: Case):
    """What the activation of ``<activation>_vjp`` returned, and a gradient with respect to it."""
    import celoss

    activation = getattr(celoss, name.removesuffix("_vjp"))
    return activation(cases.make_logits(case)), cases.make_vector(case)


def with_vector(make_data: Callable, case: Case):
    return *make_data(case), cases.make_vector(case)


KINDS = {
    "rows": (cases.FAMILY_ROWS, cases.make),
    "scores": (cases.FAMILY_SCORES, cases.make_scores),
    "product of rows": (cases.FAMILY_ROWS, partial(with_vector, cases.make)),
    "product of scores": (cases.FAMILY_SCORES, partial(with_vector, cases.make_scores)),
    "activation of rows": ((*cases.FAMILY_ROWS, cases.ONE_ROW), scores_alone),
    "activation of scores": (cases.FAMILY_SCORES, scores_alone),
    "back of rows": (cases.FAMILY_ROWS, None),  # of its activation
}


def _function(name: str, **makers: Callable) -> Function:
    """Of celoss and of these peers; shapes and data are those of its kind, and the form with ``out=`` follows."""
    shapes, make_data = KINDS[FUNCTIONS_OF_CELOSS[name].kind]
    own = {"celoss": celoss(name)}
    if "out" in FUNCTIONS_OF_CELOSS[name].options:
        own["celoss_out"] = celoss(name, out=True)
    return Function(name, shapes, _peers(**own, **makers), make_data or partial(result_and_upstream, name))


FUNCTIONS = (
    _function(
        "softmax",
        NumPy=numpy(numpy_softmax),
        SciPy=scipy("softmax", axis=1),
        PyTorch=torch(lambda torch, x: torch.softmax(x, 1)),
        PyTorch_out=torch(lambda torch, x, out: torch.softmax(x, 1, out=out), out=True),
        JAX=jax(lambda jax, x: jax.nn.softmax(x)),
    ),
    _function(
        "log_softmax",
        NumPy=numpy(numpy_log_softmax),
        SciPy=scipy("log_softmax", axis=1),
        PyTorch=torch(lambda torch, x: torch.log_softmax(x, 1)),
        PyTorch_out=torch(lambda torch, x, out: torch.log_softmax(x, 1, out=out), out=True),
        JAX=jax(lambda jax, x: jax.nn.log_softmax(x)),
    ),
    _function(
        "logsumexp",
        NumPy=numpy(numpy_logsumexp),
        SciPy=scipy("logsumexp", axis=1),
        PyTorch=torch(lambda torch, x: torch.logsumexp(x, 1)),
        JAX=jax(lambda jax, x: jax.nn.logsumexp(x, axis=1)),
    ),
    _function(
        "softmax_vjp",
        NumPy=numpy(numpy_softmax_vjp),
        PyTorch=torch_back(lambda torch, p: torch.log(p), lambda torch, x: torch.softmax(x, 1)),
        JAX=jax(jax_softmax_vjp),
    ),
    _function(
        "log_softmax_vjp",
        NumPy=numpy(numpy_log_softmax_vjp),
        PyTorch=torch_back(lambda torch, y: y, lambda torch, x: torch.log_softmax(x, 1)),
        JAX=jax(jax_log_softmax_vjp),
    ),
    _function(
        "sigmoid",
        NumPy=numpy(numpy_sigmoid),
        SciPy=scipy("expit"),
        PyTorch=torch(lambda torch, x: torch.sigmoid(x)),
        PyTorch_out=torch(lambda torch, x, out: torch.sigmoid(x, out=out), out=True),
        JAX=jax(lambda jax, x: jax.nn.sigmoid(x)),
    ),
    _function(
        "log_sigmoid",
        NumPy=numpy(numpy_log_sigmoid),
        SciPy=scipy("log_expit"),
        PyTorch=torch(lambda torch, x: torch.nn.functional.logsigmoid(x)),
        JAX=jax(lambda jax, x: jax.nn.log_sigmoid(x)),
    ),
    _function(
        "binary_cross_entropy_with_grad",
        NumPy=numpy(numpy_binary_cross_entropy),
        SciPy=scipy_binary_cross_entropy,
        scikit_learn=sklearn_binary_cross_entropy,
        PyTorch=torch_gradient(torch_binary_cross_entropy),
        JAX=jax(jax_binary_cross_entropy, gradient=True),
    ),
    _function(
        "brier_score_with_grad",
        NumPy=numpy(numpy_brier),
        SciPy=scipy_brier,
        PyTorch=torch_gradient(torch_brier),
        JAX=jax(jax_brier, gradient=True),
    ),
    _function(
        "cross_entropy_with_grad_hess",
        NumPy=numpy(numpy_cross_entropy_hess),
        scikit_learn=sklearn_gradient_hessian(sklearn_multinomial),
        scikit_learn_out=sklearn_gradient_hessian(sklearn_multinomial, out=True),
        PyTorch=torch(torch_cross_entropy_hess),
        JAX=jax(jax_hess(jax_cross_entropy, lambda jax, x: jax.nn.softmax(x))),
    ),
    _function(
        "cross_entropy_hessp",
        NumPy=numpy(numpy_cross_entropy_hessp),
        PyTorch=torch_hessp(torch_cross_entropy),
        JAX=jax(jax_hessp(jax_cross_entropy)),
    ),
    _function(
        "binary_cross_entropy_with_grad_hess",
        NumPy=numpy(numpy_binary_cross_entropy_hess),
        scikit_learn=sklearn_gradient_hessian(sklearn_binomial),
        scikit_learn_out=sklearn_gradient_hessian(sklearn_binomial, out=True),
        PyTorch=torch(torch_binary_cross_entropy_hess),
        JAX=jax(jax_hess(jax_binary_cross_entropy, lambda jax, x: jax.nn.sigmoid(x))),
    ),
    _function(
        "binary_cross_entropy_hessp",
        NumPy=numpy(numpy_binary_cross_entropy_hessp),
        PyTorch=torch_hessp(torch_binary_cross_entropy),
        JAX=jax(jax_hessp(jax_binary_cross_entropy)),
    ),
)


def as_numpy(answer) -> tuple[np.ndarray, ...]:
    """What a call returned, one array or (loss, gradient) or (loss, gradient, diagonal), as NumPy arrays."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    return tuple(np.asarray(part.detach() if hasattr(part, "detach") else part) for part in parts)
