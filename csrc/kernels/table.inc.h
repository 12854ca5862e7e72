/* The last line of every isa/<name>_<type>.c: all kernels, gathered in one exported table. */
#include "chunk.inc.h"
#include "decode.inc.h"
#include "kernels.h"
#include "linear.inc.h"
#include "norm.inc.h"
#include "positions.inc.h"
#include "probe.inc.h"
#include "recurrence.inc.h"
#include "rows.inc.h"
#include "softmax.inc.h"
#if PA_REAL_BITS == 32
#include "store.inc.h"
#endif
#include "strongest.inc.h"
#include "terms.inc.h"
#include "tile.inc.h"
#include "vec.h"
#include "write.inc.h"

#define PA_QUOTE_(x) #x
#define PA_QUOTE(x) PA_QUOTE_(x)
#define PA_TABLE_(isa, bits) pa_kernels_##isa##_f##bits
#define PA_TABLE(isa, bits) PA_TABLE_(isa, bits)

extern const pa_kernels PA_TABLE(PA_ISA, PA_REAL_BITS);

const pa_kernels PA_TABLE(PA_ISA, PA_REAL_BITS) = {
    .isa = PA_QUOTE(PA_ISA),
    .real_bytes = (int)sizeof(real),
    .lanes = LANES,
    .max_width = MAX_WIDTH,
    .scores = scores_kernel,
    .cap = cap_kernel,
    .bound = bound_kernel,
    .match = match_kernel,
    .slopes = slopes_kernel,
    .lay = {lay_float16_kernel, lay_bfloat16_kernel, lay_float32_kernel, lay_float64_kernel},
    .scan = scan_kernel,
    .unfold = unfold_kernel,
    .join = join_kernel,
    .larger = larger_kernel,
    .survey = survey_kernel,
    .add = add_kernel,
    .mark = mark_kernel,
    .softmax = softmax_kernel,
    .values = values_kernel,
    .values_guarded = values_guarded_kernel,
    .reset = reset_kernel,
    .finite = finite_kernel,
    .merge = merge_kernel,
    .factors = factors_kernel,
    .lse = lse_kernel,
    .keep = keep_kernel,
    .weigh = weigh_kernel,
#if PA_REAL_BITS == 32
    .pack = {pack_float16_kernel, pack_bfloat16_kernel, pack_float32_kernel, NULL},
    .widen_rows = {widen_rows_float16_kernel, widen_rows_bfloat16_kernel, widen_rows_float32_kernel,
                   NULL, widen_rows_int8_kernel},
    .write = {write_float16_kernel, write_bfloat16_kernel, write_float32_kernel, NULL},
    .row_scores = {row_scores_float16_kernel, row_scores_bfloat16_kernel, row_scores_float32_kernel,
                   NULL, row_scores_int8_kernel},
    .row_values = {row_values_float16_kernel, row_values_bfloat16_kernel, row_values_float32_kernel,
                   NULL, row_values_int8_kernel},
    .store_row = {store_row_float16_kernel, store_row_bfloat16_kernel, store_row_float32_kernel,
                  NULL, store_row_int8_kernel},
    .linear_few = {linear_few_float16_kernel, linear_few_bfloat16_kernel},
    .rotate = {rotate_float16_kernel, rotate_bfloat16_kernel, NULL, NULL},
    .shift = {shift_float16_kernel, shift_bfloat16_kernel, NULL, NULL},
    .write_rows = {write_rows_float16_kernel, write_rows_bfloat16_kernel, write_rows_float32_kernel,
                   NULL},
#else
    .pack = {NULL, NULL, NULL, pack_float64_kernel},
    .widen_rows = {NULL, NULL, NULL, widen_rows_float64_kernel, NULL},
    .write = {NULL, NULL, NULL, write_float64_kernel},
    .row_scores = {NULL, NULL, NULL, row_scores_float64_kernel, NULL},
    .row_values = {NULL, NULL, NULL, row_values_float64_kernel, NULL},
    .rotate = {NULL, NULL, rotate_float32_kernel, rotate_float64_kernel},
    .shift = {NULL, NULL, shift_float32_kernel, shift_float64_kernel},
    .write_rows = {NULL, NULL, NULL, write_rows_float64_kernel},
#endif
    .row_queries = row_queries_kernel,
    .row_scale = row_scale_kernel,
    .row_add = row_add_kernel,
    .row_mark = row_mark_kernel,
    .row_softmax = row_softmax_kernel,
    .row_reset = row_reset_kernel,
    .row_finish = row_finish_kernel,
    .settle = settle_kernel,
    .linear = linear_kernel,
    .widen = {widen_float16_kernel, widen_bfloat16_kernel},
    .narrow = {narrow_float16_kernel, narrow_bfloat16_kernel},
    .norm = norm_kernel,
    .map = map_kernel,
    .products = products_kernel,
    .fade = fade_kernel,
    .scale_rows = scale_rows_kernel,
    .sum_rows = sum_rows_kernel,
    .fold = fold_kernel,
    .shares = shares_kernel,
    .recur = recur_kernel,
    .recur_sums = recur_sums_kernel,
    .burn = burn_kernel,
    .read = read_kernel,
    .copy = copy_kernel,
};
