"""``python -m celoss perplexity``: how well a language model predicts a text, from logits or hidden states in files.

Files are mapped and read a part at a time, so that neither they nor the logits of hidden states need fit into memory. What is
wrong with a file is said in one line, before anything is computed where it can be known then; the exit status is 2.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import celoss

Array = NDArray[Any]

CHUNK_BYTES = 64 << 20  # of logits in work at a time
SLICE_BYTES = 16 << 20  # of weights in float32, where they are stored in half precision
TOP = 5
UNUSABLE, INTERRUPTED = 2, 130  # exit statuses


class Unusable(Exception):
    """What is wrong with a file, in one line."""


# --- files ---------------------------------------------------------------------------------------------------------


class Source:
    """An array in a .npy file."""

    def __init__(self, path: Path, *, integers: bool = False) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                magic = file.read(6)
            array = self.map() if magic == b"\x93NUMPY" else None
        except OSError as error:
            raise Unusable(f"{path} cannot be read: {error.strerror or error}") from None
        except Exception as error:  # a damaged header can be anything: SyntaxError, OverflowError, tokenize.TokenError
            text = "its header is damaged"
            if "mmap length" in str(error):
                text = "it is shorter than its header says, and may have been truncated"
            elif "Python objects" in str(error):
                text = "it holds Python objects, and no numbers"
            raise Unusable(f"{path} cannot be read: {text}") from None
        if array is None:
            what = "an archive of arrays and no array:" if magic.startswith(b"PK") else "not a .npy file:"
            raise Unusable(f"{path} is {what} numpy.save writes one")
        name = array.dtype.name
        if integers and array.dtype.kind not in "iu":
            hint = " (are the files in the right order?)" if array.dtype.kind in "fV" else ""
            raise Unusable(f"{path} holds {name}; targets are integers, indices of classes{hint}")
        if not integers and name not in ("float16", "bfloat16", "float32", "float64"):
            hint = " (are the files in the right order?)" if array.dtype.kind in "iu" else ""
            hint = ", or bfloat16 if ml_dtypes is installed" if array.dtype == "V2" else hint
            raise Unusable(f"{path} holds {name}; expected float16, bfloat16, float32 or float64{hint}")
        self.shape, self.dtype = array.shape, array.dtype

    def map(self) -> Array:
        """The array, mapped anew: what has been read of an earlier map leaves memory with it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2
            array: Array = np.lib.format.open_memmap(self.path, mode="r")
        if array.dtype == np.dtype("V2"):  # as NumPy reads what ml_dtypes has written
            try:
                import ml_dtypes
            except ImportError:
                return array
            return array.view(ml_dtypes.bfloat16)
        return array


