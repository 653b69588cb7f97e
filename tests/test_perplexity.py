"""``python -m celoss perplexity``: it prints what the functions return for the whole files, and bad files get one line."""

import json
import math
import subprocess
import sys
import types

import numpy as np
import pytest

import celoss
from celoss import __main__ as main
from celoss import _perplexity, reference

ml_dtypes = pytest.importorskip("ml_dtypes")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """So that small files have many."""
    monkeypatch.setattr(_perplexity, "CHUNK_BYTES", 500)
    monkeypatch.setattr(_perplexity, "SLICE_BYTES", 100)


@pytest.fixture
def files(tmp_path):
    """Saves arrays; their paths."""

    def save(**arrays):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        return [str(tmp_path / f"{name}.npy") for name in arrays]

    return save


def run(capsys, *arguments):
    """The results of a call with --json."""
    assert main.main(["perplexity", "--json", *map(str, arguments)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def refused(capsys, *arguments):
    """The one line of a call that ends with status 2."""
    assert main.main(["perplexity", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("python -m celoss perplexity: ")
    return line


def expected(logits, target, ignore_index=-100, reference_logits=None, **line):
    """The same of whole arrays (..., C) in memory."""
    x = logits.astype(np.float64)
    found = reference.row_statistics(x, target, ignore_index=ignore_index, **line)
    counted = target != ignore_index
    n, loss = int(counted.sum()), float(found.loss[counted].mean())
    results = {
        "tokens": n,
        "ignored": target.size - n,
        "undecided": 0,
        "mean_loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_token": loss / math.log(2),
        "accuracy": float(np.mean((x.argmax(-1) == target)[counted])),
        "top5": float(np.mean((found.rank < 5)[counted])),
        "mean_entropy": float(found.entropy[counted].mean()),
    }
    if reference_logits is not None:
        y = reference_logits.astype(np.float64)
        other = reference.row_statistics(y, target, ignore_index=ignore_index, **line)
        a, c = line.get("logit_scale", 1.0), line.get("logit_softcap")
        p, q = (reference.log_softmax(a * v if c is None else c * np.tanh(a * v / c)) for v in (x, y))
        results |= {
            "reference_perplexity": math.exp(float(other.loss[counted].mean())),
            "mean_kl_divergence": float(np.sum(np.exp(q) * (q - p), axis=-1)[counted].mean()),
            "equal_predictions": float(np.mean((x.argmax(-1) == y.argmax(-1))[counted])),
        }
    return results


def model(shape, seed=0, ignored=(2, 3)):
    """Logits (..., C) that have learnt something, and targets of which some are ignored."""
    rng = np.random.default_rng(seed)
    target = rng.integers(shape[-1], size=shape[:-1])
    logits = rng.normal(0, 2, shape)
    np.put_along_axis(logits, target[..., None], 3.0, axis=-1)
    if target.size > 5:
        target.reshape(-1)[list(ignored)] = -100
    return logits, target


# --- what is printed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", ">f4"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((40, 12), -1), ((12, 40), 0), ((3, 7, 12), 2), ((3, 12, 50), 1), ((2, 2, 3, 9, 2), -2), ((12,), 0)]
)
def test_stored_logits(files, capsys, shape, axis, dtype):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    rows = [n for k, n in enumerate(shape) if k != axis % len(shape)]
    logits, target = model((*rows, shape[axis]))
    logits = logits.astype(dtype)
    stored = np.moveaxis(logits, -1, axis)
    paths = files(logits=np.ascontiguousarray(stored), targets=target.astype(np.int16))
    assert run(capsys, *paths, "--axis", axis) == pytest.approx(expected(logits, target), rel=2e-6)
    paths = files(logits=np.asfortranarray(stored), targets=np.asfortranarray(target).reshape(target.shape))
    assert run(capsys, *paths, "--axis", axis) == pytest.approx(expected(logits, target), rel=2e-6)


def test_ignored_rows_are_not_read(files, capsys):
    """Nor counted, whatever marks them: -1 is no prediction of theirs."""
    logits, target = model((40, 12), ignored=())
    paths = files(logits=np.where(np.arange(40)[:, None] % 4 == 0, np.nan, logits), targets=target)
    target[::4] = -1
    np.save(paths[1], target)
    keep = target >= 0
    found = run(capsys, *paths, "--ignore-index", -1)
    assert found == pytest.approx(expected(logits[keep], target[keep]) | {"ignored": 10})


@pytest.mark.parametrize("line", [{}, {"logit_scale": 0.7}, {"logit_softcap": 2.5}, {"logit_scale": 3.0, "logit_softcap": 4.0}])
@pytest.mark.parametrize("axis", [-1, 0])
def test_reference(files, capsys, axis, line):
    logits, target = model((30, 12))
    other = logits + np.random.default_rng(1).normal(size=logits.shape)
    x, y = logits.astype(np.float32), other.astype(np.float16)
    paths = files(logits=np.moveaxis(x, -1, axis), targets=target, other=np.moveaxis(y, -1, axis))
    options = [word for name, value in line.items() for word in (f"--{name.replace('_', '-')}", value)]
    found = run(capsys, *paths[:2], "--reference", paths[2], "--axis", axis, *options)
    assert found == pytest.approx(expected(x, target, reference_logits=y, **line), rel=2e-6)
    assert found["mean_kl_divergence"] > 0.01 and 0.1 < found["equal_predictions"] < 1
    same = run(capsys, *paths[:2], "--reference", paths[0], "--axis", axis, *options)
    assert same["mean_kl_divergence"] == 0 and same["equal_predictions"] == 1
    assert same["reference_perplexity"] == same["perplexity"]


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(30,), (4, 9), ()])
def test_hidden_states(files, capsys, shape, stored):
    dtype = np.dtype(ml_dtypes.bfloat16 if stored == "bfloat16" else stored)
    rng = np.random.default_rng(2)
    features, weight = rng.normal(size=(*shape, 8)).astype(dtype), rng.normal(size=(21, 8)).astype(dtype)
    bias, target = rng.normal(size=21).astype(np.float32), rng.integers(21, size=shape)
    if shape:
        target.reshape(-1)[3:6] = -100
        features.reshape(-1, 8)[3:6] = np.nan  # never multiplied
    exact = np.nan_to_num(features.astype(np.float64)) @ weight.astype(np.float64).T
    f, w, b, t, other = files(features=features, weight=weight, bias=bias, targets=target, other=exact)
    tight = {"rel": 1e-11 if stored == "float64" else 3e-6}
    assert run(capsys, "--features", f, "--weight", w, t) == pytest.approx(expected(exact, target), **tight)
    found = run(capsys, "--features", f, "--weight", w, "--bias", b, t, "--reference", other, "--logit-softcap", 3)
    assert found == pytest.approx(expected(exact + bias, target, reference_logits=exact, logit_softcap=3.0), **tight)


def test_impossible_classes(files, capsys):
    """They are no more possible with a cap."""
    logits, target = model((30, 12), ignored=())
    impossible = (np.arange(12) % 3 == 0) & (np.arange(12) != target[:, None])
    x, y = (np.where(impossible, -np.inf, scores) for scores in (logits, logits[:, ::-1]))
    paths = files(logits=x, targets=target, other=y)
    found = run(capsys, *paths[:2], "--reference", paths[2], "--logit-softcap", 3)
    p, q = (reference.softmax(np.where(impossible, -np.inf, 3 * np.tanh(scores / 3))) for scores in (logits, logits[:, ::-1]))
    divergence = np.sum(np.where(impossible, 0, q * np.log(q, where=q > 0, out=np.zeros_like(q))), axis=1)
    divergence -= np.sum(np.where(impossible, 0, q * np.log(p, where=p > 0, out=np.zeros_like(p))), axis=1)
    assert found["mean_kl_divergence"] == pytest.approx(divergence.mean())


def test_what_is_read(files, capsys):
    logits, target = model((40, 12))
    paths = files(logits=logits, targets=target, other=logits)
    assert main.main(["perplexity", *paths[:2], "--reference", paths[2]]) == 0
    printed = capsys.readouterr().out
    found = expected(logits, target, reference_logits=logits)
    lines = dict(line.split("  ", 1) for line in printed.splitlines())
    lines = {name: value.strip() for name, value in lines.items()}
    assert lines == {
        "tokens": "38 (2 ignored)",
        "mean loss": f"{found['mean_loss']:.6g} nats",
        "perplexity": f"{found['perplexity']:.6g}",
        "bits per token": f"{found['bits_per_token']:.6g}",
        "accuracy": f"{100 * found['accuracy']:.2f} %",
        "top 5": f"{100 * found['top5']:.2f} %",
        "mean entropy": f"{found['mean_entropy']:.6g} nats",
        "reference's perplexity": f"{found['perplexity']:.6g}",
        "mean KL divergence": "0 nats",
        "equal predictions": "100.00 %",
    }


def test_numbers_without_a_size(files, capsys):
    """A token whose logits are NaN, and one that cannot occur: JSON says null, the text nan and inf."""
    logits, target = model((10, 6), ignored=())
    logits[4, 1] = np.nan
    paths = files(logits=logits, targets=target)
    found = run(capsys, *paths, "--reference", paths[0])
    assert (found["undecided"], found["mean_loss"], found["perplexity"], found["mean_kl_divergence"]) == (1, None, None, None)
    rest = np.arange(10) != 4
    among = expected(logits[rest], target[rest])
    assert found["accuracy"] == pytest.approx(0.9 * among["accuracy"])
    assert found["top5"] == pytest.approx(0.9 * among["top5"])
    assert found["equal_predictions"] == 0.9
    assert main.main(["perplexity", *paths]) == 0
    printed = capsys.readouterr().out
    assert "without a result        1 token" in printed and "perplexity              nan" in printed
    logits[4] = np.where(np.arange(6) == target[4], -np.inf, 0)
    paths = files(logits=logits, targets=target)
    assert run(capsys, *paths)["perplexity"] is None
    logits[4] = np.where(np.arange(6) == target[4], -1e4, 0)
    found = run(capsys, *files(logits=logits, targets=target))
    assert found["mean_loss"] > 900 and found["perplexity"] is None  # beyond float64's range


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (4, 1, 1, 3), (0, 3), (3, 0)])
def test_blocks(shape):
    """Each row is in one part, in order, and no part is larger than it may be."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    for rows in (1, 2, 3, 4, 7, 12, 100):
        parts = [numbers[where] for where in _perplexity.blocks(shape, rows)]
        assert [n for part in parts for n in part.reshape(-1)] == list(range(numbers.size))
        assert max((part.size for part in parts), default=0) <= rows


# --- what is refused -----------------------------------------------------------------------------------------------


def test_broken_files(files, capsys, tmp_path):
    logits, target = model((40, 12))
    x, t, objects, names, few = files(
        x=logits, t=target, objects=np.array([{}] * 40, object), names=np.array(["a"] * 40), few=target[:30]
    )
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "short.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    (tmp_path / "head.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:20])
    np.savez(tmp_path / "archive.npz", logits)
    assert "missing.npy cannot be read: No such file" in refused(capsys, tmp_path / "missing.npy", t)
    assert "cannot be read: " in refused(capsys, tmp_path, t)
    assert "text.npy is not a .npy file" in refused(capsys, tmp_path / "text.npy", t)
    assert "empty.npy is not a .npy file" in refused(capsys, x, tmp_path / "empty.npy")
    assert "short.npy cannot be read: it is shorter than its header says" in refused(capsys, tmp_path / "short.npy", t)
    assert "head.npy cannot be read: its header is damaged" in refused(capsys, tmp_path / "head.npy", t)
    assert "archive.npz is an archive of arrays" in refused(capsys, tmp_path / "archive.npz", t)
    assert "objects.npy cannot be read: it holds Python objects" in refused(capsys, objects, t)
    assert "names.npy holds str" in refused(capsys, names, t)
    assert "t.npy holds int64; expected float16, bfloat16, float32 or float64 (are" in refused(capsys, t, x)
    assert "x.npy holds float64; targets are integers" in refused(capsys, x, x)
    assert "few.npy has shape (30,); expected (40,), a target for each row" in refused(capsys, x, few)
    assert "expected (12,)" in refused(capsys, x, t, "--axis", 0)
    assert "has no axis 2" in refused(capsys, x, t, "--axis", 2)
    assert "x.npy has no axis" not in refused(capsys, x, few, "--reference", x)
    assert "few.npy holds int64" in refused(capsys, x, t, "--reference", few)
    (other,) = files(other=logits[:, :-1])
    assert "other.npy has shape (40, 11)" in refused(capsys, x, t, "--reference", other)
    (nothing,) = files(nothing=np.zeros((40, 0)))
    assert "there are no classes" in refused(capsys, nothing, t)
    (number,) = files(number=np.array(1.0))
    assert "has no axis -1" in refused(capsys, number, t)


def test_damaged_headers(files, tmp_path):
    """Whatever stands in a header, it is said in one line, or the file is read as what it says."""
    files(x=np.zeros((40, 12), np.float32))
    whole, path = (tmp_path / "x.npy").read_bytes(), tmp_path / "damaged.npy"
    rng, read = np.random.default_rng(3), 0
    for _ in range(600):
        damaged = bytearray(whole)
        for at in rng.integers(6, 128, rng.choice([1, 2, 5])):
            damaged[at] = rng.choice([*b"(){}[],'\"0123456789-:. \n#", rng.integers(256)])
        path.write_bytes(damaged)
        try:
            read += len(_perplexity.Source(path).shape) > 0
        except _perplexity.Unusable as error:
            assert str(error).startswith(str(path)) and len(str(error).splitlines()) == 1
    assert 0 < read < 200


def test_targets_out_of_range(files, capsys):
    """Found before anything is computed; the position is that in the file."""
    logits, target = model((3, 50, 12))
    target[1, 37] = 12
    paths = files(logits=logits, targets=target)
    assert "targets.npy: target[1, 37] = 12 is not in [0, 12)" in refused(capsys, *paths)
    target[1, 37] = -5
    files(targets=np.asfortranarray(target))
    assert "target[1, 37] = -5 is not in [0, 12)" in refused(capsys, *paths)
    paths = files(logits=np.zeros((500, 2), np.float16), targets=np.arange(500) // 400 * 7)
    assert "target[400] = 7 is not in [0, 2)" in refused(capsys, *paths)
    paths = files(logits=np.zeros(2), targets=np.array(2, np.uint8))
    assert "target[()] = 2 is not in [0, 2)" in refused(capsys, *paths)


def test_nothing_to_count(files, capsys):
    paths = files(logits=np.zeros((4, 3)), targets=np.full(4, -100))
    assert "no target to count" in refused(capsys, *paths)
    paths = files(logits=np.zeros((0, 3)), targets=np.zeros(0, int))
    assert "no target to count" in refused(capsys, *paths)


def test_shapes_of_the_last_layer(files, capsys):
    f, w, bias, t, flat = files(
        features=np.zeros((5, 4)), weight=np.zeros((4, 9)), bias=np.zeros(4), targets=np.zeros(5, int), flat=np.zeros(4)
    )
    assert "weight.npy has shape (4, 9); expected (classes, features)" in refused(capsys, "--features", f, "--weight", w, t)
    assert "flat.npy has shape (4,); expected" in refused(capsys, "--features", f, "--weight", flat, t)
    (w,) = files(weight=np.zeros((9, 4)))
    command = ["--features", f, "--weight", w]
    assert "bias.npy has shape (4,); expected (9,)" in refused(capsys, *command, "--bias", bias, t)
    assert "flat.npy holds float64" in refused(capsys, *command, flat)
    (t,) = files(targets=np.zeros((5, 4), int))
    assert "targets.npy has shape (5, 4); expected (5,)" in refused(capsys, *command, t)


def test_bfloat16_without_ml_dtypes(files, capsys, monkeypatch):
    paths = files(logits=np.zeros((4, 3), ml_dtypes.bfloat16), targets=np.zeros(4, int))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert "bfloat16 if ml_dtypes is installed" in refused(capsys, *paths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.npy"], "expected LOGITS.npy TARGETS.npy, but there are 1 files"),
        (["a.npy", "b.npy", "c.npy"], "there are 3 files"),
        (["--features", "f.npy", "a.npy"], "--features and --weight belong together"),
        (["--features", "f.npy", "--weight", "w.npy", "a.npy", "b.npy"], "expected TARGETS.npy, but there are 2 files"),
        (["a.npy", "b.npy", "--bias", "c.npy"], "--bias needs"),
        (["--features", "f.npy", "--weight", "w.npy", "--axis", "0", "a.npy"], "--axis is that of stored logits"),
        (["a.npy", "b.npy", "--logit-scale", "0"], "0 is not positive and finite"),
        (["a.npy", "b.npy", "--logit-softcap", "inf"], "inf is not positive and finite"),
        ([], "required"),
    ],
)
def test_usage(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        main.main(["perplexity", *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_interrupted(files, capsys, monkeypatch):
    """One line that says how far it has come."""
    logits, target = model((40, 12), ignored=())
    right, calls = celoss.row_statistics, []

    def row_statistics(x, *arguments, **options):
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return right(x, *arguments, **options)

    monkeypatch.setattr(celoss, "row_statistics", row_statistics)
    assert main.main(["perplexity", *files(logits=logits, targets=target)]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"python -m celoss perplexity: interrupted after {sum(calls[:2])} tokens\n"


def test_progress(files, capsys, monkeypatch):
    """A bar for the tokens that count, gone at the end; none without a terminal, or without tqdm."""
    bars = []

    class Bar:
        def __init__(self, **options):
            bars.append([options["total"], 0, False])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            bars[-1][2] = True

        def update(self, count):
            bars[-1][1] += count

    paths = files(**dict(zip(("logits", "targets"), model((40, 12)), strict=True)))
    with_bar = run(capsys, *paths)
    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    assert run(capsys, *paths) == with_bar
    assert bars == [[38, 38, True]]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run(capsys, *paths) == with_bar


# --- in a process of its own ---------------------------------------------------------------------------------------


def python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=300
    )


def test_as_a_command(files, tmp_path):
    done = python("-m", "celoss", "perplexity", tmp_path / "no.npy", tmp_path / "no.npy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m celoss perplexity: {tmp_path / 'no.npy'} cannot be read: No such file or directory\n"
    logits, target = model((40, 12))
    done = python("-m", "celoss", "perplexity", "--json", *files(logits=logits, targets=target))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == pytest.approx(expected(logits, target), rel=1e-12)


MEMORY = """
import resource, sys
import numpy as np
import celoss
from celoss import __main__ as main, _perplexity
from celoss._reference_language import RowStatistics

def row_statistics(x, target, **options):  # reads each logit, and takes no memory
    zeros = np.zeros(len(x))
    return RowStatistics(x.max(axis=-1), zeros, zeros, zeros.astype(int), zeros.astype(int))

celoss.row_statistics = row_statistics
celoss.kl_divergence = lambda x, y, **options: float(max(x.max(), y.max()))
_perplexity.CHUNK_BYTES = 4 << 20
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
assert main.main(["perplexity", *sys.argv[1:]]) == 0
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak has another unit, or is not to be had")
@pytest.mark.parametrize("axis", [0, 1])
def test_memory_is_bounded(files, tmp_path, axis):
    """Files of 128 MiB, full of holes, in parts of 4 MiB: what has been read leaves memory.

    With the classes first a part has a little of every page.
    """
    shape = (32768, 2048) if axis == 1 else (2048, 32768)
    for name in ("logits", "other"):
        np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.float16, shape)
    (targets,) = files(targets=np.zeros(32768, np.uint16))
    done = python("-c", MEMORY, tmp_path / "logits.npy", targets, "--axis", axis, "--reference", tmp_path / "other.npy")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 64 * 1024  # KiB
