"""Train a small network to read handwritten digits, with celoss as its loss.

The network is plain NumPy and is written out below: 64 pixels -> hidden layer with ReLU -> 10 scores, one per digit.
Cross-entropy says how wrong the scores are and, by its gradient, in which direction each score should move; the chain
rule then carries that gradient back through the two layers.

The same training is run twice from the same seed: once with ``celoss.CrossEntropyLoss`` and once with the loss written
in NumPy the usual way. Both must learn the same; what differs is the time spent in the loss.

Two more trainings show why the loss is cross-entropy and not squared error. Both begin with a network that is sure of a
0 whatever it sees. Cross-entropy pulls hard at a sure and wrong answer; squared error hardly pulls where a probability
is near 0 or 1, so that training starts slowly.

    python examples/train_digits.py --output digits.png

The exit status is 0 if the network reads at least 97 % of the held-out digits and the two learning curves agree.
Needs scikit-learn (for the digits), matplotlib and tqdm: ``python -m pip install ".[examples]"``.
"""

import argparse
import sys
from time import perf_counter
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from tqdm import tqdm

import celoss

LEARNING_RATE = 0.1
MOMENTUM = 0.9
REQUIRED_ACCURACY = 0.97
# The two losses differ in the last bits of a float32, and training passes every difference on to the next step: with
# twelve seeds the curves lay up to 8e-5 apart. A gradient that is wrong by one part in ten thousand moves them by 9e-3.
CURVE_TOLERANCE = 1e-3
# The bias of the digit that a badly started network is sure of: exp(-10) is 5e-5 for each of the others.
BAD_START = 10.0


class Data(NamedTuple):
    """Images are float32 of shape (n, 64) with pixels in [0, 1]; labels are integers of shape (n,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Result(NamedTuple):
    """What a training returns: the network, three curves with a value per epoch, and the seconds spent in the loss."""

    network: "Network"
    train_loss: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    loss_seconds: float


class Network:
    """One hidden layer, ``scores = max(x W1 + b1, 0) W2 + b2``, trained by gradient descent with momentum."""

    def __init__(self, rng, n_inputs, n_hidden, n_classes):
        # He initialisation: the spread of the values stays the same from layer to layer.
        w1 = rng.standard_normal((n_inputs, n_hidden)) * np.sqrt(2 / n_inputs)
        w2 = rng.standard_normal((n_hidden, n_classes)) * np.sqrt(2 / n_hidden)
        parameters = [w1, np.zeros(n_hidden), w2, np.zeros(n_classes)]
        self.parameters = [p.astype(np.float32) for p in parameters]
        self.velocities = [np.zeros_like(p) for p in self.parameters]

    def scores(self, x):
        """The scores (logits) of a batch; the layers' values are kept for ``step``."""
        w1, b1, w2, b2 = self.parameters
        self.x = x
        self.hidden = np.maximum(x @ w1 + b1, 0)
        return self.hidden @ w2 + b2

    def step(self, grad):
        """Move every parameter against its gradient; ``grad`` is the loss's gradient with respect to the scores."""
        w2 = self.parameters[2]
        grad_hidden = (grad @ w2.T) * (self.hidden > 0)  # ReLU passes the gradient on where it was open
        gradients = [self.x.T @ grad_hidden, grad_hidden.sum(axis=0), self.hidden.T @ grad, grad.sum(axis=0)]
        for parameter, velocity, gradient in zip(self.parameters, self.velocities, gradients, strict=True):
            velocity *= MOMENTUM
            velocity -= LEARNING_RATE * gradient
            parameter += velocity


class PlainCrossEntropyLoss:
    """Mean cross-entropy in NumPy, written the usual way: the yardstick for the speed and for the learning curve."""

    def __call__(self, logits, target):
        rows = np.arange(len(target))
        shifted = logits - logits.max(axis=1, keepdims=True)  # so that exp cannot overflow
        exps = np.exp(shifted)
        sums = exps.sum(axis=1, keepdims=True)
        self.grad = exps / sums  # softmax, then p - y below
        self.grad[rows, target] -= 1
        self.grad /= len(target)
        return float((np.log(sums[:, 0]) - shifted[rows, target]).mean())

    def backward(self):
        return self.grad


class SquaredErrorLoss:
    """Mean squared error of the probabilities, ``celoss.brier_score``, as an object for the training loop."""

    def __call__(self, logits, target):
        loss, self.grad = celoss.brier_score_with_grad(logits, target)
        return loss

    def backward(self):
        return self.grad


