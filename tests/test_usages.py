"""Each test is a usage that somebody reported or asked about elsewhere, with the value or the error that celoss has to give.

A comment names the report: owner/repository#number on GitHub, or a page. Expected values come from plain NumPy formulas.
"""

import copy
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import celoss

RNG = np.random.default_rng(20)
INF = np.inf

X = RNG.normal(0, 2, (6, 4))  # six samples, four classes
Y = np.array([0, 3, 1, 1, 2, 3])
Q = RNG.dirichlet(np.ones(4), 6)  # probabilities, a row each
S = np.array([1.0, 0.0, 2.0, 0.5, 3.0, 1.0])  # a weight for each row
W = np.array([1.0, 4.0, 0.25, 2.0])  # and for each class

TEXT = RNG.normal(0, 2, (3, 5, 7))  # batch, time, vocabulary
TOKENS = RNG.integers(7, size=(3, 5))
REAL = np.arange(5) < np.array([[5], [2], [4]])  # the tokens that are not padding
VOLUME = RNG.normal(0, 2, (2, 3, 4, 2, 5))  # batch, class, depth, height, width
VOXELS = RNG.integers(3, size=(2, 4, 2, 5))

Z = RNG.normal(0, 2, (4, 5))  # four samples, five questions
YES = RNG.random((4, 5)) < 0.4
MASK = RNG.normal(0, 2, (2, 3, 4, 4))  # batch, channel, height, width
PIXELS = RNG.random((2, 3, 4, 4)) < 0.3


def log_p(x, axis=-1):
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def nll(x, y):
    """The loss of each row, from logits with the classes last."""
    return -np.take_along_axis(log_p(x), y[..., None], -1)[..., 0]


def bce(z, y, pos_weight=1.0):
    return pos_weight * y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)


def ordinal(y, thresholds):
    return (y[:, None] > np.arange(thresholds)).astype(float)


def both(pair):
    """Loss and gradient as one array."""
    return np.concatenate([np.ravel(part) for part in pair])


