"""The short paths (src/celoss/_short_paths.pxi): they take the usual calls, and differ from the general path in nothing."""

import warnings

import numpy as np
import pytest
from paths import only_general, only_short

import celoss
from celoss._checks import FUNCTIONS, arrays, usual_calls

ROWS, CLASSES = 32, 10
LOSSES = [name for name, function in FUNCTIONS.items() if function.is_loss]
OF_ROWS = [name for name in LOSSES if FUNCTIONS[name].of_rows]
GRADIENTS = [name for name in LOSSES if "_with_grad" in name]


def example_arrays(dtype=np.float32, shape=(ROWS, CLASSES)):
    return arrays((3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype))


# What has a short path.
SHORT = [name for name, function in FUNCTIONS.items() if not function.kind.startswith(("statistics", "divergence"))]


def calls(names=SHORT):
    return [pytest.param(call, id=f"{name}-{call.label}") for name in names for call in usual_calls(name, example_arrays())]


def same(results, others):
    """Whether two calls gave the same bits in the same types."""
    if not isinstance(results, tuple):
        results, others = (results,), (others,)
    return [(type(r), np.asarray(r).dtype, np.shape(r), np.asarray(r).tobytes()) for r in results] == [
        (type(r), np.asarray(r).dtype, np.shape(r), np.asarray(r).tobytes()) for r in others
    ]


def copies(results):
    return tuple(np.copy(r) if isinstance(r, np.ndarray) else r for r in results) if isinstance(results, tuple) else results


def both_ways(name, *arguments, **options):
    """The results of the two paths, or what they raise and say."""
    found = []
    for path in (only_short, only_general):
        with path():
            found.append(copies(getattr(celoss, name)(*arguments, **options)))
    return found


@pytest.mark.parametrize("call", calls())
def test_usual_calls_take_the_short_path_with_the_bits_of_the_general_one(call, level):
    short, general = both_ways(call.function, *call.arguments, **call.options)
    assert same(short, general)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 3), (0, 3), (4, 1), (2, 3, 5), (3, 40), (300, 2), (5, 1000), (2, 3, 2, 90)])
