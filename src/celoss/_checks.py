"""What is checked, and how: every public function with example arguments and options, and errors in ulp.

`FUNCTIONS` is the one list that ``python -m celoss``, the tests and the benchmarks go through: what is added here is met by
all of them. tests/test_checks.py holds it to the public names and their signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

# --- functions and options -----------------------------------------------------------------------------------------


class Arrays(NamedTuple):
    """What calls may be given. The classes are the last axis of the logits; without `out` and `hess_out` results are new."""

    logits: Array
    indices: Array  # a class for each row
    probabilities: Array  # as many as logits; for binary losses labels between 0 and 1
    labels: Array  # 0 or 1, as many as logits
    class_weight: Array
    sample_weight: Array  # one for each row
    vector: Array  # as many as logits, of either sign
    out: Array | None = None
    hess_out: Array | None = None


class Option(NamedTuple):
    """An option: an example made to fit the arrays, and what it goes with."""

    example: Callable[[Arrays], Any]
    hard: bool = False  # refused beside anything but class indices, or labels of 0 and 1
    excludes: tuple[str, ...] = ()  # refused beside these
    needs: tuple[str, ...] = ()  # the example is one beside these only
    cancels: bool = False  # makes a gradient the difference of terms that may be almost equal
    rounds: bool = False  # changes the logits, which are rounded again: results are those of logits nearby


class Function(NamedTuple):
    """A public function. For a loss the list has further lines: as many as `derivatives` says of the names that `_with` gives."""

    name: str
    # "rows", "scores" (losses of them), "product of rows", "product of scores" (of a loss's Hessian with a vector),
    # "activation of rows", "activation of scores", "back of rows", "statistics of rows" or "divergence of rows"
    kind: str
    options: Mapping[str, Option]
    derivatives: int = 0

    @property
    def of_rows(self) -> bool:
        return self.kind.endswith("rows")

    @property
    def is_loss(self) -> bool:
        return self.kind in ("rows", "scores")

    @property
    def has_target(self) -> bool:
        return self.is_loss or self.kind.startswith("product")

    def takes(self, names: Collection[str], hard: bool) -> bool:
        """Whether these options go together, and with a target of this form."""
        options = [self.options[name] for name in names]
        return not any((option.hard and not hard) or {*option.excludes} & {*names} for option in options)


def _class_of_the_last_row(a: Arrays) -> int:
    """If that leaves other rows."""
    last = a.indices.flat[-1] if a.indices.size else 0
    return int(last) if (a.indices != last).any() else -100


AXIS = {"axis": Option(lambda a: 0)}  # `examples` turns the arrays
OUT = {"out": Option(lambda a: a.out)}
SMOOTHING = {"label_smoothing": Option(lambda a: 0.1, cancels=True)}
REDUCTION = {
    "reduction": Option(lambda a: "none"),
    "normalizer": Option(lambda a: 3.0),
    "n_threads": Option(lambda a: 2),
}
OF_ROWS = {
    **AXIS,
    "sample_weight": Option(lambda a: a.sample_weight),
    "ignore_index": Option(_class_of_the_last_row, hard=True),
    **REDUCTION,
}
OF_SCORES = {"weight": Option(lambda a: a.probabilities), **REDUCTION}
WEIGHT = Option(lambda a: a.class_weight)
FOCAL = Option(lambda a: 2.0, excludes=("label_smoothing",))
SOFTENED = {"logit_scale": Option(lambda a: 0.5), "logit_softcap": Option(lambda a: 20.0, rounds=True)}
LANGUAGE = {**SOFTENED, "z_loss": Option(lambda a: 0.25, cancels=True)}

_TABLE = (
    Function(
        "cross_entropy",
        "rows",
        OF_ROWS | SMOOTHING | {"weight": WEIGHT, "focal_gamma": FOCAL._replace(hard=True)} | LANGUAGE,
        2,
    ),
    Function("brier_score", "rows", OF_ROWS | SMOOTHING | {"weight": WEIGHT._replace(hard=True)}, 1),
    Function("zero_one_loss", "rows", OF_ROWS),
    Function("binary_cross_entropy", "scores", OF_SCORES | SMOOTHING | {"pos_weight": WEIGHT, "focal_gamma": FOCAL}, 2),
    Function("binary_brier_score", "scores", OF_SCORES, 1),
    Function("binary_zero_one_loss", "scores", OF_SCORES),
    Function("softmax", "activation of rows", AXIS | OUT),
    Function("log_softmax", "activation of rows", AXIS | OUT),
    Function("logsumexp", "activation of rows", AXIS | {"keepdims": Option(lambda a: True)}),
    Function("softmax_vjp", "back of rows", AXIS | OUT),
    Function("log_softmax_vjp", "back of rows", AXIS | OUT),
    Function("sigmoid", "activation of scores", OUT),
    Function("log_sigmoid", "activation of scores", OUT),
    Function(
        "row_statistics",
        "statistics of rows",
        AXIS | SOFTENED | {"ignore_index": Option(_class_of_the_last_row), "n_threads": REDUCTION["n_threads"]},
    ),
    Function(
        "kl_divergence",
        "divergence of rows",
        AXIS | REDUCTION | {"sample_weight": OF_ROWS["sample_weight"], "temperature": Option(lambda a: 2.0)},
        1,
    ),
)


HESS_OUT = {"hess_out": Option(lambda a: a.hess_out)}


def _with(line: Function) -> Iterator[Function]:
    """A function, and those that give a loss's derivatives."""
    yield line
    upstream = Option(lambda a: a.sample_weight if line.of_rows else a.probabilities, needs=("reduction",))
    options = {**line.options, "grad_output": upstream, **OUT}
    if line.derivatives > 0:
        yield line._replace(name=f"{line.name}_with_grad", options=options)
    if line.derivatives > 1:
        yield line._replace(name=f"{line.name}_with_grad_hess", options={**options, **HESS_OUT})
        yield Function(f"{line.name}_hessp", f"product of {line.kind}", {**line.options, **OUT})


