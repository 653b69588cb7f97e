"""Shapes, seeds and data of every benchmark: the only place where they are written.

May import NumPy, and ml_dtypes for bfloat16 where a bfloat16 case is asked for.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

SEED = 20240229
SIGMA = 3.0  # logits of a classifier in training: the top class leads by a few units
IGNORE_INDEX = -100


@dataclass(frozen=True)
class Case:
    """One array of logits: its shape, where its classes lie, its dtype."""

    shape: tuple[int, ...]
    axis: int = -1
    dtype: str = "float32"

    def __str__(self) -> str:
        name = "x".join(map(str, self.shape))
        name += "" if self.axis == -1 else f"-axis{self.axis}"
        return name + ("" if self.dtype == "float32" else f"-{self.dtype}")

    @property
    def classes(self) -> int:
        return self.shape[self.axis]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def rows(self) -> int:
        return self.size // self.classes

    @property
    def class_last(self) -> "Case":
        """As many rows of as many classes, the classes lying together."""
        return replace(self, shape=(self.rows, self.classes), axis=-1)

    def like(self, dtype: str) -> "Case":
        return replace(self, dtype=dtype)


# --- speed -------------------------------------------------------------------------------------

SMALL = Case((32, 10))  # the price of a call: 320 logits
FEW_CLASSES = Case((65_536, 10))
HUNDRED = Case((4_096, 100))
THOUSAND = Case((8_192, 1_000))
TOKENS = Case((1_024, 32_000))
VOCABULARY = Case((256, 128_256))
HUGE_ROW = Case((1, 16_777_216))  # fewer rows than threads

SPEED = (SMALL, FEW_CLASSES, HUNDRED, THOUSAND, TOKENS, VOCABULARY, HUGE_ROW)
LARGE = (THOUSAND, TOKENS, VOCABULARY)  # far larger than a core's caches: memory decides
OPTIONS = (FEW_CLASSES, THOUSAND, TOKENS)  # shapes on which an option is compared with the plain call
SECOND = OPTIONS  # shapes on which second derivatives are compared with the first
LANGUAGE = (THOUSAND, TOKENS)  # shapes on which the options of language models are compared with the plain call
SECOND_SCORES = (Case((1_000_000,)),)
DTYPES = (HUNDRED, THOUSAND, TOKENS)  # shapes on which dtypes are compared
FRESH = (FEW_CLASSES, Case((4_096, 1_000)), *LARGE)  # shapes on which fresh results are compared with ``out=``
LEVELS = (FEW_CLASSES, HUNDRED, THOUSAND, TOKENS)  # shapes on which the ISA levels are compared

# The family: functions of rows, and functions of one score at a time.
FAMILY_ROWS = (SMALL, FEW_CLASSES, HUNDRED, THOUSAND, TOKENS, VOCABULARY)
ONE_ROW = Case((1, 1_000_000))
FAMILY_SCORES = (Case((320,)), Case((65_536,)), Case((8_192_000,)))


@dataclass(frozen=True)
class Head:
    """A linear layer in front of the loss: rows of features, their width, classes."""

    rows: int
    width: int
    classes: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.width}x{self.classes}"


HEADS = (Head(4_096, 512, 32_000), Head(1_024, 1_024, 32_000))
HEAD_OF_MEMORY = Head(2_048, 1_024, 128_256)

# Anchors of a detector, pixels of a segmentation: the classes are not the last axis.
AXIS_1 = (Case((32, 81, 8_732), axis=1), Case((16, 21, 256, 256), axis=1))

# Rows at 1000 classes, and classes at a constant 2^22 logits.
BY_ROWS = tuple(Case((4**k, 1_000)) for k in range(8))
BY_CLASSES = tuple(Case((2**22 // classes, classes)) for classes in (2, 8, 32, 128, 512, 4096, 65536))

# The curve over classes: the time of a logit at each of them, over that of the last.
CURVE = tuple(Case((4_096, classes)) for classes in (2, 3, 5, 10, 20, 32, 64, 100, 127, 128, 200, 500, 1_000, 1_024))

# Where levels are compared bit by bit: rows as lanes, classes as lanes, rows in pieces.
BITS = tuple(Case(shape) for shape in ((70, 3), (270, 10), (40, 81), (150, 100), (20, 1_000), (2, 70_000)))

# Batch, features, classes of a linear layer: matmul -> loss -> matmul.
TRAINING = ((256, 784, 10), (256, 512, 1_000), (512, 512, 32_000))

# Peak memory: gradient into ``out=``, and the loss alone of an array too large to copy in passing.
MEMORY_GRADIENT = (FEW_CLASSES, VOCABULARY)
MEMORY_LOSS = Case((1_024, 128_256))


def numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def make_logits(case: Case, sigma: float = SIGMA, seed: int = SEED) -> np.ndarray:
    """Normal logits, made in place so that making them never costs more memory than they take."""
    wide = case.dtype == "float64"
    logits = np.random.default_rng(seed).standard_normal(case.shape, dtype=np.float64 if wide else np.float32)
    logits *= sigma
    return logits.astype(numpy_dtype(case.dtype), copy=False)


def make_target(case: Case, seed: int = SEED) -> np.ndarray:
    shape = list(case.shape)
    del shape[case.axis]
    return np.random.default_rng([seed, 1]).integers(0, case.classes, shape, dtype=np.int64)


def make_labels(case: Case, seed: int = SEED) -> np.ndarray:
    """Labels 0 and 1 of binary scores, in the dtype of the scores."""
    return np.random.default_rng([seed, 1]).integers(0, 2, case.shape).astype(numpy_dtype(case.dtype))


def make_vector(case: Case, seed: int = SEED) -> np.ndarray:
    """Numbers of either sign, as many as logits: a gradient to carry back, a direction."""
    return make_logits(case, sigma=1.0, seed=seed + 1)


def make_probabilities(case: Case, seed: int = SEED) -> np.ndarray:
    """A distribution for each row, in the dtype of the logits: the softmax of others."""
    p = make_logits(case, seed=seed + 1)
    np.exp(p, out=p)
    p /= p.sum(axis=case.axis, keepdims=True)
    return p


def make(case: Case) -> tuple[np.ndarray, np.ndarray]:
    return make_logits(case), make_target(case)


def make_scores(case: Case) -> tuple[np.ndarray, np.ndarray]:
    return make_logits(case), make_labels(case)


# --- accuracy ----------------------------------------------------------------------------------

ACCURACY_ROWS, ACCURACY_CLASSES = 2_000, 1_000
WIDE_ROWS, WIDE_CLASSES = 64, 128_256


def _normal(dtype: str, sigma: float, rows=ACCURACY_ROWS, classes=ACCURACY_CLASSES):
    case = Case((rows, classes), dtype=dtype)
    return make_logits(case, sigma), make_target(case)


def _confident(dtype: str):
    """Adversarial: every row is right, its target ahead of the next class by 5 to 30.

    The loss is then between about 1e-11 and 1, and 1 - p between the same: where log(sum) rounds
    to 0 or p rounds to 1, nothing of either is left.
    """
    logits, target = _normal("float64", 1.0)
    rows = np.arange(len(logits))
    logits[rows, target] = -np.inf
    margin = np.random.default_rng([SEED, 2]).uniform(5.0, 30.0, len(logits))
    logits[rows, target] = logits.max(axis=1) + margin
    return logits.astype(numpy_dtype(dtype)), target


def _offset(dtype: str):
    logits, target = _normal("float64", SIGMA)
    logits += 1000.0
    return logits.astype(numpy_dtype(dtype)), target


NORMAL, CONFIDENT = "normal, sigma 3", "confident and right, margin 5 to 30"

# name -> function(dtype) returning (logits, target)
ACCURACY = {
    NORMAL: lambda dtype: _normal(dtype, SIGMA),
    CONFIDENT: _confident,
    "normal, sigma 30": lambda dtype: _normal(dtype, 30.0),
    "offset +1000": _offset,
    "128 256 classes": lambda dtype: _normal(dtype, SIGMA, WIDE_ROWS, WIDE_CLASSES),
}
