"""Train a logistic unit to tell malignant from benign tumours, with celoss as its loss.

The unit is the smallest classifier there is: one score from 30 measured features, ``score = x w + b``. The sigmoid of
the score is the probability that the tumour is malignant. Binary cross-entropy says how wrong the scores are; its
gradient with respect to each score is the error, probability minus label, and the chain rule multiplies that by the
features.

    python examples/train_binary.py --output binary.png

The exit status is 0 if the unit is right about at least 95 % of the held-out tumours. The data set is scikit-learn's,
and a standard exercise; nothing here is medical advice.
Needs scikit-learn (for the data), matplotlib and tqdm: ``python -m pip install ".[examples]"``.
"""

import argparse
import sys
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from tqdm import tqdm

import celoss

LEARNING_RATE = 0.1
REQUIRED_ACCURACY = 0.95
# Blue and vermilion are told apart by colour-blind eyes.
BENIGN, MALIGNANT = "#0072B2", "#D55E00"


class Data(NamedTuple):
    """Features are float32 of shape (n, 30), labels float32 of shape (n,): 1 is malignant, 0 is benign."""

    train_features: np.ndarray
    train_labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray


class Result(NamedTuple):
    """What a training returns: the weights, the bias, and three curves with a value per epoch."""

    weights: np.ndarray
    bias: float
    train_loss: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray


def load_data(seed):
    """The 569 tumours of scikit-learn, shuffled; a quarter is held out for testing."""
    features, benign = load_breast_cancer(return_X_y=True)
    labels = (benign == 0).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(features))
    test, train = np.split(order, [len(features) // 4])
    # Every feature gets mean 0 and spread 1. Both numbers come from the training part: the test part is not to be seen.
    mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
    features = ((features - mean) / spread).astype(np.float32)
    return Data(features[train], labels[train], features[test], labels[test])


def train(data, options):
    """Train a new logistic unit by gradient descent in batches. The seed alone decides the order of the tumours."""
    rng = np.random.default_rng(options.seed)
    criterion = celoss.BinaryCrossEntropyLoss()
    n_train, n_features = data.train_features.shape
    weights = np.zeros(n_features, dtype=np.float32)
    bias = 0.0
    curves = []

    epochs = tqdm(range(options.epochs), desc="celoss", unit="epoch")
    for _ in epochs:
        order = rng.permutation(n_train)
        loss_sum = 0.0
        for start in range(0, n_train, options.batch_size):
            batch = order[start : start + options.batch_size]
            features = data.train_features[batch]
            loss = criterion(features @ weights + bias, data.train_labels[batch])
            grad = criterion.backward()  # with respect to the scores; it holds the division by the batch's size
            weights -= LEARNING_RATE * (features.T @ grad)
            bias -= LEARNING_RATE * float(grad.sum())
            loss_sum += loss * len(batch)

        scores = data.test_features @ weights + bias
        test_loss = celoss.binary_cross_entropy(scores, data.test_labels)
        test_accuracy = 1 - celoss.binary_zero_one_loss(scores, data.test_labels)
        curves.append((loss_sum / n_train, test_loss, test_accuracy))
        epochs.set_postfix(loss=f"{loss_sum / n_train:.4f}", accuracy=f"{test_accuracy:.1%}", refresh=False)

    return Result(weights, bias, *np.array(curves).T)


def draw(result, data, path):
    """Save a picture: the learning curves, and the held-out tumours by their predicted probability."""
    probabilities = celoss.sigmoid(data.test_features @ result.weights + result.bias)
    malignant = data.test_labels == 1

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory; no display is needed
    loss_axes, probability_axes = figure.subplots(1, 2)

    epoch = np.arange(1, len(result.train_loss) + 1)
    loss_axes.plot(epoch, result.train_loss, color=BENIGN, label="training tumours")
    loss_axes.plot(epoch, result.test_loss, "--", color=MALIGNANT, label="held-out tumours")
    loss_axes.set(xlabel="epoch", ylabel="mean binary cross-entropy", title="Loss", ylim=(0, None))
    loss_axes.legend()

    probability_axes.hist(
        [probabilities[~malignant], probabilities[malignant]],
        bins=np.linspace(0, 1, 21),
        color=[BENIGN, MALIGNANT],
        label=["benign", "malignant"],
        log=True,
    )
    probability_axes.axvline(0.5, color="black", linestyle=":")
    probability_axes.set(xlabel="predicted probability of malignant", ylabel="held-out tumours", title="Predictions")
    probability_axes.yaxis.set_major_formatter("{x:g}")
    probability_axes.legend(title="the truth", loc="upper center")
    figure.savefig(path, dpi=100)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Train a logistic unit on scikit-learn's breast cancer data with celoss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training tumours")
    parser.add_argument("--batch-size", type=int, default=32, help="tumours per step")
    parser.add_argument("--output", default="binary.png", help="file for the picture")
    parser.add_argument("--seed", type=int, default=0, help="decides the split and the order of the tumours")
    options = parser.parse_args()
    for name in ("epochs", "batch_size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return options


def main():
    options = parse_arguments()
    data = load_data(options.seed)
    result = train(data, options)
    draw(result, data, options.output)

    accuracy = result.test_accuracy[-1]
    accurate = accuracy >= REQUIRED_ACCURACY
    print(f"held-out accuracy: {accuracy:.2%} of {len(data.test_labels)} tumours (required: {REQUIRED_ACCURACY:.0%})")
    print(f"mean loss: {result.train_loss[-1]:.4f} in training, {result.test_loss[-1]:.4f} held out")
    print(f"picture: {options.output}")

    if not accurate:
        print("FAILED: the held-out accuracy is too low", file=sys.stderr)
    return 0 if accurate else 1


if __name__ == "__main__":
    sys.exit(main())