@pytest.mark.parametrize("name", LOSSES)
def test_other_shapes(name, shape, dtype):
    """Short or not: the bits of the general path."""
    for call in usual_calls(name, example_arrays(dtype, shape)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # one class
            try:
                result = copies(getattr(celoss, name)(*call.arguments, **call.options))
            except (TypeError, ValueError, IndexError) as error:  # of no rows nothing can be made; int8 holds no 1000 classes
                with only_general(), pytest.raises(type(error)) as again:
                    getattr(celoss, name)(*call.arguments, **call.options)
                assert str(again.value) == str(error)
                continue
            with only_general():
                assert same(result, getattr(celoss, name)(*call.arguments, **call.options)), call.label


def test_more_options_at_once():
    """Each beside each other, in forms that are converted."""
    a = example_arrays()
    rows = {"sample_weight": a.sample_weight.astype("f"), "weight": a.class_weight.tolist(), "label_smoothing": np.float32(0.25)}
    upstream = {"reduction": "none", "grad_output": a.sample_weight.astype("f"), "axis": 1}
    for target in (a.indices.astype(np.uint8), a.probabilities):
        assert same(*both_ways("cross_entropy_with_grad", a.logits, target, **rows, **upstream))
        assert same(*both_ways("cross_entropy_with_grad", a.logits, target, **rows, normalizer=7, n_threads=1))
    scores = {"weight": a.probabilities[:, :1], "pos_weight": a.class_weight.astype("f"), "label_smoothing": np.float32(0.25)}
    for target in (a.labels, a.labels.astype(np.int16), a.probabilities):
        assert same(*both_ways("binary_cross_entropy_with_grad", a.logits, target, **scores, normalizer=7))
        options = {"reduction": "none", "grad_output": a.probabilities.astype(np.float64)}
        assert same(*both_ways("binary_cross_entropy_with_grad", a.logits, target, **scores, **options))


@pytest.mark.parametrize(
    "weight",
    [
        np.full((), 3.0),
        np.full(1, 3, np.uint8),
        np.linspace(1, 2, 10),
        np.linspace(1, 2, 32)[:, None],
        np.linspace(1, 2, 320)[::-1],
    ],
    ids=lambda weight: str(weight.shape),
)
def test_weights_of_scores_broadcast(weight):
    a = example_arrays()
    weight = weight.reshape(32, 10) if weight.size == 320 else weight
    for options in (
        {"weight": weight},
        {"pos_weight": weight},
        {"pos_weight": weight.astype(np.int16)},
        {"weight": weight.tolist()},
    ):
        assert same(*both_ways("binary_cross_entropy_with_grad", a.logits, a.labels, **options))


@pytest.mark.parametrize("loss", [celoss.CrossEntropyLoss, celoss.BinaryCrossEntropyLoss])
def test_loss_objects(loss):
    a = example_arrays()
    target = a.indices.astype(np.uint8) if loss is celoss.CrossEntropyLoss else a.labels
    for options in ({}, {"weight": a.class_weight}, {"normalizer": 3}, {"n_threads": 1}):
        criterion = loss(**options)
        with only_short():
            short = criterion(a.logits, target), criterion.backward().copy()
        with only_general():
            general = criterion(a.logits, target), criterion.backward()
        assert same(short, general)


# ---- errors ------------------------------------------------------------------------------------------------------------------

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
T = np.array([0, 1, 2, 1])


class Unhashable(type):
    __hash__ = None


class Odd(metaclass=Unhashable):
    """A type that no set can be asked for."""


class Growing:
    """An item of a list that changes the logits while NumPy converts it."""

    def __init__(self, array):
        self.array = array

    def __float__(self):
        self.array.resize((1, 1), refcheck=False)
        return 1.0


BAD_OF_ROWS = {
    "beyond int64": {"target": T.astype(np.uint64) + np.uint64(2**63)},
    "the default mark, unsigned": {"target": np.array([0, 1, 2, 2**64 - 100], np.uint64)},
    "uint8 out of range": {"target": np.array([0, 3, 1, 1], np.uint8)},
    "int8 out of range": {"target": np.array([0, -1, 1, 1], np.int8)},
    "a list out of range": {"target": [0, 1, 2, 3]},
    "a list beyond int64": {"target": [0, 1, 2, 2**64]},
    "a list of floats": {"target": [0.0, 1.0, 2.0, 1.0]},
    "a list of both": {"target": [0, 1.0, 2, 1]},
    "a list that is too short": {"target": [0, 1, 2]},
    "lists of different lengths": {"logits": [[0.0, 1.0, 2.0], [0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]]},
    "no list at all": {"logits": []},
    "bool": {"target": T > 0},
    "objects": {"target": T.astype(object)},
    "axis beyond": {"axis": 2},
    "axis of the rows": {"axis": 0},
    "axis of another type": {"axis": "1"},
    "n_threads of 0": {"n_threads": 0},
    "n_threads of another type": {"n_threads": 1.5},
    "a normalizer of 0": {"normalizer": 0},
    "a normalizer below 0": {"normalizer": np.float32(-1)},
    "a normalizer beyond float64": {"normalizer": 10**400},
    "a normalizer of an odd type": {"normalizer": Odd()},
    "an unused sample_weight": {"sample_weight": np.array([1, 1, np.nan, 1], np.float32)},
    "an infinite sample_weight": {"sample_weight": np.array([1, 1, -np.inf, 1])},
    "a sample_weight of another shape": {"sample_weight": np.ones(3)},
    "complex sample_weight": {"sample_weight": np.ones(4, complex)},
    "probabilities of another shape": {"target": np.ones((3, 4))},
    "probabilities and ignore_index": {"target": np.ones((4, 3)), "ignore_index": 1},
    "no Reduction": {"reduction": "average"},
    "no Reduction but a str": {"reduction": np.str_("average")},
}
BAD_OF_SMOOTHED = {
    "negative weight": {"weight": np.array([1, -1, 1], np.float32)},
    "weights in a list": {"weight": [1.0, float("nan"), 1.0]},
    "weights of another shape": {"weight": np.ones(4)},
    "smoothing above 1": {"label_smoothing": np.float64(1.5)},
}
BAD_OF_GRADIENTS = {
    "grad_output of another shape": {"grad_output": np.ones(3), "reduction": "none"},
    "grad_output beside a mean": {"grad_output": np.ones(4)},
    "grad_output beyond 64 bits": {"grad_output": 2**70},
    "a read-only out": {"out": np.broadcast_to(np.float32(0), (4, 3))},
}


def raised(name, given):
    arguments = {"logits": X, "target": T, **given}
    with pytest.raises((TypeError, ValueError, IndexError)) as error:
        getattr(celoss, name)(**arguments)
    return error.type, str(error.value)


@pytest.mark.parametrize("name", OF_ROWS)
def test_errors_are_those_of_the_general_path(name):
    cases = {**BAD_OF_ROWS}
    if "label_smoothing" in FUNCTIONS[name].options:
        cases.update(BAD_OF_SMOOTHED)
    if name in GRADIENTS:
        cases.update(BAD_OF_GRADIENTS)
    for label, given in cases.items():
        short = raised(name, given)
        with only_general():
            assert raised(name, given) == short, label


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in OF_ROWS])
def test_errors_of_scores_are_those_of_the_general_path(name):
    labels = (X > 0).astype(np.int16)
    cases = [
        {"target": labels * 2}, {"target": labels.astype(float) - 0.5}, {"target": labels[0]}, {"target": labels.tolist()[:2]},
        {"target": labels, "weight": np.ones(4)}, {"target": labels, "weight": np.ones((1, 4, 3))},
        {"target": labels, "weight": float("nan")}, {"target": labels, "weight": X + np.float32("inf")},
        {"target": labels, "normalizer": 0}, {"target": labels, "n_threads": 0}, {"target": labels, "reduction": "average"},
        {"target": labels.astype(complex)},
    ]  # fmt: skip
    if name.startswith("binary_cross_entropy"):
        cases += [{"target": labels, "pos_weight": -1}, {"target": labels, "focal_gamma": -1.0}]
        cases += [{"target": labels, "pos_weight": np.array([1, 1, -1], np.int8)}]
    if name in GRADIENTS:
        cases += [{"target": labels, "grad_output": X}, {"target": labels, "grad_output": X[0], "reduction": "none"}]
    for given in cases:
        short = raised(name, given)
        with only_general():
            assert raised(name, given) == short, given


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name in GRADIENTS for place in ("out", "hess_out") if place in FUNCTIONS[name].options]
)
def test_out_apart_from_whatever_is_given(name, place, path):
    """Also from what is converted, so that nothing would be overwritten."""
    function, of_rows = getattr(celoss, name), FUNCTIONS[name].of_rows
    names = [option for option in ("weight", "sample_weight", "pos_weight", "grad_output") if option in FUNCTIONS[name].options]
    for option in ["target", *names]:
        for kind in (np.float32, np.float64, np.uint8):
            memory = np.zeros(64, np.float64)
            out = memory.view(np.float32)[:12].reshape(4, 3)
            rows = (3,) if option == "weight" else (4,)
            given = {"target": T if of_rows else X > 0, "reduction": "none"}
            shape = rows if of_rows and (option != "target" or kind == np.uint8) else (4, 3)
            given[option] = memory.view(kind)[: np.prod(shape)].reshape(shape)
            with pytest.raises(ValueError, match=f"^{place} overlaps {option}"):
                function(X, **{place: out}, **given)
            assert not memory.any()


