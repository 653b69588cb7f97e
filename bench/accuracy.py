"""Errors in units in the last place against an extended-precision truth, of every peer.

``python -m bench.accuracy`` prints a Markdown table; ``--json PATH`` also writes the numbers.

One ulp is the spacing, at the exact value, of the dtype that the result is given in. Only exact
values that are normal numbers of that dtype are counted, and every single row (``reduction="none"``).
"""

import argparse
import json
from functools import lru_cache

import numpy as np

from bench import cases, machine, peers
from celoss._checks import FORMATS, ulp_error


def blocks(rows: int, classes: int, logits: int = 1 << 22):
    """Slices of rows small enough to compute with in a wide dtype."""
    step = max(1, logits // classes)
    return (slice(start, start + step) for start in range(0, rows, step))


def truth(logits, target, dtype=np.longdouble) -> tuple[np.ndarray, np.ndarray]:
    """Loss and gradient of every row; exact to ``dtype``, also where both are next to nothing.

    With m the row's maximum, e_j = exp(x_j - m) and r the sum of all e_j but the maximum's 1:
    loss = (m - x_t) + log1p(r); gradient = e_j / (1 + r), at the target -(sum of the others) / (1 + r).
    Nothing is subtracted that is nearly equal.
    """
    loss = np.empty(len(logits), dtype)
    grad = np.empty(logits.shape, dtype)
    for block in blocks(*logits.shape):
        x, t = logits[block].astype(dtype), target[block]
        rows = np.arange(len(x))
        top = x.argmax(axis=1)
        m = x[rows, top]
        e = np.exp(x - m[:, None], out=grad[block])
        e[rows, top] = 0
        r = e.sum(axis=1)
        e[rows, top] = 1
        loss[block] = (m - x[rows, t]) + np.log1p(r)
        e[rows, t] = 0
        e[rows, t] = -e.sum(axis=1)
        e /= (1 + r)[:, None]
    return loss, grad


def max_ulp(result: np.ndarray, exact: np.ndarray) -> float:
    bits, smallest = FORMATS[result.dtype.name]
    size = np.abs(exact)
    counted = (size >= 2.0**smallest) & (size <= (2 - 2.0**-bits) * 2.0 ** (1 - smallest))
    return float(ulp_error(result, exact)[counted].max(initial=0))


@lru_cache(maxsize=1)
def family(name: str, dtype: str):
    """(logits, target, exact loss, exact gradient), the truth at least 11 bits wider than dtype."""
    logits, target = cases.ACCURACY[name](dtype)
    exact = truth(logits, target, np.longdouble if dtype == "float64" else np.float64)
    return logits, target, *exact


def errors(peer: peers.Peer, name: str, dtype: str = "float32", n_threads: int = 1) -> dict:
    logits, target, exact_loss, exact_grad = family(name, dtype)
    loss, grad = peers.as_numpy(peer.make(logits, target, reduction="none", n_threads=n_threads)())
    return {
        "loss": max_ulp(loss, exact_loss),
        "grad": max_ulp(grad, exact_grad),
        "zero losses": float(np.mean((loss == 0) & (exact_loss != 0))),
    }


def own_errors(dtype: str) -> dict[str, dict]:
    """celoss on every family, on the level that this process runs."""
    return {name: errors(peers.CELOSS, name, dtype) for name in cases.ACCURACY}


def measure(which=(peers.CELOSS, *peers.OTHERS), n_threads: int = 1) -> dict[str, dict]:
    """family -> peer -> errors, float32; a peer that cannot run has its reason instead."""
    return {
        name: {peer.name: peer.missing or errors(peer, name, n_threads=n_threads) for peer in which} for name in cases.ACCURACY
    }


def cell(found: dict | str) -> str:
    if isinstance(found, str):
        return found
    text = f"{found['loss']:.3g} / {found['grad']:.3g}"
    return text + (f", {found['zero losses']:.0%} are 0" if found["zero losses"] else "")


def markdown(table: dict[str, dict]) -> str:
    names = list(next(iter(table.values())))
    lines = [
        "| float32, maximum error in ulp, loss / gradient | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for family_name, row in table.items():
        lines.append(f"| {family_name} | " + " | ".join(cell(row[name]) for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="PATH")
    options = parser.parse_args()
    n_threads = machine.use_threads("all")
    found = {"machine": machine.record(n_threads), "float32": measure(n_threads=n_threads)}
    print(markdown(found["float32"]))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
