/* The kernel table: formula, shapes and padding of every kernel. Drivers call kernels through it.
 *
 * Words. A *panel* is a block of up to MAX_WIDTH * lanes query rows, one row in each lane:
 * `width` vectors, 1 <= width <= max_width. Arrays over a panel are lane-contiguous:
 * x[k][lane] lies at x + (k * width * lanes + lane), in `real` (float or double, by table).
 * All panel arrays live in scratch memory; any alignment works, 64 bytes is fast.
 * Lanes past the last query row repeat a valid row: they are computed and never written.
 *
 * Kernels are static functions: no globals, no allocation, no threads, no failure. They are
 * compiled with wider instruction sets than the rest of the library, so nothing here may have
 * external linkage but the table itself.
 */
#ifndef PA_KERNELS_H
#define PA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Keys handled together. Blocks start at multiples of it on the key axis, whatever the shapes are:
 * what keeps the bits the same. */
#define PA_KEY_BLOCK 64

/* A matrix where it lies: byte strides of any sign and size. */
typedef struct pa_matrix {
  const char *data;
  ptrdiff_t row, col;
} pa_matrix;

/* Memory that will be wanted soon: `count` pieces of `bytes` bytes, `stride` apart, `inner` in a
 * row `inner_stride` apart (heads of a group beside each other). */
typedef struct pa_region {
  const char *data;
  ptrdiff_t stride, inner_stride, bytes;
  int64_t count;
  int inner;
} pa_region;

/* A walk over such memory. `scores` and `values` ask for `lines` cache lines of it before each
 * tile, so that they arrive while others are multiplied. A hint: reads nothing, changes no result.
 */
typedef struct pa_ahead {
  pa_region regions[4];
  int lines, region, inner; /* region: the next one; from the last down to 0, then -1 */
  int64_t piece;
  ptrdiff_t byte;
} pa_ahead;

/* What is known of a panel's rows after some keys: running softmax and unnormalised output. */
typedef struct pa_state {
  void *top; /* [lanes]      largest score so far, in units of log2; -max(real) before the first  */
  void *sum; /* [lanes]      sum of weights, weight = 2**(score - top)                            */
  void *out; /* [d][lanes]   sum of weight * value                                                */
} pa_state;

typedef struct pa_kernels {
  const char *isa;
  int real_bytes, lanes, max_width;

  /* panel[k][lane] = scale * rows[lane][k], k < d. rows: width * lanes addresses; numbers of a row
   * lie `col` bytes apart. */
  void (*pack)(void *panel, const char *const *rows, ptrdiff_t col, ptrdiff_t d, int width,
               double scale);

  /* scores[key][lane] = sum over k < d of key[key][k] * panel[k][lane]; top[lane] = largest. */
  void (*scores)(const pa_matrix *key, int keys, ptrdiff_t d, const void *panel, int width,
                 void *scores, void *top, pa_ahead *ahead);

  /* x[key][lane] = fill unless first[lane] <= key < last[lane]; top[lane] = largest of the rest.
   * With fill = -inf before `softmax`; with fill = -0.0 after it, for `values_guarded`. */
  void (*hide)(void *x, int keys, int width, const int32_t *first, const int32_t *last, double fill,
               void *top);

  /* One step of the running softmax: scores become weights in place,
   * new = max(top, state.top); alpha = 2**(state.top - new); weight = 2**(score - new);
   * state.sum = alpha * state.sum + sum of weights; state.top = new. A score of -inf weighs 0. */
  void (*softmax)(void *scores, int keys, int width, const void *top, pa_state *state, void *alpha);

  /* out[k][lane] = alpha[lane] * out[k][lane] + sum over key of value[key][k] * weight[key][lane]
   */
  void (*values)(const pa_matrix *value, int keys, ptrdiff_t d, const void *weights, int width,
                 const void *alpha, void *out, pa_ahead *ahead);

  /* The same bits, but a weight of -0.0 does not even multiply: 0 * NaN must not be seen. Slow. */
  void (*values_guarded)(const pa_matrix *value, int keys, ptrdiff_t d, const void *weights,
                         int width, const void *alpha, void *out, pa_ahead *ahead);

  /* state = nothing seen yet */
  void (*reset)(pa_state *state, ptrdiff_t d, int width);

  /* Whether every number of state.out is finite. */
  int (*finite)(const pa_state *state, ptrdiff_t d, int width);

  /* total = total and part together; merging into a fresh state gives `part` bit by bit. */
  void (*merge)(pa_state *total, const pa_state *part, ptrdiff_t d, int width);

  /* factor[lane] = empty[lane] ? 0 : 1 / state.sum[lane], in two parts: factor[0][lane] rounded,
   * and factor[1][lane] what rounding took away. */
  void (*factors)(const pa_state *state, int width, const unsigned char *empty, void *factor);

  /* lse[lane] = natural log of the softmax denominator; -inf where empty[lane] */
  void (*lse)(const pa_state *state, int width, const unsigned char *empty, void *lse);

  /* rows[lane][k] = (factor[0][lane] + factor[1][lane]) * x[k][lane] for lane < count, k < d. Never
   * -0 where x is +-0. */
  void (*write)(char *const *rows, ptrdiff_t col, const void *x, ptrdiff_t d, int width, int count,
                const void *factor);

  /* Measuring sticks for bench.py. `burn` makes `rounds` rounds of independent FMAs in registers
   * and returns how many floating-point operations that were; `read` sums an array of doubles. */
  double (*burn)(int64_t rounds);
  double (*read)(const char *data, size_t bytes);
} pa_kernels;

#endif
