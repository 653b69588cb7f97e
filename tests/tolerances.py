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
    ("compensated loss", "float32"): Tolerance(1, "one exponential and the last rounding (0.87)"),
    ("compensated loss", "float64"): Tolerance(1, "the same; all else carries its rounding error (0.87)"),
    ("compensated difference", "float32"): Tolerance(0.6, "the last rounding (0.56)"),
    ("compensated difference", "float64"): Tolerance(0.7, "the last rounding, and what carried errors leave (0.60)"),
    ("compensated gradient", "float32"): Tolerance(1.75, "the exponential, 1 ulp, and the product (1.56)"),
    ("compensated gradient", "float64"): Tolerance(2.1, "the same; without fused multiply-add two products (1.92)"),
    ("compensated gradient at the target", "float32"): Tolerance(1, "one exponential and the last rounding (0.84)"),
    ("compensated gradient at the target", "float64"): Tolerance(1.1, "the same; inverse and product carry their errors (0.98)"),
    # With weights, smoothing or probabilities. Where p_k V - v_k cancels, the target being nearly met, in ulp of p_k V + v_k.
    ("option loss", "float32"): Tolerance(1, "contract 5; all factors and sums are float64"),
    ("option loss", "float64"): Tolerance(2, "contract 5; factors and sums carry their rounding errors"),
    ("option gradient", "float32"): Tolerance(2, "contract 5; the exponential and the last difference round"),
    ("option gradient", "float64"): Tolerance(4, "contract 5"),
    # softmax, sigmoid and their relatives, and the losses made of them.
    ("activation", "float32"): Tolerance(2, "exponential, sum and product or quotient round in float32"),
    ("activation", "float64"): Tolerance(3, "the same in float64; without fused multiply-add the sum rounds once more"),
    ("binary loss", "float32"): Tolerance(1, "contract 5; the exponential's half ulp and the last rounding"),
    ("binary loss", "float64"): Tolerance(2, "contract 5"),
    ("binary gradient", "float32"): Tolerance(2, "contract 5"),
    ("binary gradient", "float64"): Tolerance(4, "contract 5"),
    ("brier loss", "float32"): Tolerance(1, "contract 5; computed in float64, rounded once"),
    ("brier loss", "float64"): Tolerance(2, "contract 5; probabilities and sums carry their rounding errors"),
    ("brier gradient", "float32"): Tolerance(1, "as the loss; in ulp of the terms' sizes where they cancel"),
    ("brier gradient", "float64"): Tolerance(4, "contract 5; in ulp of the terms"),
    # (1 - p_t)^gamma multiplies the relative error of 1 - p_t, half an ulp of an exponential, by gamma: up to 5.
    ("focal", "float32"): Tolerance(3, "gamma times half an ulp, and the last rounding"),
    ("focal", "float64"): Tolerance(5, "the same; the factors carry their rounding errors"),
    # Second derivatives: p_k (1 - p_k) M.
    ("hessian", "float32"): Tolerance(3, "contract 6; the exponential, 1 - p_k and two products round"),
    ("hessian", "float64"): Tolerance(6, "contract 6"),
    # A linear layer and its loss, in machine epsilons of the largest number of the result; halves are rounded once more.
    ("linear", "float32"): Tolerance(16, "products of some ten numbers, summed over some ten rows or classes, each sum rounds"),
    ("linear", "float64"): Tolerance(32, "the same; the largest may itself be the difference of larger ones"),
    # Against PyTorch in float64, in machine epsilons of the largest gradient of the call: other sums, other order.
    ("peer", "float32"): Tolerance(8, "the blended gradient's 4 ulp of the larger term; PyTorch's error is far below"),
    ("peer", "float64"): Tolerance(16, "the same of both sides"),
}


def ulp(quantity, dtype):
    """The largest error in ulp that `quantity` may have for logits of `dtype`."""
    return TABLE[quantity, dtype if isinstance(dtype, str) else dtype.name].ulp