# What it is, the call, what it has to give, and the largest relative error.
VALUES = [
    # scipy/scipy#23225: a score beyond the range of exp takes all the mass.
    ("softmax of 1e100", lambda: celoss.softmax([1.0, 1.0, 1e100]), [0, 0, 1], 0),
    # uTensor/uTensor#175, andrewschreiber/numpy-saliency#2: exp overflowed, and training went on with NaN.
    ("softmax of 378", lambda: celoss.softmax(np.array([-249.9, -424.1, 378.1, -292.6], np.float32)), [0, 0, 1, 0], 0),
    # splunktool.com, "calculate the softmax of an array columnwise": integers in, and a result of zeros out.
    (
        "softmax of integer columns",
        lambda: celoss.softmax(np.array([[1, 2, 6], [2, 4, 6], [3, 8, 6]]), axis=0),
        np.exp(log_p(np.array([[1.0, 2, 6], [2, 4, 6], [3, 8, 6]]), axis=0)),
        1e-14,
    ),
    # scipy/scipy#8556, keras-team/keras-core#694: whether softmax without an axis means rows, or the whole array.
    ("softmax without an axis", lambda: celoss.softmax(X).sum(axis=1), np.ones(6), 1e-14),
    # scikit-learn-contrib/lightning#121, ahmedfgad/NumPyCNN#13: a warning of overflow (warnings are errors here).
    ("sigmoid of 1000", lambda: celoss.sigmoid(np.array([-1000.0, 1000.0])), [0, 1], 0),
    # pytorch/pytorch#1835: -inf.
    ("log_sigmoid of -300", lambda: celoss.log_sigmoid(np.array([-300.0], np.float32)), [-300], 0),
    # NVIDIA/apex#379: log after softmax underflowed in float16, and every step was skipped.
    ("log_softmax in float16", lambda: celoss.log_softmax(np.array([0, 30], np.float16)), [-30, 0], 1e-12),
    # chainer/chainer#6366: a loss of 0 in float16.
    (
        "small loss in float16",
        lambda: celoss.cross_entropy(np.array([[12, 0]], np.float16), [0]),
        math.log1p(math.exp(-12)),
        1e-6,
    ),
    # pytorch/pytorch#85791: the mean over a batch of sequences was inf in float16, as the sum is above 65504.
    (
        "mean of many float16 losses",
        lambda: celoss.cross_entropy(np.broadcast_to(np.float16(0), (64, 20, 1024)), np.zeros((64, 1024), int), axis=1),
        math.log(20),
        1e-6,
    ),
    # pytorch/pytorch#111484, PaddlePaddle/Paddle#53516: the last rows of more than 2**32 scores were wrong.
    (
        "last rows of a long text",
        lambda: celoss.cross_entropy(
            np.broadcast_to(np.linspace(0, 1, 2**16, dtype=np.float32), (2**16 + 10, 2**16)),
            np.where(np.arange(2**16 + 10) < 2**16 + 8, -100, 7),
            reduction="none",
        )[-3:],
        np.array([0, 1, 1]) * nll(np.linspace(0, 1, 2**16, dtype=np.float32)[None].astype(float), np.array([7])),
        1e-6,
    ),
    # tensorflow/tensorflow#1513: scores of a network that diverged.
    (
        "scores of -3e11",
        lambda: celoss.cross_entropy([[-2.88181912e11, -4.40300175e11]], [1]),
        4.40300175e11 - 2.88181912e11,
        1e-14,
    ),
    # forums.fast.ai, "Cross entropy error: -log(1-1): INF": sure and wrong.
    ("sure and wrong", lambda: celoss.cross_entropy([[-43.0, 61.9, 142.2]], [0]), 185.2, 1e-14),
    # pytorch/pytorch#4867: 27.6, the logarithm of a small constant, where the loss is 8e7.
    ("binary, sure and wrong", lambda: both(celoss.binary_cross_entropy_with_grad([8e7, 8e7], [0, 0])), [8e7, 0.5, 0.5], 1e-14),
    # keras-team/keras#20207: lists have no shape.
    (
        "lists",
        lambda: celoss.binary_cross_entropy([-18.6, 0.51, 2.94, -12.8], [0, 1, 0, 0]),
        bce(np.array([-18.6, 0.51, 2.94, -12.8]), np.array([0, 1, 0, 0])).mean(),
        1e-14,
    ),
    # ai.stackexchange.com/questions/35741: the gradient through softmax as a product with its Jacobian.
    (
        "gradient by the Jacobian",
        lambda: celoss.cross_entropy_with_grad(X[:1], Y[:1])[1][0],
        (np.diag(np.exp(log_p(X[0]))) - np.outer(np.exp(log_p(X[0])), np.exp(log_p(X[0]))))
        @ (-np.eye(4)[0] / np.exp(log_p(X[0]))),
        1e-12,
    ),
    # ariecattan/SciCo#2, tflearn/tflearn#562: softmax in the model and in the loss; probabilities go in as logarithms.
    ("a model that ends in softmax", lambda: celoss.cross_entropy(np.log(celoss.softmax(X)), Y), nll(X, Y).mean(), 1e-13),
    # scikit-learn/scikit-learn#17399, #20354: what a prediction of exactly 0 costs.
    ("a probability of 0 that happened", lambda: celoss.cross_entropy([[0.0, -INF]], [1]), INF, 0),
    ("a probability of 1 that happened", lambda: celoss.cross_entropy([[0.0, -INF]], [0]), 0, 0),
    # scikit-learn/scikit-learn#4033, #18523: a batch in which not every class occurs.
    ("a batch of one class", lambda: celoss.cross_entropy(X, np.full(6, 2)), nll(X, np.full(6, 2)).mean(), 1e-13),
    # scikit-learn/scikit-learn#30910: columns in another order than the sorted labels.
    (
        "columns in the user's order",
        lambda: celoss.cross_entropy(X[:2, :2], [["dog", "cat"].index(name) for name in ("dog", "cat")]),
        nll(X[:2, :2], np.array([0, 1])).mean(),
        1e-13,
    ),
    # dmlc/xgboost#11228: classes named 3, 4 and 5.
    (
        "labels that are names",
        lambda: celoss.cross_entropy(X[:4, :3], np.unique([5, 3, 4, 4], return_inverse=True)[1]),
        nll(X[:4, :3], np.array([2, 0, 1, 1])).mean(),
        1e-13,
    ),
    # scikit-learn/scikit-learn#16055: with two classes, twice the score of the one probability.
    (
        "Brier score of two classes",
        lambda: celoss.brier_score(np.stack([np.zeros(5), Z[0]], axis=1), YES[0].astype(int)),
        2 * np.mean((1 / (1 + np.exp(-Z[0])) - YES[0]) ** 2),
        1e-13,
    ),
    # scikit-learn/scikit-learn#28574: the slope of the loss in the temperature, by the gradient, and by differences.
    (
        "temperature scaling",
        lambda: -(celoss.cross_entropy_with_grad(X / 1.5, Y)[1] * X).sum() / 1.5**2,
        (nll(X / 1.500001, Y).mean() - nll(X / 1.499999, Y).mean()) / 2e-6,
        1e-7,
    ),
    # pytorch/pytorch#76939: one sample without a batch axis.
    ("one sample, its class", lambda: celoss.cross_entropy(X[0], 2), -log_p(X[0])[2], 1e-13),
    ("one sample, probabilities", lambda: celoss.cross_entropy(X[0], Q[0]), -Q[0] @ log_p(X[0]), 1e-13),
    # markhliu/DGAI#7, codertimo/BERT-pytorch#35: the vocabulary is the last axis, and nothing has to be transposed.
    ("batch, time, vocabulary", lambda: celoss.cross_entropy(TEXT, TOKENS), nll(TEXT, TOKENS).mean(), 1e-13),
    # pytorch/pytorch#3556: a volume, which was cut into slices for the loss.
    (
        "classes on axis 1 of a volume",
        lambda: celoss.cross_entropy(VOLUME, VOXELS, axis=1),
        np.mean([nll(np.moveaxis(VOLUME[:, :, i], 1, -1), VOXELS[:, i]).mean() for i in range(4)]),
        1e-13,
    ),
    # ml-explore/mlx-lm#1855: the score of a text depended on what it was padded with.
    (
        "texts of different lengths",
        lambda: celoss.cross_entropy(TEXT, np.where(REAL, TOKENS, -100), reduction="none").sum(axis=1),
        [nll(TEXT[i, :n], TOKENS[i, :n]).sum() for i, n in enumerate((5, 2, 4))],
        1e-13,
    ),
    # neuralmagic/deepsparse#1141: padded with token 0, which is a word, too.
    (
        "0 is a word and the padding",
        lambda: celoss.cross_entropy(TEXT, np.where(REAL, TOKENS * 0, -100)),
        -log_p(TEXT)[..., 0][REAL].mean(),
        1e-13,
    ),
    # tensorflow/tensorflow#45966: weights of time steps, 0 at the padding.
    (
        "weights of time steps",
        lambda: celoss.cross_entropy(TEXT, TOKENS, sample_weight=REAL),
        nll(TEXT, TOKENS)[REAL].mean(),
        1e-13,
    ),
    # huggingface/transformers#4699: subwords are marked with -1.
    (
        "ignored label -1",
        lambda: celoss.cross_entropy(X, [-1, 3, -1, 1, 2, -1], ignore_index=-1),
        nll(X, Y)[[1, 3, 4]].mean(),
        1e-13,
    ),
    # open-mmlab/mmsegmentation#3488, CoinCheung/pytorch-loss#2: 255 in the bytes of an image.
    (
        "ignored label 255 in bytes",
        lambda: celoss.cross_entropy(X, np.array([0, 255, 1, 1, 255, 3], np.uint8), ignore_index=255),
        nll(X, Y)[[0, 2, 3, 5]].mean(),
        1e-13,
    ),
    # keras-team/keras#497: given both weights, one was dropped.
    (
        "weights of classes and rows",
        lambda: celoss.cross_entropy(X, Y, weight=W, sample_weight=S),
        (S * W[Y] * nll(X, Y)).sum() / (S * W[Y]).sum(),
        1e-13,
    ),
    # keras-team/keras#13329, #19740: a weighted mean that divided by the number of rows.
    ("weighted mean", lambda: celoss.cross_entropy(X, Y, sample_weight=S), np.average(nll(X, Y), weights=S), 1e-13),
    # pytorch/pytorch#101213, #134896, NVIDIA/apex#837: class weights of integers, bool, half precision.
    *(
        (
            f"class weights of {dtype.__name__}",
            lambda dtype=dtype: celoss.cross_entropy(X.astype(np.float32), Y, weight=np.array([1, 0, 1, 1], dtype)),
            np.average(nll(X, Y), weights=[1, 1, 0, 0, 1, 1]),
            1e-6,
        )
        for dtype in (np.int64, np.bool_, np.float16)
    ),
    # pytorch/pytorch#25174, #5157: a weight for each sample of a binary loss.
    (
        "binary, weights of samples",
        lambda: celoss.binary_cross_entropy(Z, YES, weight=W[:, None]),
        (W[:, None] * bce(Z, YES)).mean(),
        1e-13,
    ),
    # pytorch/pytorch#82496, #65702: a weight for each channel of an image.
    (
        "pos_weight of channels",
        lambda: celoss.binary_cross_entropy(MASK, PIXELS, pos_weight=W[:3, None, None]),
        bce(MASK, PIXELS, W[:3, None, None]).mean(),
        1e-13,
    ),
    # pytorch/pytorch#1543: a weight for each pixel.
    (
        "binary, weights of pixels",
        lambda: celoss.binary_cross_entropy(MASK, PIXELS, weight=np.exp(MASK)),
        (np.exp(MASK) * bce(MASK, PIXELS)).mean(),
        1e-13,
    ),
    # keras-team/keras#17207, #17766: a binary loss that always took the mean over the last axis.
    ("binary, no mean", lambda: celoss.binary_cross_entropy(MASK, PIXELS, reduction="none"), bce(MASK, PIXELS), 1e-13),
    # yhenon/pytorch-retinanet#246: anchors labelled -1 count nothing, and the sum is divided by the number of positives.
    (
        "anchors that do not count",
        lambda: celoss.binary_cross_entropy(Z, np.where(Z > 2, -1, YES), weight=Z <= 2, normalizer=max(1, YES[Z <= 2].sum())),
        bce(Z, YES)[Z <= 2].sum() / max(1, YES[Z <= 2].sum()),
        1e-13,
    ),
    # dmlc/xgboost#2995, #3096: gradients in the margins, not in the probabilities, and their sum, not their mean.
    (
        "gradient for boosting",
        lambda: celoss.binary_cross_entropy_with_grad(Z[0], YES[0], weight=W[2], reduction="sum")[1],
        W[2] * (1 / (1 + np.exp(-Z[0])) - YES[0]),
        1e-13,
    ),
    # lightgbm-org/LightGBM#5839: the scores of a class lie side by side.
    (
        "scores by class",
        lambda: celoss.cross_entropy_with_grad(X.T.ravel().reshape(4, 6), Y, axis=0, reduction="sum")[1],
        (np.exp(log_p(X)) - np.eye(4)[Y]).T,
        1e-12,
    ),
    # Raschka-research-group/coral-pytorch#7: ordered classes as questions "above k?", with a weight for each.
    (
        "ordinal regression",
        lambda: celoss.binary_cross_entropy(X[:, :3], Y[:, None] > np.arange(3), weight=W[:3], normalizer=len(Y)),
        (W[:3] * bce(X[:, :3], ordinal(Y, 3))).sum(axis=1).mean(),
        1e-13,
    ),
    # clovaai/CutMix-PyTorch#37, huggingface/pytorch-image-models#46: mixed labels, or mixed losses.
    (
        "mixed labels",
        lambda: celoss.cross_entropy(X, 0.3 * np.eye(4)[Y] + 0.7 * np.eye(4)[Y[::-1]]),
        0.3 * nll(X, Y).mean() + 0.7 * nll(X, Y[::-1]).mean(),
        1e-13,
    ),
    # keras-team/keras-cv#69: mixed labels that are smoothed in the loss.
    (
        "smoothed probabilities",
        lambda: celoss.cross_entropy(X, Q, label_smoothing=0.1),
        -((0.9 * Q + 0.1 / 4) * log_p(X)).sum(axis=1).mean(),
        1e-13,
    ),
    # GMvandeVen/continual-learning#5, szagoruyko/attention-transfer#12: summed over classes, the mean over rows; and the
    # divergence is what is left without the teacher's own entropy.
    (
        "distillation",
        lambda: celoss.cross_entropy(X / 2, Q) - celoss.cross_entropy(np.log(Q), Q),
        (Q * (np.log(Q) - log_p(X / 2))).sum(axis=1).mean(),
        1e-12,
    ),
    # openai/CLIP#301, lucidrains/DALLE-pytorch#32: each picture finds its text, and each text its picture.
    (
        "contrastive, both ways",
        lambda: sum(celoss.cross_entropy(X[:4], np.arange(4), axis=axis) for axis in (0, 1)) / 2,
        -(np.diag(log_p(X[:4], 0)).mean() + np.diag(log_p(X[:4], 1)).mean()) / 2,
        1e-13,
    ),
    # rlcode/reinforcement-learning#54: an advantage in the place of the 1; it may be negative.
    (
        "advantages as targets",
        lambda: both(celoss.cross_entropy_with_grad(X[:2], np.array([[0, -3.0, 0, 0], [0, 0, 0.5, 0]]), reduction="sum")),
        both(
            (
                3 * log_p(X[0])[1] - 0.5 * log_p(X[1])[2],
                [-3 * (np.exp(log_p(X[0])) - np.eye(4)[1]), 0.5 * (np.exp(log_p(X[1])) - np.eye(4)[2])],
            )
        ),
        1e-12,
    ),
    # NVIDIA/apex#379: a scaler of the loss looks for inf in the gradient.
    (
        "a scale that is too large",
        lambda: celoss.cross_entropy_with_grad(np.array([[9, 0]], np.float16), [1], grad_output=2.0**18)[1],
        [[INF, -INF]],
        0,
    ),
]