def load_data(seed):
    """The 1797 digits of scikit-learn, 8 x 8 pixels each, shuffled; a quarter is held out for testing."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    test, train = np.split(order, [len(images) // 4])
    return Data(images[train], labels[train], images[test], labels[test])


def train(criterion, data, options, name, sure_of=None):
    """Train a new network with ``criterion`` as its loss. The seed alone decides its start and the digits' order.

    With ``sure_of`` the start is a bad one: the network is sure of this digit, whatever it sees.
    """
    rng = np.random.default_rng(options.seed)
    network = Network(rng, n_inputs=64, n_hidden=options.hidden, n_classes=10)
    if sure_of is not None:
        output_bias = network.parameters[3]
        output_bias[sure_of] = BAD_START
    n_train = len(data.train_images)
    curves = []
    loss_seconds = 0.0

    epochs = tqdm(range(options.epochs), desc=name, unit="epoch")
    for _ in epochs:
        order = rng.permutation(n_train)
        loss_sum = 0.0
        for start in range(0, n_train, options.batch_size):
            batch = order[start : start + options.batch_size]
            logits = network.scores(data.train_images[batch])
            target = data.train_labels[batch]

            clock = perf_counter()
            loss = criterion(logits, target)
            grad = criterion.backward()
            loss_seconds += perf_counter() - clock

            network.step(grad)
            loss_sum += loss * len(batch)

        logits = network.scores(data.test_images)
        test_loss = criterion(logits, data.test_labels)
        test_accuracy = np.mean(logits.argmax(axis=1) == data.test_labels)
        curves.append((loss_sum / n_train, test_loss, test_accuracy))
        epochs.set_postfix(loss=f"{loss_sum / n_train:.4f}", accuracy=f"{test_accuracy:.1%}", refresh=False)

    return Result(network, *np.array(curves).T, loss_seconds)


def draw(result, plain, bad_starts, data, path):
    """Save a picture: the learning curves above, eight held-out digits with their predicted probabilities below.

    ``bad_starts`` are two results, with cross-entropy and with squared error.
    """
    logits = result.network.scores(data.test_images)
    probabilities = celoss.softmax(logits)
    losses = celoss.cross_entropy(logits, data.test_labels, reduction="none")
    order = losses.argsort()
    chosen = np.concatenate([order[::-1][:4], order[len(order) // 2 :][:4]])  # the four worst, and four near the median

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory; no display is needed
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.1])

    loss_axes, accuracy_axes = above.subplots(1, 2)
    epoch = np.arange(1, len(result.train_loss) + 1)
    loss_axes.semilogy(epoch, result.train_loss, label="training digits, celoss")
    loss_axes.semilogy(epoch, plain.train_loss, "k:", label="training digits, plain NumPy")
    loss_axes.semilogy(epoch, result.test_loss, label="held-out digits, celoss")
    loss_axes.set(xlabel="epoch", ylabel="mean cross-entropy", title="Loss")
    loss_axes.legend()
    accuracy_axes.semilogx(epoch, 100 * result.test_accuracy, label="cross-entropy")
    for bad, name, style in zip(bad_starts, ("cross-entropy", "squared error"), ("k--", "C1-."), strict=True):
        accuracy_axes.semilogx(epoch, 100 * bad.test_accuracy, style, label=f"{name}, start sure of 0")
    accuracy_axes.xaxis.set_major_formatter("{x:g}")
    accuracy_axes.set(xlabel="epoch", ylabel="read correctly, %", title="Held-out digits")
    accuracy_axes.legend()

    below.suptitle("The four held-out digits with the largest loss, and four near the median (green: the true digit)")
    cells = below.subplots(2, 8, width_ratios=[1, 2] * 4)
    for image_axes, bar_axes, i in zip(cells[:, ::2].flat, cells[:, 1::2].flat, chosen, strict=True):
        label = data.test_labels[i]
        image_axes.imshow(data.test_images[i].reshape(8, 8), cmap="gray_r")
        image_axes.set_axis_off()
        bar_axes.bar(range(10), probabilities[i], color=["tab:green" if k == label else "tab:gray" for k in range(10)])
        bar_axes.set(xticks=range(10), ylim=(0, 1), title=f"a {label}, loss {losses[i]:.2g}")
    figure.savefig(path, dpi=100)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Train a small NumPy network on handwritten digits with celoss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training digits")
    parser.add_argument("--hidden", type=int, default=256, help="units in the hidden layer")
    parser.add_argument("--batch-size", type=int, default=32, help="digits per step")
    parser.add_argument("--output", default="digits.png", help="file for the picture")
    parser.add_argument("--seed", type=int, default=0, help="decides the split, the start and the order of the digits")
    options = parser.parse_args()
    for name in ("epochs", "hidden", "batch_size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


def main():
    options = parse_arguments()
    data = load_data(options.seed)

    result = train(celoss.CrossEntropyLoss(), data, options, "celoss")
    plain = train(PlainCrossEntropyLoss(), data, options, "plain NumPy")
    bad_starts = (
        train(celoss.CrossEntropyLoss(), data, options, "cross-entropy, start sure of 0", sure_of=0),
        train(SquaredErrorLoss(), data, options, "squared error, start sure of 0", sure_of=0),
    )
    draw(result, plain, bad_starts, data, options.output)

    accuracy = result.test_accuracy[-1]
    difference = max(
        np.abs(result.train_loss - plain.train_loss).max(),
        np.abs(result.test_loss - plain.test_loss).max(),
    )
    accurate = accuracy >= REQUIRED_ACCURACY
    agree = difference <= CURVE_TOLERANCE

    n_calls = options.epochs * -(-len(data.train_images) // options.batch_size)
    print(f"held-out accuracy: {accuracy:.2%} of {len(data.test_labels)} digits (required: {REQUIRED_ACCURACY:.0%})")
    print(f"time in the loss, {n_calls} batches of {options.batch_size}:")
    for name, seconds in ("celoss", result.loss_seconds), ("plain NumPy", plain.loss_seconds):
        print(f"  {name:<12}{1e3 * seconds:8.1f} ms  {1e6 * seconds / n_calls:6.1f} us a batch")
    print(f"  celoss is {plain.loss_seconds / result.loss_seconds:.1f} times as fast")
    print(f"largest difference between the learning curves: {difference:.1e} (allowed: {CURVE_TOLERANCE:.0e})")
    first_epoch = [f"{bad.test_accuracy[0]:.1%}" for bad in bad_starts]
    print("sure of 0 at the start, after one epoch: {} with cross-entropy, {} with squared error".format(*first_epoch))
    print(f"picture: {options.output}")

    if not accurate:
        print("FAILED: the held-out accuracy is too low", file=sys.stderr)
    if not agree:
        print("FAILED: the learning curves do not agree", file=sys.stderr)
    return 0 if accurate and agree else 1


if __name__ == "__main__":
    sys.exit(main())
