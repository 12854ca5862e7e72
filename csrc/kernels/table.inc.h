/* The last line of every isa/<name>_<type>.c: all kernels, gathered in one exported table. */
#include "kernels.h"
#include "pack.inc.h"
#include "probe.inc.h"
#include "softmax.inc.h"
#include "tile.inc.h"
#include "vec.h"

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
    .pack = pack_kernel,
    .scores = scores_kernel,
    .hide = hide_kernel,
    .softmax = softmax_kernel,
    .values = values_kernel,
    .values_guarded = values_guarded_kernel,
    .reset = reset_kernel,
    .finite = finite_kernel,
    .merge = merge_kernel,
    .factors = factors_kernel,
    .lse = lse_kernel,
    .write = write_kernel,
    .burn = burn_kernel,
    .read = read_kernel,
};