# What it is, the call, the kind of error, and what its message has to say.
ERRORS = [
    # pytorch/pytorch#25663, #1939: a column of scores and a row of labels, which would broadcast to a matrix.
    (
        "a column and a row",
        lambda: celoss.binary_cross_entropy(np.zeros((16, 1)), np.zeros(16)),
        ValueError,
        r"\(16,\).*\(16, 1\)",
    ),
    # milesial/Pytorch-UNet#244: a mask that was read as a picture of three channels.
    (
        "a mask of three channels",
        lambda: celoss.binary_cross_entropy(np.zeros((1, 1, 8, 8)), np.zeros((1, 3, 8, 8))),
        ValueError,
        r"\(1, 3, 8, 8\).*\(1, 1, 8, 8\)",
    ),
    # biarne-a/hm-two-step-reco#3: one class too few.
    (
        "one class too few",
        lambda: celoss.cross_entropy(np.zeros((3, 908), np.float16), [662, 73, 908]),
        IndexError,
        r"target\[2\] = 908 is not in \[0, 908\)",
    ),
    # dmlc/xgboost#216, #1343: classes counted from 1.
    ("classes from 1", lambda: celoss.cross_entropy(X, [1, 4, 2, 2, 3, 4]), IndexError, r"target\[1\] = 4 is not in \[0, 4\)"),
    # huggingface/transformers#4699: -1 where -100 is ignored.
    ("a label of -1", lambda: celoss.cross_entropy(X[:2], [0, -1]), IndexError, r"target\[1\] = -1 .*ignore_index=-100"),
    # azraelkuan/FFTNet#1: what NaN becomes as an integer.
    ("NaN that was cast", lambda: celoss.cross_entropy(X[:2], [0, -(2**31)]), IndexError, r"target\[1\] = -2147483648 "),
    # open-mmlab/mmsegmentation#3488: 255 in the image, and another number in the loss.
    (
        "255, and another ignore_index",
        lambda: celoss.cross_entropy(X[:2], np.array([0, 255], np.uint8), ignore_index=-1),
        IndexError,
        r"target\[1\] = 255 .*ignore_index=-1",
    ),
    # pytorch/pytorch#133833: one class, and the label 1.
    ("one class, label 1", lambda: celoss.cross_entropy(np.array([7.2]), 1), IndexError, r"target = 1 is not in \[0, 1\)"),
    # bentrevett/pytorch-seq2seq#166: the scores are flattened, the tokens are not.
    ("half flattened", lambda: celoss.cross_entropy(TEXT.reshape(-1, 7), TOKENS), ValueError, r"\(3, 5\).*\(15,\)"),
    # markhliu/DGAI#7, turned around: axis 1 of (batch, time, vocabulary) is the time.
    ("time as the class axis", lambda: celoss.cross_entropy(TEXT, TOKENS, axis=1), ValueError, r"axis 1.*\(3, 7\)"),
    # burlachenkok/flpytorch#14: labels that are floating-point numbers.
    ("floating labels", lambda: celoss.cross_entropy(X[:2], np.array([0.0, 3.0])), TypeError, "integer"),
    # imranulashrafi/banner#2: weights of other classes.
    ("too many class weights", lambda: celoss.cross_entropy(X, Y, weight=np.ones(10)), ValueError, r"\(10,\).*\(4,\)"),
    # automl/Auto-PyTorch#263: counts that were subtracted the wrong way round.
    ("negative class weights", lambda: celoss.cross_entropy(X, Y, weight=[1, -2, 1, 1]), ValueError, r"weight\[1\] = -2"),
    # pytorch/pytorch#134896: complex weights gave a complex loss.
    ("complex class weights", lambda: celoss.cross_entropy(X, Y, weight=W + 0j), TypeError, "weight.*complex128"),
    # pytorch/pytorch#27936: as many weights as classes, for scores without a class axis.
    (
        "pos_weight of two classes",
        lambda: celoss.binary_cross_entropy(np.zeros((4, 10, 10)), np.zeros((4, 10, 10)), pos_weight=[1.0, 1.0]),
        ValueError,
        r"pos_weight of shape \(2,\).*\(4, 10, 10\)",
    ),
    # haitongli/knowledge-distillation-pytorch#48, keras-team/keras#19740: names of means in other libraries.
    ("batchmean", lambda: celoss.cross_entropy(X, Y, reduction="batchmean"), ValueError, "'mean', 'sum' or 'none'"),
    # ggml-org/ggml#1521: the gradient was written over an input that was read again.
    ("out is the target", lambda: celoss.cross_entropy_with_grad(X.copy(), Q, out=Q), ValueError, "out overlaps target"),
]


