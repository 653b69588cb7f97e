"""The list of what is checked: it has every function and option, and its examples are what it says. And what an ulp is."""

import inspect
import types

import ml_dtypes
import numpy as np
import pytest

import celoss
from celoss import _checks
from celoss._checks import FORMATS, FUNCTIONS, Function, Option, ulp_error

INF, NAN = np.inf, np.nan


def keywords(function):
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}


def test_every_function():
    public = {name: getattr(celoss, name) for name in celoss.__all__}
    of_arrays = {
        name
        for name, function in public.items()
        if isinstance(function, types.FunctionType) and {"logits", "x", "p", "log_p"} & {*inspect.signature(function).parameters}
    }
    assert set(FUNCTIONS) == of_arrays
    of_layers = {
        name
        for name, function in public.items()
        if isinstance(function, types.FunctionType) and "features" in inspect.signature(function).parameters
    }
    assert of_layers == {"linear_cross_entropy", "linear_cross_entropy_with_grad"}, "of other arrays: test_linear.py has them"
    assert of_arrays | of_layers == set(celoss.reference.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option(name):
    """In the list, in the reference, and in the loss object of the same name."""
    function = FUNCTIONS[name]
    assert set(function.options) == keywords(getattr(celoss, name))
    here, there = (inspect.signature(getattr(module, name)).parameters for module in (celoss, celoss.reference))
    assert [(p.name, p.kind, p.default) for p in here.values()] == [(p.name, p.kind, p.default) for p in there.values()]
    loss = name.partition("_with_grad")[0].removesuffix("_hessp")
    endings = ["_with_grad", "_with_grad_hess", "_hessp"]
    derivatives = FUNCTIONS[loss].derivatives
    assert [f"{loss}{ending}" in FUNCTIONS for ending in endings] == [derivatives > 0, derivatives > 1, derivatives > 1]
    criterion = getattr(celoss, f"{name.title().replace('_', '')}Loss", None)
    if criterion is not None:  # defaults too: its repr goes by the function's
        assert [*inspect.signature(criterion).parameters.values()] == [p for p in here.values() if p.kind is p.KEYWORD_ONLY]
        assert keywords(criterion) == set(criterion().options)


A = _checks.arrays(np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32))
PLACES = A._replace(out=np.empty_like(A.logits), hess_out=np.empty_like(A.logits))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_the_list_says_of_options(name):
    """What it calls refused is refused; everything else is in the examples, all of it at once."""
    function, call = FUNCTIONS[name], getattr(celoss, name)
    options = {option: entry.example(A) for option, entry in function.options.items() if option != "axis"}
    vector = [A.vector] if function.kind.startswith("product") else []
    for option, entry in function.options.items():
        if entry.hard:
            with pytest.raises(ValueError, match=option):
                call(A.logits, A.probabilities, *vector, **{option: options[option]})
        for other in entry.excludes:
            with pytest.raises(ValueError, match=option):
                target = A.indices if function.of_rows else A.labels
                call(A.logits, target, *vector, **{o: options[o] for o in (option, other)})
    met = [set(example.options) for example in _checks.examples(name, PLACES, singly=True)]
    assert set.union(*met) == set(function.options)
    if not any(entry.excludes for entry in function.options.values()):
        assert set(function.options) in met


def test_options_that_exclude_one_another(monkeypatch):
    """Each is in a call that has all it goes with, and those for class indices are beside nothing else."""
    one = {name: Option(lambda a, name=name: name) for name in ("a", "b", "c")}
    options = {**one, "focus": Option(lambda a: 2.0, hard=True, excludes=("b",)), "up": Option(lambda a: 1.0, needs=("a",))}
    monkeypatch.setitem(FUNCTIONS, "made_up", Function("made_up", "rows", options))
    found = [(e.arguments[1] is A.indices, set(e.options)) for e in _checks.examples("made_up", A, singly=True)]
    alone = [set(), {"a"}, {"b"}, {"c"}]
    assert [names for hard, names in found if hard] == [*alone, {"focus"}, {"a", "up"}, {*"abc", "up"}, {*"ac", "up", "focus"}]
    assert [names for hard, names in found if not hard] == [*alone, {"a", "up"}, {*"abc", "up"}]
    found = [e.label for e in _checks.examples("made_up", A)]
    assert found[:2] == ["made_up, indices", "made_up, indices, a, b, c, up"] and len(found) == 5


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(20, 5), (1, 1), (7,), (2, 3, 4), (0, 3)])
def test_examples_are_those_of_the_reference(shape, name):
    x = np.random.default_rng(1).standard_normal(shape)
    for example in _checks.examples(name, _checks.arrays(x), singly=True):
        for got, expected in zip(example.results(celoss), example.results(celoss.reference), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14, err_msg=example.label)


# ---- ulp ---------------------------------------------------------------------------------------------------------------------


def test_one_ulp_is_the_distance_to_the_next_number():
    for name, (bits, smallest) in FORMATS.items():
        dtype = np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)
        info = ml_dtypes.finfo(dtype)
        assert (info.nmant, info.minexp) == (bits, smallest)
        for exact in (1.0, 1.5, float(info.tiny), 3 * float(info.smallest_subnormal), float(info.max) / 2):
            number = np.array([exact], dtype)
            beside = np.nextafter(number, dtype.type(INF))
            for real in (np.float64, np.longdouble):
                assert ulp_error(beside, number.astype(real)) == ulp_error(-beside, -number.astype(real)) == 1
    assert ulp_error(1.0, 1.0 + 3 * 2**-10, np.float16) == 3
    assert ulp_error(0.0, 1.0) == 2.0**52


def test_nothing_is_lost_in_a_long_double():
    """The rounding error of a float64 is seen, where a long double is wider."""
    third = np.longdouble(1) / 3
    assert 0 < ulp_error(float(third), third) < 0.5 or np.finfo(np.longdouble).nmant == 52


def test_numbers_without_a_distance():
    assert not ulp_error([NAN, INF, -INF, 0.0], [NAN, INF, -INF, 1e-40], np.float32).any()
    assert (ulp_error([NAN, 1.0, INF, -INF], [1.0, INF, 1.0, INF]) == INF).all()
    assert ulp_error(np.float32(0), 2.0**-124) > 1e6, "a normal number is no zero"


def test_another_unit():
    """Where two terms cancel, the unit is theirs."""
    assert ulp_error(2.0**-60, 0.0, scale=1.0) == 2.0**-8
    assert ulp_error(np.float32(1), 0.0, scale=[1.0, 2.0**23]).tolist() == [2.0**23, 1.0]
