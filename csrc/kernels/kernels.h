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

/* So few rows of a key head are worked on row by row, whatever the vectors are: it changes bits. */
#define PA_FEW_ROWS 8

/* The first keys of a block may be left out in steps of this many if no row sees them: a multiple
 * of the chains and of the periods of the summation trees (tile.inc.h, softmax.inc.h). */
#define PA_KEY_STEP 32

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
  const char *const *rows; /* then, sooner: `row_lines` at a time of the rows row..row_count - 1 */
  ptrdiff_t row_offset, row_bytes, row_byte;
  int row, row_count, row_lines;
} pa_ahead;

/* Where the keys of a block lie in the rows of a table: runs of keys, `step` bytes apart. */
typedef struct pa_run {
  ptrdiff_t offset; /* of its first key, in bytes from the start of the row */
  int length;
} pa_run;

typedef struct pa_columns {
  ptrdiff_t step;
  int count;
  pa_run runs[PA_KEY_BLOCK];
} pa_columns;

enum { PA_MAP_EXP = 3 }; /* of `map`, behind those of pa_feature */

enum { PA_FOUND_SEEN = 1, PA_FOUND_OTHER = 2 };

/* The k largest scores of each row so far and their keys, largest first; of equal ones the first.
 * They stand where the caller wants them in the end; a key of -1: there is none. */
typedef struct pa_strongest {
  int64_t k;
  int count, width;  /* rows, vectors of the panel */
  char *weights[64]; /* of each row: k contiguous `real` */
  char *indices[64]; /* of each row: k contiguous int64 */
} pa_strongest;

/* Rows of numbers of one type, and for each a row of a table: number index[n * index_step] for row
 * n. Steps, columns and rows are strides in bytes. `to` is `from` with the same strides, or apart
 * from it. */
typedef struct pa_table_rows {
  const char *from;
  char *to;
  ptrdiff_t from_step, from_col, to_step, to_col;
  int64_t count, cols;
  const char *index; /* int64 */
  ptrdiff_t index_step;
  const char *table;
  ptrdiff_t table_row, table_col;
  const char *next; /* the rows that come after these, as far apart; a hint, only prefetched */
  int stream;       /* a wish: write past the caches, then `settle` before other threads may look */
} pa_table_rows;

/* Rows and columns anywhere: number `lane` of row r lies at data + rows[r] + cols[lane]; or data is
 * NULL. Bit j of `beside`: whether the lanes of vector j lie side by side, and none is spare. */
typedef struct pa_outlet {
  char *data;
  const ptrdiff_t *rows, *cols;
  unsigned beside;
} pa_outlet;

/* How sums of a panel of outputs become results: y = activation(sum + bias), times the gate, plus
 * the residual, of those that there are. `out` may be one of these. */
typedef struct pa_completion {
  int activation, count; /* by pa_activation; outputs, the lanes that are not spare */
  const void *bias;      /* [lanes] */
  pa_outlet out, gate, residual;
} pa_completion;

/* A row to normalise; `out` is `x` or `residual` or apart from them. All contiguous. */
typedef struct pa_norm_row {
  int64_t cols;
  const char *x, *residual; /* residual, weight and bias may be NULL */
  char *out;
  const void *weight, *bias;
  double eps;
  int centred; /* whether the mean is subtracted: layer_norm, else rms_norm */
} pa_norm_row;

/* Some tokens of a key head that change the state of a recurrence one after the other. Rows of
 * keys, queries and gates lie `pitch` numbers apart, `d` rounded up to whole vectors, 0 behind `d`.
 */
typedef struct pa_recurrence {
  int tokens, group; /* group: query heads of the key head */
  ptrdiff_t d, pitch;
  const void *queries; /* [token * group + head][k] */
  const void *keys;    /* [token][k] */
  const void *gates; /* what the state is multiplied with first: [token], or [token][k]; or NULL */
  ptrdiff_t gate_pitch; /* of gates: 1, or `pitch` */
  const void *beta;     /* [token], by how much a key's value is replaced; NULL: values are added */
} pa_recurrence;

/* What is known of a panel's rows after some keys: running softmax and unnormalised output. */
typedef struct pa_state {
  void *top; /* [lanes]      largest score so far, in units of log2; -max(real) before the first  */
  void *sum; /* [lanes]      sum of weights, weight = 2**(score - top)                            */
  void *out; /* [d][lanes]   sum of weight * value                                                */
  unsigned char *seen; /* [lanes] whether there was a key that the row may see                    */
} pa_state;