@pytest.mark.parametrize(("call", "expected", "rtol"), [pytest.param(*rest, id=name) for name, *rest in VALUES])
def test_values(call, expected, rtol):
    np.testing.assert_allclose(call(), expected, rtol=rtol)


@pytest.mark.parametrize(("call", "error", "message"), [pytest.param(*rest, id=name) for name, *rest in ERRORS])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_data_frames_of_pandas():
    """scipy/scipy#12164, scikit-learn/scikit-learn#25578: frames and nullable integers; rows count by position."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    np.testing.assert_allclose(celoss.softmax(frame), np.exp(log_p(X)), rtol=1e-13)
    for dtype in ("int64", "Int64", "category"):
        labels = pandas.Series(Y, index=range(6, 0, -1)).astype(dtype)
        assert celoss.cross_entropy(frame, labels) == pytest.approx(nll(X, Y).mean(), rel=1e-13)
    answers = pandas.Series(YES[0], dtype="boolean")
    assert celoss.binary_cross_entropy(pandas.Series(Z[0], dtype="Float64"), answers) == pytest.approx(bce(Z[0], YES[0]).mean())


def test_data_frames_of_polars():
    """scikit-learn/scikit-learn#28488."""
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    loss = celoss.cross_entropy(polars.DataFrame(X, schema=list("abcd")), polars.Series(Y))
    assert loss == pytest.approx(nll(X, Y).mean(), rel=1e-13)