def blocks(shape: tuple[int, ...], rows: int) -> Iterator[tuple[int | slice, ...]]:
    """Where an array of rows lies in parts of so many rows at most, in their order: indices of its first axes."""
    if not shape:
        yield ()
        return
    inner = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    axis = next(k for k, count in enumerate(inner) if count <= rows or k == len(shape) - 1)
    step = max(1, rows // max(inner[axis], 1))
    for outer in np.ndindex(shape[:axis]):
        for start in range(0, shape[axis], step):
            yield (*outer, slice(start, start + step))


# --- rows of logits ------------------------------------------------------------------------------------------------


class StoredLogits:
    """Logits of a file, classes along any axis."""

    def __init__(self, source: Source, axis: int) -> None:
        if not -len(source.shape) <= axis < len(source.shape):
            raise Unusable(f"{source.path} has shape {source.shape}: it has no axis {axis}")
        self.source, self.axis = source, axis
        shape = list(source.shape)
        self.classes = shape.pop(axis)
        self.shape, self.bytes_a_row = tuple(shape), self.classes * source.dtype.itemsize

    def rows(self, where: tuple[int | slice, ...], counted: Array) -> Array:
        """Those of a part that count, with the classes last: all of them in place, or some of them copied."""
        part = self._classes_first()[(slice(None), *where)]
        low, high = np.lib.array_utils.byte_bounds(part)
        if high - low > 2 * part.nbytes:
            # A little of every page of the file: a few classes are copied at a time, so that few of its pages are in memory.
            few = max(1, CHUNK_BYTES // abs(part.strides[0]))
            part = np.empty(part.shape, part.dtype)
            for start in range(0, self.classes, few):
                classes = slice(start, start + few)
                part[classes] = self._classes_first()[(classes, *where)]
        part = np.moveaxis(part, 0, -1)
        return part if counted.all() else part[counted]

    def _classes_first(self) -> Array:
        return np.moveaxis(self.source.map(), self.axis, 0)


class HiddenStates:
    """Logits computed where they are needed, features @ weight.T + bias: in float64 where one of them is, else in float32."""

    def __init__(self, features: Source, weight: Source, bias: Source | None) -> None:
        self.features, self.weight, self.bias = features, weight.map(), None if bias is None else bias.map()
        if not features.shape or self.weight.ndim != 2 or self.weight.shape[1] != features.shape[-1]:
            raise Unusable(
                f"{weight.path} has shape {weight.shape}; expected (classes, features) for the features of shape "
                f"{features.shape} in {features.path}"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            raise Unusable(f"{bias.path} has shape {bias.shape}; expected {weight.shape[:1]}, a number for each class")
        sizes = [source.dtype.itemsize for source in (features, weight, bias) if source is not None]
        self.dtype = np.dtype(np.float64 if 8 in sizes else np.float32)
        self.classes, self.shape = weight.shape[0], features.shape[:-1]
        self.bytes_a_row = self.classes * self.dtype.itemsize

    def rows(self, where: tuple[int | slice, ...], counted: Array) -> Array:
        """Those of a part that count, as from `StoredLogits`."""
        x = self.features.map()[where][counted].astype(self.dtype)
        logits = np.empty((len(x), self.classes), self.dtype)
        # Weights of another dtype are converted a slice at a time: a copy of all of them may not fit.
        step = self.classes
        if self.weight.dtype != self.dtype:
            step = max(1, SLICE_BYTES // (self.dtype.itemsize * max(x.shape[-1], 1)))
        for start in range(0, self.classes, max(step, 1)):
            part = slice(start, start + step)
            np.matmul(x, self.weight[part].astype(self.dtype, copy=False).T, out=logits[:, part])
        if self.bias is not None:
            logits += self.bias.astype(self.dtype)
        return logits.reshape(*counted.shape, self.classes) if counted.all() else logits


def as_scores(logits: Array, logit_scale: float, logit_softcap: float) -> Array:
    """c tanh(a x / c) in float64: the divergence has no option for it. An infinity stays one."""
    x = logits.astype(np.float64)
    return np.where(np.isinf(x), x, logit_softcap * np.tanh(x * (logit_scale / logit_softcap)))


# --- sums ----------------------------------------------------------------------------------------------------------


@dataclass
class Totals:
    """Sums over the tokens so far."""

    tokens: int = 0
    undecided: int = 0
    loss: float = 0.0
    entropy: float = 0.0
    right: int = 0
    in_top: int = 0
    reference_loss: float = 0.0
    divergence: float = 0.0
    equal: int = 0

    def results(self, ignored: int, with_reference: bool) -> dict[str, Any]:
        n, loss = self.tokens, self.loss / self.tokens
        found: dict[str, Any] = {
            "tokens": n,
            "ignored": ignored,
            "undecided": self.undecided,
            "mean_loss": loss,
            "perplexity": exp(loss),
            "bits_per_token": loss / math.log(2),
            "accuracy": self.right / n,
            f"top{TOP}": self.in_top / n,
            "mean_entropy": self.entropy / n,
        }
        if with_reference:
            found |= {
                "reference_perplexity": exp(self.reference_loss / n),
                "mean_kl_divergence": self.divergence / n,
                "equal_predictions": self.equal / n,
            }
        return found


def exp(x: float) -> float:
    return math.exp(x) if x < 709 or math.isnan(x) else math.inf


def measure(totals: Totals, options: argparse.Namespace) -> dict[str, Any]:
    """Go through the files; `totals` says how far that has come if it is interrupted."""
    logits, targets, reference = open_files(options)
    ignored = check_targets(targets, logits.classes, options.ignore_index)
    tokens = math.prod(targets.shape) - ignored
    if not tokens:
        raise Unusable(f"{targets.path} has no target to count: all {ignored} are {options.ignore_index}, which is ignored")
    line = {"logit_scale": options.logit_scale, "logit_softcap": options.logit_softcap}
    capped = options.logit_softcap is not None
    # With a cap the divergence is that of two copies in float64.
    bytes_a_row = logits.bytes_a_row if reference is None else max(logits.bytes_a_row, reference.bytes_a_row)
    if reference is not None and capped:
        bytes_a_row = 2 * 8 * logits.classes
    rows_at_once = max(1, CHUNK_BYTES // max(bytes_a_row, 1))

    with progress_bar(tokens) as bar, np.errstate(all="ignore"):
        for where in blocks(targets.shape, rows_at_once):
            target = np.asarray(targets.map()[where])
            counted = np.asarray(target != options.ignore_index)
            count = int(np.count_nonzero(counted))
            if not count:
                continue
            x = logits.rows(where, counted)
            target = target if counted.all() else target[counted]
            found = celoss.row_statistics(x, target, ignore_index=options.ignore_index, **line)
            totals.undecided += int(np.count_nonzero(found.prediction < 0))
            totals.loss += float(np.sum(found.loss, dtype=np.float64))
            totals.entropy += float(np.sum(found.entropy, dtype=np.float64))
            totals.right += int(np.count_nonzero(found.prediction == target))
            totals.in_top += int(np.count_nonzero((found.rank >= 0) & (found.rank < TOP)))
            if reference is not None:
                y = reference.rows(where, counted)
                other = celoss.row_statistics(y, target, ignore_index=options.ignore_index, **line)
                totals.reference_loss += float(np.sum(other.loss, dtype=np.float64))
                totals.equal += int(np.count_nonzero((found.prediction == other.prediction) & (found.prediction >= 0)))
                temperature = 1.0 / options.logit_scale
                if capped:
                    x, y = (as_scores(part, **line) for part in (x, y))
                    temperature = 1.0
                totals.divergence += float(celoss.kl_divergence(x, y, temperature=temperature, reduction="sum"))
                del y
            del x
            totals.tokens += count
            bar.update(count)
    return totals.results(ignored, reference is not None)


def open_files(options: argparse.Namespace) -> tuple[StoredLogits | HiddenStates, Source, StoredLogits | None]:
    """The files that the options name, checked against one another."""
    logits: StoredLogits | HiddenStates
    if options.features is None:
        logits_path, targets_path = options.files
        logits = StoredLogits(Source(logits_path), options.axis)
        described = f"{logits_path}, whose classes lie along axis {options.axis} of {logits.source.shape}"
    else:
        (targets_path,) = options.files
        weight, bias = Source(options.weight), None if options.bias is None else Source(options.bias)
        logits = HiddenStates(Source(options.features), weight, bias)
        described = f"{options.features}, which has shape {logits.features.shape}"
    targets = Source(targets_path, integers=True)
    if targets.shape != logits.shape:
        raise Unusable(f"{targets_path} has shape {targets.shape}; expected {logits.shape}, a target for each row of {described}")
    if not logits.classes and math.prod(logits.shape):
        raise Unusable(f"there are no classes in {described}")
    if options.reference is None:
        return logits, targets, None
    reference = StoredLogits(Source(options.reference), options.axis)
    if (reference.shape, reference.classes) != (logits.shape, logits.classes):
        raise Unusable(
            f"{options.reference} has shape {reference.source.shape}; expected rows of shape {logits.shape}, "
            f"each of {logits.classes} classes along axis {options.axis}"
        )
    return logits, targets, reference


def check_targets(targets: Source, classes: int, ignore_index: int) -> int:
    """How many are ignored. One that is out of range is found here, and not after an hour."""
    ignored = 0
    for where in blocks(targets.shape, CHUNK_BYTES // 8):
        part = np.asarray(targets.map()[where])
        counted = part != ignore_index
        bad = counted & ((part < 0) | (part >= classes))
        if np.any(bad):
            at = [int(i) for i in np.argwhere(bad)[0]]
            if where and isinstance(where[-1], slice):
                at[0] += where[-1].start
            position = ", ".join(map(str, [*(i for i in where if not isinstance(i, slice)), *at])) or "()"
            value = part[tuple(np.argwhere(bad)[0])]
            raise Unusable(f"{targets.path}: target[{position}] = {value} is not in [0, {classes})")
        ignored += part.size - int(np.count_nonzero(counted))
    return ignored


# --- what is seen --------------------------------------------------------------------------------------------------


class NoBar:
    """In place of a progress bar."""

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int) -> None:
        pass


def progress_bar(tokens: int) -> Any:
    """On a terminal, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return NoBar()
    return tqdm(total=tokens, unit=" tokens", unit_scale=True, disable=None, leave=False, file=sys.stderr)


def shown(found: dict[str, Any]) -> str:
    """The results as lines of text."""
    lines = [("tokens", f"{found['tokens']}" + (f" ({found['ignored']} ignored)" if found["ignored"] else ""))]
    if found["undecided"]:
        lines.append(
            ("without a result", f"{found['undecided']} tokens, whose logits have NaN or +inf, or no class that can occur")
        )
    lines += [
        ("mean loss", f"{found['mean_loss']:.6g} nats"),
        ("perplexity", f"{found['perplexity']:.6g}"),
        ("bits per token", f"{found['bits_per_token']:.6g}"),
        ("accuracy", f"{100 * found['accuracy']:.2f} %"),
        (f"top {TOP}", f"{100 * found[f'top{TOP}']:.2f} %"),
        ("mean entropy", f"{found['mean_entropy']:.6g} nats"),
    ]
    if "mean_kl_divergence" in found:
        lines += [
            ("reference's perplexity", f"{found['reference_perplexity']:.6g}"),
            ("mean KL divergence", f"{found['mean_kl_divergence']:.6g} nats"),
            ("equal predictions", f"{100 * found['equal_predictions']:.2f} %"),
        ]
    return "\n".join(f"{name:<24}{value}" for name, value in lines)


def positive(text: str) -> float:
    """An option's value."""
    if not 0 < (value := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not positive and finite")
    return value


def add_parser(commands: Any) -> None:
    """The command and its arguments, beside the others of ``python -m celoss``."""
    parser = commands.add_parser(
        "perplexity",
        help="measure how well a language model predicts a text, from files",
        usage="%(prog)s [options] LOGITS.npy TARGETS.npy\n       %(prog)s [options] --features F.npy --weight W.npy TARGETS.npy",
        description="Mean loss, perplexity, bits per token, accuracy and entropy of a language model on a text, from files that "
        "numpy.save has written. They are read a part at a time, and may be larger than memory.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="logits (..., C), and a target for each row of them")
    parser.add_argument("--features", type=Path, metavar="F.npy", help="hidden states (..., D) in place of logits")
    parser.add_argument("--weight", type=Path, metavar="W.npy", help="weights of the last layer (C, D): logits are F @ W.T")
    parser.add_argument("--bias", type=Path, metavar="B.npy", help="its bias (C,)")
    parser.add_argument("--reference", type=Path, metavar="OTHER.npy", help="logits of another model: how far are the two apart?")
    parser.add_argument("--axis", type=int, default=-1, help="the axis of the classes (default: the last)")
    parser.add_argument("--ignore-index", type=int, default=-100, metavar="N", help="targets that do not count (default: -100)")
    parser.add_argument("--logit-scale", type=positive, default=1.0, metavar="A", help="multiplies all logits")
    parser.add_argument("--logit-softcap", type=positive, metavar="C", help="logits become C tanh(logits / C)")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object, for scripts")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> int:
    """The command; its exit status."""
    if (options.features is None) != (options.weight is None):
        options.parser.error("--features and --weight belong together")
    if options.features is None and options.bias is not None:
        options.parser.error("--bias needs --features and --weight")
    if options.features is not None and options.axis != -1:
        options.parser.error("--axis is that of stored logits; the features' last axis is multiplied by the weights")
    expected = ["LOGITS.npy", "TARGETS.npy"] if options.features is None else ["TARGETS.npy"]
    if len(options.files) != len(expected):
        options.parser.error(f"expected {' '.join(expected)}, but there are {len(options.files)} files")
    totals = Totals()
    try:
        found = measure(totals, options)
    except Unusable as error:
        print(f"{options.parser.prog}: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print(f"{options.parser.prog}: interrupted after {totals.tokens} tokens", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        # JSON has no infinity: null says that a number has no size.
        found = {name: value if math.isfinite(value) else None for name, value in found.items()}
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print(shown(found))
    return 0
