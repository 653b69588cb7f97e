// table.cpp: the table of block operations of one level: compiled once per level, with its flags. Exports one symbol.
#include "activations.hpp"
#include "brier.hpp"
#include "contract.h"
#include "cross_entropy.hpp"
#include "exp_sum.hpp"
#include "gradient.hpp"
#include "hessian.hpp"
#include "kl_divergence.hpp"
#include "maximum.hpp"
#include "probe.hpp"
#include "scores.hpp"
#include "soft_targets.hpp"
#include "softcap.hpp"
#include "statistics.hpp"
#include "targets.hpp"
#include "tiles.hpp"
#include "zero_one.hpp"

namespace {

// In the order of the contract.
template <class T> constexpr BlockOps<T> operations() {
    return {maximum<T>,
            argmax<T, false>,
            argmax<T, true>,
            soft_sums<T>,
            exp_sum<T>,
            exp_left_out_of_rows<T>,
            times_power<T>,
            log_rows<T>,
            cross_entropy<T>,
            gradient<T>,
            gradient_and_hessian<T>,
            hessp_sums<T>,
            hessp_rows<T>,
            hessp<T>,
            inverse_rows<T>,
            softmax<T>,
            log_softmax<T>,
            logsumexp<T>,
            infinite_sums<T>,
            soften<T>,
            times_slope<T>,
            ranks<T>,
            entropy_sums<T>,
            statistics<T>,
            kl_divergence<T>,
            vjp_sums<T, false>,
            vjp<T, false>,
            vjp_sums<T, true>,
            vjp<T, true>,
            zero_one<T>,
            brier<T>,
            load_tile<T>,
            store_tile<T>,
            load_labels<T>,
            scores<T>,
            probe<T>};
}

}  // namespace

extern const BlockOpsTable CELOSS_TABLE;
const BlockOpsTable CELOSS_TABLE = {CELOSS_LEVEL_NAME,         operations<float>(),       operations<double>(),
                                    count_other_than<int64_t>, count_other_than<int32_t>, read_targets<int64_t>,
                                    read_targets<int32_t>,     ratios_of_pieces,          sum_of_weights};