FUNCTIONS = {function.name: function for line in _TABLE for function in _with(line)}

# --- examples ------------------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """A call of a function."""

    function: str
    label: str
    arguments: tuple[Array, ...]
    options: dict[str, Any]
    cancels: bool  # results may be differences of terms that are almost equal
    rounds: bool = False  # results are those of logits nearby

    def results(self, module: Any) -> tuple[Any, ...]:
        """Loss and derivatives, or the one result there is; of celoss or of its reference."""
        found = getattr(module, self.function)(*self.arguments, **self.options)
        return found if isinstance(found, tuple) else (found,)


def arrays(logits: Array, indices: Array | None = None) -> Arrays:
    """Something of each for these logits: no two rows, classes or scores are alike."""
    rng = np.random.default_rng(0)
    *rows, classes = logits.shape
    return Arrays(
        logits,
        indices=rng.integers(max(classes, 1), size=rows) if indices is None else indices,
        probabilities=rng.uniform(0, 1, logits.shape).astype(logits.dtype),
        labels=rng.integers(2, size=logits.shape, dtype=np.uint8),
        class_weight=np.linspace(2, 0.5, classes),
        sample_weight=rng.uniform(0.5, 2, rows),
        vector=rng.uniform(-2, 2, logits.shape).astype(logits.dtype),
    )


# What functions without a target have beside their logits.
_SECOND_ARGUMENT = {"back of rows": "upstream", "statistics of rows": "indices", "divergence of rows": "vector"}


def examples(name: str, arrays: Arrays, *, singly: bool = False) -> Iterator[Example]:
    """Calls with each form of target: without options, with as many as go together, and `singly` also with each alone.

    `out` and `hess_out` say where results go and not what they are: where the arrays have one, it is in every call whose result
    is of its dtype.
    """
    function = FUNCTIONS[name]
    forms: tuple[tuple[str, ...], ...] = ((),)
    if function.has_target:
        forms = ("indices" if function.of_rows else "labels",), ("probabilities",)
    elif function.kind in _SECOND_ARGUMENT:
        forms = ((_SECOND_ARGUMENT[function.kind],),)
    for form in forms:
        for names in _choices(name, "probabilities" not in form, singly):
            a = _classes_first(arrays) if "axis" in names else arrays
            given = {option: function.options[option].example(a) for option in function.options if option in names}
            cancels = not {"probabilities", "upstream", "vector"}.isdisjoint(form) or function.kind.startswith("product")
            cancels = (
                cancels
                or (name.endswith("_hess") and "focal_gamma" in names)
                or any(function.options[option].cancels for option in names)
            )
            # What is carried back starts from a result, which is at most 1, or its logarithm; its gradient may be anything.
            fields = ("probabilities", "logits") if form == ("upstream",) else ("logits", *form)
            fields += ("vector",) if function.kind.startswith("product") else ()
            arguments = tuple(getattr(a, f) for f in fields)
            for option in [option for option in OUT | HESS_OUT if option in function.options]:
                place = getattr(a, option)
                if place is not None and place.dtype == arguments[0].dtype:
                    given[option] = place
            rounds = any(function.options[option].rounds for option in names)
            yield Example(name, ", ".join([name, *form, *given]), arguments, given, cancels, rounds)


