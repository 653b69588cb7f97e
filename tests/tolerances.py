"""How far a result may be from the truth: the one table. Errors are in ulp of the exact value, the largest counts."""

from typing import NamedTuple


class Tolerance(NamedTuple):
    ulp: float
    reason: str


TABLE = {
    # Without smoothing or probabilities: no term cancels.
    ("loss", "float32"): Tolerance(1, "contract 5; the sums are float64, and one rounding is the last"),
    ("loss", "float64"): Tolerance(2, "contract 5; exp, sum, log1p and an addition round, all in float64"),
    ("gradient", "float32"): Tolerance(2, "contract 5; the exponential and the product with the row's factor round"),
    ("gradient", "float64"): Tolerance(4, "contract 5; exponential, sum, reciprocal and products round"),
    # One float64 over all rows.
    ("mean", "float32"): Tolerance(1, "in ulp of float32: what the rows are allowed; the sum over rows is float64"),
    ("mean", "float64"): Tolerance(8, "the rows' 2 ulp, the sum over some hundred rows, the denominator, a division"),
    # Where one missing compensation would show (test_compensations.py); in brackets the largest seen on any level.
    ("compensated loss", "float32"): Tolerance(1, "one exponential and the last rounding (0.96)"),
    ("compensated loss", "float64"): Tolerance(1.25, "the same, and what the logarithm leaves (1.09)"),
    ("compensated difference", "float32"): Tolerance(0.6, "the last rounding (0.53)"),
    ("compensated difference", "float64"): Tolerance(0.85, "the last rounding, and a quarter of the logarithm's (0.67)"),
    ("compensated gradient", "float32"): Tolerance(1.75, "the exponential, 1 ulp, and the product (1.60)"),
    ("compensated gradient", "float64"): Tolerance(2.25, "the same; without fused multiply-add two products (2.10)"),
    ("compensated gradient at the target", "float32"): Tolerance(1, "one exponential and the last rounding (0.88)"),
    ("compensated gradient at the target", "float64"): Tolerance(1.6, "the same, inverse and product (1.45)"),
    # With weights: factors that multiply, each rounded in float64.
    ("option loss", "float32"): Tolerance(1, "as the loss: all factors are float64"),
    ("option loss", "float64"): Tolerance(2, "as the loss"),
    ("option gradient", "float32"): Tolerance(2, "as the gradient: the row's factor is float64"),
    ("option gradient", "float64"): Tolerance(5, "the plain gradient's 4, and products with weights and upstream"),
    # With smoothing or probabilities p_k V - v_k cancels where the target is nearly met: in ulp of p_k V + v_k.
    ("blended loss", "float32"): Tolerance(1, "contract 5; all terms >= 0, summed in float64"),
    ("blended loss", "float64"): Tolerance(3, "all terms >= 0; (1 - smoothing) w_t and the sum of three terms round in float64"),
    ("blended gradient", "float32"): Tolerance(4, "two float32 terms, each within 2 ulp, subtracted (3.10 ulp seen)"),
    ("blended gradient", "float64"): Tolerance(5, "two float64 terms, each within 4 ulp, subtracted"),
    # softmax, sigmoid and their relatives, and the losses made of them.
    ("activation", "float32"): Tolerance(2, "exponential, sum and product or quotient round in float32"),
    ("activation", "float64"): Tolerance(3, "the same in float64; without fused multiply-add the sum rounds once more"),
    ("binary loss", "float32"): Tolerance(1, "contract 5; the exponential's half ulp and the last rounding"),
    ("binary loss", "float64"): Tolerance(2, "contract 5"),
    ("binary gradient", "float32"): Tolerance(2, "contract 5"),
    ("binary gradient", "float64"): Tolerance(4, "contract 5"),
    ("binary option", "float32"): Tolerance(1, "weights multiply in float64"),
    ("binary option", "float64"): Tolerance(5, "a product with each of weight, pos_weight, upstream and 1 / denominator"),
    ("brier loss", "float32"): Tolerance(1, "contract 5; computed in float64, rounded once"),
    ("brier loss", "float64"): Tolerance(3, "squares of probabilities in two parts, but one of 1 - p (2.24 ulp seen)"),
    ("brier gradient", "float32"): Tolerance(1, "as the loss; in ulp of the terms' sizes where they cancel"),
    ("brier gradient", "float64"): Tolerance(
        6, "p (d - mean), and mean is a sum rounded once more (4.81 ulp seen); in ulp of the terms"
    ),
    # Against PyTorch in float64, in machine epsilons of the largest gradient of the call: other sums, other order.
    ("peer", "float32"): Tolerance(8, "the blended gradient's 4 ulp of the larger term; PyTorch's error is far below"),
    ("peer", "float64"): Tolerance(16, "the same of both sides"),
}


def ulp(quantity, dtype):
    """The largest error in ulp that `quantity` may have for logits of `dtype`."""
    return TABLE[quantity, dtype if isinstance(dtype, str) else dtype.name].ulp