def test_a_list_may_change_the_logits():
    """Code of its items runs before anything is looked at."""
    for name in ("weight", "sample_weight"):
        x = np.zeros((4, 3))
        with pytest.raises((TypeError, ValueError, IndexError)):
            celoss.cross_entropy_with_grad(x, T, **{name: [Growing(x)] * len(T)})


def test_subclasses_and_numbers_of_other_kinds(path):
    """Nothing is taken for what it only looks like."""

    class Half(float):
        def __float__(self):
            return 0.5

    assert celoss.cross_entropy(X, T, normalizer=Half(8)) == celoss.cross_entropy(X, T, normalizer=0.5)
    assert celoss.cross_entropy(X, T, normalizer=True) == celoss.cross_entropy(X, T, normalizer=1)
    with pytest.raises(TypeError, match="masked"):
        celoss.cross_entropy(X, T, sample_weight=np.ma.masked_array(np.ones(4)))
    assert celoss.cross_entropy(X, T, sample_weight=np.ones(4).view(np.recarray)) == celoss.cross_entropy(X, T)


def test_ignored_in_any_integer_type():
    """The mark where the type can hold it; 156, as which -100 comes out of a uint8, is a class out of range."""
    for kind in "bhilq":
        target = np.array([0, -100, 2, 1], kind)
        assert same(*both_ways("cross_entropy_with_grad", X, target))
    with pytest.raises(IndexError, match=r"target\[1\] = 156 "):
        celoss.cross_entropy(X, np.array([0, 156, 2, 1], np.uint8))
    target = np.array([0, 200, 2, 1], np.uint8)
    assert same(*both_ways("cross_entropy_with_grad", X, target, ignore_index=200))
