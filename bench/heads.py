"""The head of a language model, a linear layer and its loss: sections of ``targets``.

Beside it the three products that are its arithmetic, PyTorch's ``linear_cross_entropy`` with and without its chunking, and JAX
with chunks that ``jax.checkpoint`` computes twice. Times are those of loss and all gradients; memory is the peak of a process of
its own.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bench import cases, machine, peers
from bench.fresh_processes import MIB, fresh_process, resident
from bench.ratios import Row, Run

CHUNK_BYTES = 64 * MIB  # the default of celoss
PRODUCTS = 1.05
PYTORCH = 1.3
HALF_IGNORED = 0.6  # of the time with no row ignored: half the products, and what is fixed


def make(head: cases.Head) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, weights and class indices."""
    features = cases.make_logits(cases.Case((head.rows, head.width)), sigma=1.0)
    weight = cases.make_logits(cases.Case((head.classes, head.width)), sigma=head.width**-0.5)
    return features, weight, cases.make_target(cases.Case((head.rows, head.classes)))


def products(features: np.ndarray, weight: np.ndarray, target: np.ndarray) -> Callable:
    """Logits, and back from them to features and weights, in arrays that are kept."""
    logits = np.zeros((len(features), len(weight)), np.float32)
    by_features, by_weight = np.zeros_like(features), np.zeros_like(weight)

    def call() -> None:
        np.matmul(features, weight.T, out=logits)
        np.matmul(logits, weight, out=by_features)
        np.matmul(logits.T, features, out=by_weight)

    return call


def celoss(features: np.ndarray, weight: np.ndarray, target: np.ndarray) -> Callable:
    from celoss import LinearGradients, linear_cross_entropy_with_grad

    out = LinearGradients(np.zeros_like(features), np.zeros_like(weight), None)
    return partial(linear_cross_entropy_with_grad, features, weight, target, out=out)


def pytorch(features: np.ndarray, weight: np.ndarray, target: np.ndarray, chunked: bool) -> Callable:
    import torch

    x, w = (torch.from_numpy(array).requires_grad_() for array in (features, weight))
    y = torch.from_numpy(target)
    options = {"options": torch.nn.LinearCrossEntropyOptions()} if chunked else {}

    def call() -> None:
        x.grad = w.grad = None
        torch.nn.functional.linear_cross_entropy(x, w, y, **options).backward()

    return call


def jax_in_chunks(features: np.ndarray, weight: np.ndarray, target: np.ndarray) -> Callable:
    import jax

    rows = max(1, CHUNK_BYTES // (4 * len(weight)))
    count = -(-len(features) // rows)
    while len(features) % count:
        count += 1
    chunks = features.reshape(count, -1, features.shape[1]), target.reshape(count, -1)

    @jax.checkpoint
    def of_chunk(w, x, y):
        logits = x @ w.T
        at_target = jax.numpy.take_along_axis(logits, y[:, None], 1)[:, 0]
        return (jax.nn.logsumexp(logits, axis=1) - at_target).sum()

    def loss(w, xs, ys):
        total, _ = jax.lax.scan(lambda sum, chunk: (sum + of_chunk(w, *chunk), None), 0.0, (xs, ys))
        return total / target.size

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return lambda: jax.block_until_ready(compiled(weight, *chunks))


def rivals() -> dict[str, Callable]:
    found: dict[str, Callable] = {}
    if not peers.TORCH.missing:
        found["PyTorch"] = partial(pytorch, chunked=False)
        found["PyTorch, chunked"] = partial(pytorch, chunked=True)
    if not peers.JAX.missing:
        found["JAX, chunked"] = jax_in_chunks
    return found


def linear(run: Run) -> Iterator[Row]:
    few = replace(run, rounds=max(3, run.rounds // 4))  # calls of seconds
    for head in cases.HEADS:
        arrays = make(head)
        features, weight, target = arrays
        half = np.where(np.arange(head.rows) % 2, cases.IGNORE_INDEX, target)
        calls = {"celoss": celoss(*arrays), "products": products(*arrays), "half ignored": celoss(features, weight, half)}
        calls |= {name: prepare(*arrays) for name, prepare in rivals().items()}
        times = few.time(calls)
        yield run.compare(f"{head}, {run.threads}: loss and gradients / the bare products", times, "celoss", "products", PRODUCTS)
        what = f"{head}, {run.threads}: half the rows ignored / none"
        yield run.compare(what, times, "half ignored", "celoss", HALF_IGNORED)
        for name in rivals():
            row = run.compare(f"{head}, {run.threads}: {name} / celoss", times, name, "celoss", PYTORCH)
            yield replace(row, at_least=True)


def peak(name: str, head: cases.Head, gradient: bool) -> int:
    """Peak bytes of one call beyond what was there before it."""
    machine.use_threads("1")
    features, weight, target = make(head)
    if name == "celoss":
        import celoss as package

        function = package.linear_cross_entropy_with_grad if gradient else package.linear_cross_entropy
        call = partial(function, features, weight, target)
    else:
        import torch

        x, w = (torch.from_numpy(array).requires_grad_(gradient) for array in (features, weight))
        y = torch.from_numpy(target)
        options = {"options": torch.nn.LinearCrossEntropyOptions()} if "chunked" in name else {}

        def call():
            loss = torch.nn.functional.linear_cross_entropy(x, w, y, **options)
            if gradient:
                loss.backward()

    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")  # VmHWM starts again from VmRSS
    before = resident("VmRSS")
    result = call()
    del result
    return resident("VmHWM") - before


def linear_memory(run: Run) -> Iterator[Row]:
    """Against the gradients and one chunk; of others the same number, for which there is no limit but that they need more."""
    if not sys.platform.startswith("linux"):
        return
    head = cases.HEAD_OF_MEMORY
    for gradient in (True, False):
        results = 4 * (head.rows + head.classes) * head.width * gradient
        most = (results + CHUNK_BYTES + 4 * head.classes * head.width * gradient) / MIB
        form = "loss and gradients" if gradient else "loss only"
        for name in ("celoss", "PyTorch", "PyTorch, chunked"):
            if name != "celoss" and peers.TORCH.missing:
                continue
            with fresh_process() as process:
                found = process(peak, name, head, gradient) / MIB
            yield Row(f"{head}, {form}: peak memory beyond the input, {name}", found, round(most, 1), "MiB", name != "celoss")


SECTIONS = (linear, linear_memory)