def test_tensors_with_a_history_and_elsewhere():
    """pytorch/pytorch#44023, WenjieDu/PyPOTS#21: NumPy refuses tensors that need a gradient, and those of other devices."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    loss = celoss.cross_entropy(torch.tensor(X, requires_grad=True) * 1, torch.tensor(Y))
    assert loss == pytest.approx(nll(X, Y).mean(), rel=1e-13)
    with pytest.raises(TypeError, match=r"logits .*cpu\(\)"):
        celoss.cross_entropy(torch.zeros(2, 3, device="meta"), [0, 1])


def test_loss_objects_are_copied_and_pickled():
    """huggingface/transformers#8989: training loops deep-copy what they keep, and send it to other processes."""
    criterion = celoss.CrossEntropyLoss(weight=W, label_smoothing=0.1)
    expected = celoss.cross_entropy(X, Y, weight=W, label_smoothing=0.1)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert other(X, Y) == expected
        assert criterion(X, 3 - Y) != expected and not np.array_equal(other.backward(), criterion.backward())


def test_threads_of_the_caller():
    """joblib/threadpoolctl#40: threads of Python around threads of a library."""
    x = RNG.standard_normal((8, 2000, 100), np.float32)
    y = RNG.integers(100, size=(8, 2000))
    expected = [both(celoss.cross_entropy_with_grad(*case, n_threads=1)) for case in zip(x, y, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda a, b: both(celoss.cross_entropy_with_grad(a, b, n_threads=2)), x, y))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is safe on Linux only")
def test_fork_after_use():
    """pytorch/pytorch#17199, OpenMathLib/OpenBLAS#240: a child that was forked after a threaded call never returned."""
    code = """
import os, numpy as np, celoss
x, y = np.ones((3000, 300)), np.zeros(3000, int)
loss = celoss.cross_entropy(x, y, n_threads=4)
child = os.fork()
if child == 0:
    os._exit(0 if celoss.cross_entropy(2 * x, y, n_threads=4) == loss else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), round(loss, 9))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["0", f"{math.log(300):.9f}"]
