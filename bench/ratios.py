"""What the sections of ``targets`` are made of: a ratio with its limit, how much to measure, and calls to time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bench import cases, peers, timing


@dataclass
class Row:
    """One line of the table: a value and the limit that it must not pass."""

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # medians behind the value

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def markdown(self) -> str:
        sign, unit = "≥" if self.at_least else "≤", f" {self.unit}".rstrip()
        verdict = "yes" if self.reached else "**no**"
        return f"| {self.what} | {sign} {self.limit:g}{unit} | {self.value:.4g}{unit} | {verdict} |"


@dataclass(frozen=True)
class Run:
    """How much to measure."""

    n_threads: int
    rounds: int
    peers: tuple[peers.Peer, ...]

    @property
    def threads(self) -> str:
        return "one thread" if self.n_threads == 1 else "all threads"

    def compare(self, what, times, over, under, limit) -> Row:
        """A row for the time of ``over`` as a multiple of the time of ``under``."""
        value = timing.ratio(times, over, under)
        return Row(what, value, limit, seconds=timing.medians(times))

    def time(self, calls: dict[str, Callable], **how) -> timing.Times:
        return timing.interleaved(calls, self.rounds, **how)


def with_grad(logits, target, **options) -> Callable:
    from celoss import cross_entropy_with_grad

    return partial(cross_entropy_with_grad, logits, target, **options)


def into_out(case: cases.Case, **options) -> Callable:
    logits, target = cases.make(case)
    return with_grad(logits, target, out=np.zeros_like(logits), axis=case.axis, **options)