/* The same row by row, outputs [row][d], and `alpha` as of `softmax`: [rows] each. */
typedef struct pa_rows_state {
  void *top, *sum, *alpha, *out;
} pa_rows_state;

typedef struct pa_kernels {
  const char *isa;
  int real_bytes, lanes, max_width;

  /* Of the kernels by pa_element for what callers' arrays hold, those of types that the table does
   * not compute with are NULL: double in that of float, all but double in that of double. */

  /* panel[k][lane] = scale * rows[lane][k], k < d, by pa_element. rows: width * lanes addresses;
   * numbers of a row lie `col` bytes apart. */
  void (*pack[4])(void *panel, const char *const *rows, ptrdiff_t col, ptrdiff_t d, int width,
                  double scale);

  /* to[row][k] = scale[row] * from[row][k], k < cols, and 0 up to a multiple of `lanes`, which is
   * what rows of `to` lie apart. By pa_element; scale may be NULL: 1. */
  void (*widen_rows[5])(void *to, const pa_matrix *from, int rows, ptrdiff_t cols,
                        const float *scale);

  /* scores[key][lane] = sum over k < d of key[key][k] * panel[k][lane]; top[lane] = largest. */
  void (*scores)(const pa_matrix *key, int keys, ptrdiff_t d, const void *panel, int width,
                 void *scores, void *top, pa_ahead *ahead);

  /* x[key][lane] = cap * tanh(x[key][lane] * ln(2) / cap) / ln(2): scores are in units of log2,
   * `cap` is not. top[lane] = largest. */
  void (*cap)(void *x, int keys, int width, double cap, void *top);

  /* --- Tiles [key][lane] of what is added to the scores, in natural units; -inf hides. */

  /* tile[key][lane] = first[lane] <= key < last[lane] ? 0 : -inf */
  void (*bound)(void *tile, int keys, int width, const int32_t *first, const int32_t *last);

  /* Hides the keys of another id than the lane's own. */
  void (*match)(void *tile, int keys, int width, const int32_t *own, const int32_t *ids);

  /* Adds -slope[lane] * |distance[lane] + first + key|, never -inf. `distance` is rounded to
   * `real`, so it must not depend on which keys of a block are looked at: `first` is the number of
   * the first. */
  void (*slopes)(void *tile, int keys, int width, const double *slope, const double *distance,
                 int first);

  /* tile[key][lane] = number `key` of rows[lane], by pa_element. A negative finite number stays
   * finite: it does not hide. rows: width * lanes addresses. */
  void (*lay[4])(void *tile, const char *const *rows, const pa_columns *columns, int width);

  /* Such rows of bools as bits, key k at bit k of bits[lane]. Returns what they hold:
   * PA_FOUND_SEEN, PA_FOUND_OTHER (false), or both. */
  int (*scan)(const char *const *rows, const pa_columns *columns, int lanes, uint64_t *bits);

  /* tile[key][lane] = bit `key` of bits[lane] ? 0 : -inf */
  void (*unfold)(void *tile, const uint64_t *bits, int keys, int width);

  /* tile[i] += other[i]; hidden if either is, and only then. tile[i] = the larger. */
  void (*join)(void *tile, const void *other, size_t numbers);
  void (*larger)(void *tile, const void *other, size_t numbers);

  /* What the tile holds: PA_FOUND_SEEN if some place is not hidden, PA_FOUND_OTHER if some place is
   * not 0. seen[lane] |= whether the lane has a place that is not hidden. */
  int (*survey)(const void *tile, int keys, int width, unsigned char *seen);

  /* x[key][lane] += log2(e) * tile[key][lane], -inf where hidden whatever x is; top[lane] = largest
   */
  void (*add)(void *x, const void *tile, int keys, int width, void *top);

  /* After `softmax`, for `values_guarded`: hidden weights become -0.0. */
  void (*mark)(void *weights, const void *tile, int keys, int width);

  /* --- Scores to outputs. */

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

  /* factor[lane]: what the unnormalised outputs of a row are multiplied by, 1 / (its sum and its
   * sink), 0 where nothing was seen. In two parts: factor[0][lane] rounded, and factor[1][lane]
   * what rounding took away. sink[lane]: a logit in natural units, or -inf. */
  void (*factors)(const pa_state *state, int width, const double *sink, void *factor);

  /* lse[lane] = natural log of the softmax denominator; of the sink alone where nothing was seen */
  void (*lse)(const pa_state *state, int width, const double *sink, void *lse);

  /* Takes what is larger among the scores [key][lane] of keys from, from + 1, ... */
  void (*keep)(const pa_strongest *best, const void *scores, int64_t from, int keys);

  /* Kept scores become weights; 0 where there is no key. */
  void (*weigh)(const pa_strongest *best, const pa_state *state, const void *factor);

  /* rows[lane][k] = (factor[0][lane] + factor[1][lane]) * x[k][lane] for lane < count, k < d, by
   * pa_element. Never -0 where x is +-0. */
  void (*write[4])(char *const *rows, ptrdiff_t col, const void *x, ptrdiff_t d, int width,
                   int count, const void *factor);

  /* --- Few rows, at most PA_FEW_ROWS, lanes along the head size. Rows of queries and outputs are
   * `d` numbers apart, a multiple of `lanes`; rows of scores PA_KEY_BLOCK. By pa_element of the
   * keys or values, whose numbers are contiguous. */

  /* scores[row][key] = sum over k < d of key[key][k] * queries[row][k]. Up to `lanes` - 1 scores
   * past the last key are written. ahead: what lies so many bytes behind the keys will be wanted
   * soon, a hint; 0: nothing. */
  void (*row_scores[5])(const pa_matrix *key, int keys, ptrdiff_t d, const void *queries, int rows,
                        void *scores, ptrdiff_t ahead);

  /* x[row][key] *= scale[key] */
  void (*row_scale)(void *x, const float *scale, int keys, int rows);

  /* As `add` and `mark`, of rows and a tile [key][lane] of `width` vectors. */
  void (*row_add)(void *scores, const void *tile, int keys, int width, int rows);
  void (*row_mark)(void *weights, const void *tile, int keys, int width, int rows);

  /* queries[row][k] = panel[k][row], and 0 from k = d up to a multiple of `lanes`. */
  void (*row_queries)(void *queries, const void *panel, ptrdiff_t d, int width, int rows);

  /* As `softmax`, `reset` and `values`; guarded: as `values_guarded`. */
  void (*row_softmax)(void *scores, int keys, int rows, const pa_rows_state *state);
  void (*row_reset)(const pa_rows_state *state, ptrdiff_t d, int rows);
  void (*row_values[5])(const pa_matrix *value, int keys, ptrdiff_t d, const void *weights,
                        int rows, int guarded, const void *alpha, void *out, ptrdiff_t ahead);

  /* The rows as the state of a panel: all of it but `seen`, and the first `cols` of each row. */
  void (*row_finish)(const pa_rows_state *rows, ptrdiff_t d, int count, pa_state *state,
                     ptrdiff_t cols, int width);

  /* --- Positions: rows with rows of a table, by pa_element. Halves are computed in float, by the
   * table of float; float and double in double, by the table of double; NULL in the other. */

  /* Rotates the pairs of each row by the angles of which the table has the cosines and then the
   * sines, contiguous `real`: (a, b) becomes (a cos - b sin, a sin + b cos). Pair i is (i,
   * pairs + i), or interleaved (2i, 2i + 1); what comes after 2 * pairs stays as it is. */
  void (*rotate[4])(const pa_table_rows *rows, int64_t pairs, int interleaved);

  /* to = from + table, whose numbers are of the same type. */
  void (*shift[4])(const pa_table_rows *rows);

  void (*settle)(void);

  /* --- Layers. A panel of weights is [input][lane], a lane is an output. */

  /* sums[row][lane] = (fresh ? 0 : sums[row][lane]) + sum over k < steps of x[row][k] *
   * panel[k][lane], one chain. Columns of x are contiguous: x->col does not count. Unless
   * `completion` is NULL, the sums are complete then and become results. */
  void (*linear)(const pa_matrix *x, int rows, ptrdiff_t steps, const void *panel, int width,
                 int fresh, void *sums, const pa_completion *completion);

  /* The same bits from a panel of halves, by pa_element, each widened once for every four rows.
   * Only in the table of float. */
  void (*linear_few[2])(const pa_matrix *x, int rows, ptrdiff_t steps, const void *panel, int width,
                        int fresh, void *sums, const pa_completion *completion);

  /* Halves to `real` and back, by pa_element; `count` is a multiple of `lanes`. */
  void (*widen[2])(void *to, const char *from, ptrdiff_t count);
  void (*narrow[2])(char *to, const void *from, ptrdiff_t count);

  /* --- Pages. */

  /* to[k] = from[k], k < cols, by pa_element of `to`, which is contiguous; numbers of `from`,
   * floats or halves, lie `col` bytes apart. Whole numbers: to[k] = from[k] / *scale to the
   * nearest, ties to even, *scale = max |from[k]| / 127, or NaN if some number is not finite. Only
   * in the table of float, and not for PA_ELEMENT_FLOAT64. */
  void (*store_row[5])(char *to, int from_element, const char *from, ptrdiff_t col, ptrdiff_t cols,
                       float *scale);

  /* out = (y - mean) / sqrt(mean of (y - mean)**2 + eps) * weight + bias of the row y = x +
   * residual; not centred: with a mean of 0. */
  void (*norm)(const pa_norm_row *row);

  /* --- Linear attention. Rows that are not said to lie elsewhere are whole vectors long. */

  /* x[row][k] = map(x[row][k]), k < cols, and 0 up to a multiple of `lanes`, which is what rows lie
   * apart. By pa_feature: elu(x) + 1, max(x, 0); or PA_MAP_EXP: exp(x). */
  void (*map)(void *x, ptrdiff_t rows, ptrdiff_t cols, int map);

  /* gates[0][t] stays, gates[1][t] = product of gates[0][0..t], gates[2][t] = product of what comes
   * behind t. Rows are PA_KEY_BLOCK numbers apart. */
  void (*products)(void *gates, int count);

  /* scores[key][lane] is multiplied by gates[0][key + 1] ... gates[0][position[lane]] where key <=
   * position[lane], of which it becomes -0.0 elsewhere, as by `mark`, whatever it is; sum[lane] =
   * sum of them; alpha[lane] = gates[1][position[lane]]. gates: as `products` leaves them, NULL: 1.
   */
  void (*fade)(void *scores, int keys, int width, const int32_t *position, const void *gates,
               void *sum, void *alpha);

  /* x[row][k] *= factor[row]; to[k] = sum over rows of x[row][k]; to[i] += alpha[0] * from[i]. */
  void (*scale_rows)(void *x, int rows, ptrdiff_t cols, const void *factor);
  void (*sum_rows)(void *to, const void *x, int rows, ptrdiff_t cols);
  void (*fold)(void *to, const void *from, ptrdiff_t numbers, const void *alpha);

  /* factor[i] + rest[i] = 1 / sum[i], in two parts as of `factors`, 0 where the sum is 0; `scale`
   * if `sum` is NULL. */
  void (*shares)(void *factor, void *rest, ptrdiff_t count, const void *sum, double scale);

  /* Token by token: state[k][lane] = gate[k] * state[k][lane] + key[k] * u[lane], then
   * out[token * group + head][lane] = sum over k of query[k] * state[k][lane], where u is the
   * value, values[token][lane], or beta * (value - sum over k of key[k] * gate[k] *
   * state[k][lane]). */
  void (*recur)(const pa_recurrence *r, const void *values, int width, void *state, void *out);

  /* keys[k] = gate[k] * keys[k] + key[k], then sums[token * group + head] = sum over k of query[k]
   * * keys[k]: the denominators. */
  void (*recur_sums)(const pa_recurrence *r, void *keys, void *sums);

  /* Number k of row r, `row` and `col` bytes apart, = (factor[r] + rest[r]) * x[r][k], k < cols, by
   * pa_element; factor NULL: x[r][k]. */
  void (*write_rows[4])(char *to, ptrdiff_t row, ptrdiff_t col, const void *x, int rows,
                        ptrdiff_t cols, const void *factor, const void *rest);

  /* Measuring sticks for bench.py. `burn` makes `rounds` rounds of independent FMAs in registers
   * and returns how many floating-point operations that were; `read` sums an array of doubles;
   * `copy` writes past the caches. */
  double (*burn)(int64_t rounds);
  double (*read)(const char *data, size_t bytes);
  void (*copy)(char *to, const char *from, size_t bytes);
} pa_kernels;

#endif