def usual_calls(name: str, arrays: Arrays) -> Iterator[Example]:
    """The calls that loops make, for each of which the short path is (`_short_paths.pxi`): the plain one, then others.

    Each of the others differs from it in one argument: its dtype, a list in place of numbers for each row, an option.
    (`row_statistics` and `kl_divergence` have no short path: what they are called with is large.)
    """
    function, a = FUNCTIONS[name], arrays
    plain: tuple[Any, ...] = (a.logits,)
    if function.kind == "back of rows":
        plain = (a.probabilities, a.logits)
    elif function.kind in _SECOND_ARGUMENT:
        plain = (a.logits, getattr(a, _SECOND_ARGUMENT[function.kind]))
    elif function.has_target:
        plain = (a.logits, (a.indices if function.of_rows else a.labels).astype(np.int64))
    more = (a.vector,) if function.kind.startswith("product") else ()
    plain += more
    others: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("plain", plain, {}),
        ("lists", tuple(argument.tolist() for argument in plain), {}),
    ]
    if function.has_target:
        target, soft = plain[1], a.probabilities
        targets = [*(target.astype(kind) for kind in np.typecodes["Integer"] + np.typecodes["UnsignedInteger"])]
        targets += [target.astype(target.dtype.newbyteorder())]
        targets += [target.tolist(), tuple(target.tolist())] if target.ndim == 1 else []
        targets += [soft.astype(np.float32), soft.astype(np.float64)]
        targets += [] if function.of_rows else [target.astype(bool)]
        others += [(f"target {_kind(value)}", (a.logits, value, *more), {}) for value in targets]
    numbers = [2.0, 2, np.float32(2), np.int64(2)]
    of_language = [] if name.endswith(("_hess", "_hessp")) else numbers  # second derivatives with them have no short path
    each = a.sample_weight if function.of_rows else a.probabilities
    values: dict[str, list[Any]] = {
        "axis": [a.logits.ndim - 1],
        "weight": _forms(a.class_weight) if function.of_rows else [*_forms(a.probabilities), 2.0],
        "pos_weight": [*_forms(a.class_weight), *numbers],
        "sample_weight": _forms(a.sample_weight),
        "ignore_index": [_class_of_the_last_row(a)] if function.of_rows else [],
        "label_smoothing": [0.1, np.float64(0.1)],
        "focal_gamma": numbers,
        "logit_scale": of_language,
        "logit_softcap": of_language,
        "z_loss": of_language,
        "temperature": numbers,
        "reduction": ["sum", "none"],
        "normalizer": numbers,
        "n_threads": [1],
        "grad_output": [*numbers, *_forms(each)],
        "out": [np.empty_like(plain[0])],
        "hess_out": [np.empty_like(plain[0])],
    }
    for option, given in values.items():
        if option in function.options:
            for value in given:
                needed = {"reduction": "none"} if option == "grad_output" and np.ndim(value) else {}
                others.append((f"{option}={_kind(value)}", plain, {option: value, **needed}))
    for label, arguments, options in others:
        yield Example(name, label, arguments, options, cancels=False)


def _forms(array: Array) -> list[Any]:
    forms: list[Any] = [array.astype(kind) for kind in (np.float64, np.float32, np.int64)]
    return [*forms, forms[0].tolist()] if array.ndim == 1 else forms


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return str(value.dtype)
    return type(value).__name__ if isinstance(value, (list, tuple)) else repr(value)


@cache  # tests ask for some thousand arrays
def _choices(name: str, hard: bool, singly: bool) -> list[set[str]]:
    """None; each alone; then sets that nothing can be added to, until each option has been in one."""
    function = FUNCTIONS[name]
    alone = [
        {o, *option.needs} for o, option in function.options.items() if o not in OUT | HESS_OUT and (hard or not option.hard)
    ]
    together: list[set[str]] = []
    for chosen in alone:
        if not any(chosen <= other for other in together):
            for more in alone:
                chosen = chosen | more if function.takes(chosen | more, hard) else chosen
            together.append(chosen)
    choices = [set[str](), *(alone if singly else []), *together]
    return [names for i, names in enumerate(choices) if names not in choices[:i]]


def _classes_first(a: Arrays) -> Arrays:
    fields = ("logits", "probabilities", "labels", "vector", *(name for name in OUT | HESS_OUT if getattr(a, name) is not None))
    return a._replace(**{name: np.moveaxis(getattr(a, name), -1, 0) for name in fields})


# --- errors --------------------------------------------------------------------------------------------------------

# Bits behind the leading one, and the exponent of the smallest normal number. np.finfo knows no bfloat16.
FORMATS = {"float64": (52, -1022), "float32": (23, -126), "float16": (10, -14), "bfloat16": (7, -126)}


def ulp_error(got: ArrayLike, exact: ArrayLike, dtype: Any = None, scale: ArrayLike | None = None) -> Array:
    """|got - exact| in ulp of `scale` (default: of exact itself), in the precision of `dtype` (default: got's).

    Infinities have to be equal and NaN meets NaN; what is infinitely far off is inf. Where the exact value is below twice
    the smallest normal number, 0 is as good as the value. Arithmetic is float64, or long double where the exact values or
    the scale are.
    """
    got, exact = np.asarray(got), np.asarray(exact)
    scale = exact if scale is None else np.asarray(scale)
    bits, smallest = FORMATS[(got.dtype if dtype is None else np.dtype(dtype)).name]
    real = np.result_type(exact, scale, np.float64)
    got, exact = got.astype(real), exact.astype(real)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(np.abs(scale.astype(real)))[1] - 1, smallest)
        error = np.abs(got - exact) / np.ldexp(real.type(1), exponent - bits)
    same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    flushed = (got == 0) & (np.abs(exact) < np.ldexp(1.0, smallest + 1))
    error = np.where(same | flushed, 0, error)
    return np.where(np.isfinite(error), error, np.inf)
