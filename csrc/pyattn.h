/* pyattn.h - all that the outside may know of csrc/.
 *
 * Attention over arrays where they lie. The caller (pyattn/_core.pyx, or a C program) has already
 * decided *what* is computed: defaults, broadcasting, alignment of the causal mask. Here is decided
 * *how*. Extents are at least 1; every element that a view describes is readable (for `out` and
 * `lse`: writable), outputs overlap neither each other nor an input.
 *
 * Nothing is global but two settings, the instruction set and the number of threads. All functions
 * may be called from any number of threads at once.
 */
#ifndef PYATTN_H
#define PYATTN_H

#include <stddef.h>
#include <stdint.h>

typedef enum pa_status {
  PA_OK = 0,
  PA_NO_MEMORY,   /* scratch memory could not be had; nothing was written */
  PA_INTERRUPTED, /* `poll` asked to stop; outputs are written in part */
  PA_FOREIGN,     /* packed weights are for another instruction set; nothing was written */
} pa_status;

typedef enum pa_type { PA_FLOAT32 = 0, PA_FLOAT64 = 1 } pa_type;

enum { PA_MAX_BATCH_AXES = 64 };
#define PA_UNLIMITED (INT64_MAX / 4)

/* A strided array (batch..., head, row, col); strides in bytes, of any sign and size, 0 included.
 */
typedef struct pa_view {
  char *data;
  int64_t batch[PA_MAX_BATCH_AXES]; /* the first `batch_axes` of the call count */
  int64_t head, row, col;
} pa_view;

/* Number k of an axis in two levels lies at (k / inner) * outer + (k % inner) * stride bytes: a
 * grid's pixels, the rows of a block table (stride 0), or with inner past the end any plain axis.
 */
typedef struct pa_axis {
  int64_t inner, outer, stride;
} pa_axis;

/* What, besides the positions, decides which keys a query may see, or is added to its scores. */
typedef enum pa_term_kind {
  PA_SPAN,   /* int64 (..., heads, queries, 2): keys first <= j < last are seen */
  PA_MATCH,  /* int32 (..., queries + keys): ids; a query sees the keys that bear its own */
  PA_TABLE,  /* (..., heads, queries, keys): which are seen (bool), or what is added (-inf hides) */
  PA_SLOPES, /* double (..., heads): -slope * |j - (i + query_start)| is added */
} pa_term_kind;

typedef enum pa_element {
  PA_ELEMENT_FLOAT16,
  PA_ELEMENT_BFLOAT16,
  PA_ELEMENT_FLOAT32,
  PA_ELEMENT_FLOAT64,
  PA_ELEMENT_INT8,
  PA_ELEMENT_BOOL, /* any byte but 0 is true */
} pa_element;

/* Strides in bytes, 0 included: an array that all heads share is one array. Of PA_SPAN and PA_MATCH
 * the last axis is contiguous, and `row` has one level. */
typedef struct pa_term {
  pa_term_kind kind;
  pa_element element; /* PA_TABLE only; not PA_ELEMENT_INT8 */
  int clause;         /* -1: holds always. 0, 1, ...: one clause at least must hold, all of it;
                         its tables are of bools */
  const char *data;
  int64_t batch[PA_MAX_BATCH_AXES];
  int64_t head;
  pa_axis row, col; /* PA_TABLE: both; PA_SPAN: row */
} pa_term;

enum { PA_MAX_TERMS = 32, PA_MAX_CLAUSES = 16 };

/* Some keys and values of one sequence, in all key heads: (kv_heads, page_rows, d or dv), with the
 * strides of the call's `key` and `value`. Whole numbers have a factor for every row, contiguous
 * (kv_heads, page_rows); others have none. */
typedef struct pa_page {
  const char *key, *value;
  const float *key_scale, *value_scale;
} pa_page;

/* Queries and keys that are the pixels of a grid, line by line. A pixel sees those of which both
 * the line and the column are seen from its own: every `step`-th of spans[place][0] <= k <
 * spans[place][1], from the first on, one of which is the place itself. Neither end falls between
 * places that are `step` apart. */
typedef struct pa_grid_axis {
  int64_t extent, step; /* step <= extent + 1 */
  const int64_t *spans; /* (extent, 2), within the extent */
} pa_grid_axis;

typedef struct pa_grid {
  pa_grid_axis lines, columns;
} pa_grid;

/* Called now and then, on the calling thread only, during long calls; nonzero asks to stop. */
typedef int (*pa_poll)(void);

/* out[b, h, i] = sum over j of p[b, h, i, j] * value[b, h / (heads / kv_heads), j], where
 * p[b, h, i, :] = softmax(cap(scale * query[b, h, i] . key[b, h / (heads / kv_heads), :]) + terms)
 * over the keys j < key_lengths[b] with -left <= j - (i + query_start[b]) <= right that all terms
 * allow; cap(s) = softcap * tanh(s / softcap), or s. A row that may see no key is 0.
 *
 * Halves and whole numbers are computed with as floats.
 *
 * Pages: with `pages`, key j of batch element b is row j % page_rows of page pages[b, j /
 * page_rows] of (batch, page_count), as far as its key length needs them; data and batch strides of
 * `key` and `value` do not count, and key_lengths is given.
 *
 * Grid: with `grid`, of as many pixels as there are queries and keys, a query sees what it says;
 * then there are no offsets, pages, lengths, starts, window or weights, and terms can only be
 * tables that always apply.
 *
 * Packed sequences: with offsets, batch element b has the queries query_offsets[b] <= i <
 * query_offsets[b + 1] of `query`, `out` and `lse`, and its keys likewise; batch strides are 0.
 * Positions count from 0 in every sequence; `queries` and `keys` are the sums; terms can only be
 * slopes. */
typedef struct pa_attention_call {
  pa_type type;                          /* that is computed in, and of `lse` */
  pa_element query_element, key_element; /* of query, out and weights; of key and value */
  int batch_axes;
  int64_t batch[PA_MAX_BATCH_AXES]; /* extents of the leading axes */
  int64_t heads, kv_heads, queries, keys, d, dv;
  double scale, softcap;      /* softcap 0: none */
  int64_t left, right;        /* PA_UNLIMITED: no limit */
  const int64_t *query_start; /* one per batch element, C order; NULL: its keys - its queries */
  const int64_t *key_lengths; /* one per batch element, 0 <= length <= keys; NULL: keys */
  const int64_t *query_offsets, *key_offsets; /* batch + 1 each, from 0 on; or both NULL */
  const pa_grid *grid;                        /* or NULL */
  const double *sinks; /* per head: a logit that takes weight and adds nothing; or NULL */
  int term_count;
  pa_term *terms;                /* at most PA_MAX_TERMS */
  pa_view query, key;            /* (..., heads, queries, d), (..., kv_heads, keys, d) */
  pa_view value, out;            /* (..., kv_heads, keys, dv), (..., heads, queries, dv) */
  const pa_page *pages;          /* or NULL */
  int64_t page_rows, page_count; /* page_rows: a multiple of 64 */
  pa_view weights;   /* (..., heads, queries, keys): if data is set, p goes here instead, and value,
                        out, dv are not looked at */
  int64_t strongest; /* 0, or k: weights is (..., heads, queries, k) of `type`, the largest p of
                        each row */
  pa_view indices;   /* int64, like `weights`: their keys; -1 where there are fewer than k */
  void *lse;         /* C-contiguous (..., heads, queries) of `type`, or NULL */
  pa_poll poll;      /* or NULL */
  size_t scratch_bytes; /* set by pa_attention: what it asked for */
} pa_attention_call;

pa_status pa_attention(pa_attention_call *call);

/* Rows of keys or values (heads, rows, cols), of floats or halves, into a page, whose rows are
 * contiguous: rounded to its type. Whole numbers: symmetric, with a factor for every row, max |x| /
 * 127, or NaN if the row has a number that is not finite. */
typedef struct pa_store_call {
  pa_element from_element, to_element;
  int64_t heads, rows, cols;
  const char *data;
  int64_t head, row, col; /* strides in bytes */
  char *to;               /* its first row, of the first head */
  int64_t to_head;        /* stride in bytes */
  float *scale;           /* of its first row; whole numbers only */
  int64_t scale_head;     /* stride in numbers */
} pa_store_call;

void pa_store(const pa_store_call *call);

/* Positions, applied to rows x (..., heads, rows, cols). Row l of batch element b goes with row
 * index[b, l] of a table, in all heads. `out` is x itself (same data and strides) or apart from it.
 *
 * pa_rope turns the pairs of each row: (a, b) becomes (a cos - b sin, a sin + b cos). Pair i <
 * pairs is columns (i, pairs + i), or interleaved (2i, 2i + 1); columns from 2 * pairs on stay as
 * they are. A row of the table is `pairs` cosines, then `pairs` sines, contiguous: float where x is
 * of halves, else double, in which the call computes.
 *
 * pa_add_positions adds the row of the table, `cols` numbers of the type of x. */
typedef struct pa_positions_call {
  pa_element element; /* of x and out: halves, float or double */
  int batch_axes;
  int64_t batch[PA_MAX_BATCH_AXES];
  int64_t heads, rows, cols;
  pa_view x, out;
  pa_view index; /* int64 (..., rows); `head` is 0, and `col` does not count */
  const char *table;
  int64_t table_row, table_col; /* strides in bytes; pa_rope does not look at table_col */
  int64_t pairs;                /* pa_rope only, 2 * pairs <= cols */
  int interleaved;
  pa_poll poll; /* or NULL: x in place is then never left turned in part */
} pa_positions_call;

pa_status pa_rope(const pa_positions_call *call); /* no scratch memory: PA_OK or PA_INTERRUPTED */
pa_status pa_add_positions(const pa_positions_call *call);

/* Linear layers: y = activation(x W^T + bias), times a gate, plus a residual; several of them over
 * the same rows in one pass. */
typedef enum pa_activation {
  PA_IDENTITY,
  PA_GELU,       /* exact, with the error function */
  PA_GELU_TANH,  /* its usual approximation with tanh */
  PA_QUICK_GELU, /* x * sigmoid(1.702 x) */
  PA_SILU,       /* x * sigmoid(x) */
  PA_RELU,
} pa_activation;

/* A strided matrix of `type`, rows and columns in two levels: row r and column c lie at the sum of
 * their places. */
typedef struct pa_plane {
  char *data;
  pa_axis row, col;
} pa_plane;

/* Weights to be packed: (outputs, inputs), of halves, float or double. */
typedef struct pa_packing {
  pa_type type;            /* that the layer computes in, and of `bias` */
  pa_element stored;       /* how weights are kept: as `type`, or as halves, rounded */
  int64_t inputs, outputs; /* at least 1 */
  pa_element element;      /* of the weights */
  const char *weight;
  int64_t weight_row, weight_col; /* strides in bytes */
  const void *bias;               /* `outputs` contiguous numbers, or NULL: zeros */
} pa_packing;

/* Bytes that packed weights take; 0: more than there can be. Then into memory of that size, aligned
 * to 64 bytes. The layout is that of the selected instruction set; PA_FOREIGN if that was changed
 * between the two, and the size is another. */
size_t pa_linear_bytes(const pa_packing *packing);
pa_status pa_linear_pack(const pa_packing *packing, void *packed, size_t bytes);

/* What `bytes` bytes of packed weights hold: fills all but `element`, `weight` and `bias`. Returns
 * 0, -1 if they are no packed weights, or 1 if they are for another instruction set, as which
 * pa_linear would refuse them. */
int pa_linear_inspect(const void *packed, size_t bytes, pa_packing *packing);

/* And back, for any instruction set's: (outputs, inputs) contiguous, as stored; the bias. */
void pa_linear_unpack(const void *packed, void *weight, void *bias);

/* One layer: gate and residual count if their data is set. `out` may be one of them (same data and
 * axes), else it is apart from all inputs. */
typedef struct pa_layer {
  const void *packed;
  pa_activation activation;
  pa_plane out, gate, residual; /* (rows, outputs) */
} pa_layer;

enum { PA_MAX_LAYERS = 8 };

typedef struct pa_linear_call {
  pa_type type;
  int64_t rows, inputs;
  pa_plane x; /* (rows, inputs) */
  int layer_count;
  pa_layer layers[PA_MAX_LAYERS];
  pa_poll poll;         /* or NULL: what is in place is then never left half done */
  size_t scratch_bytes; /* set by pa_linear: what it asked for */
} pa_linear_call;

pa_status pa_linear(pa_linear_call *call);

/* out = (y - mean) / sqrt(variance + eps) * weight + bias over each row of y = x + residual; not
 * centred: y / sqrt(mean of y**2 + eps) * weight + bias. Columns are contiguous: `col` does not
 * count. `out` may be x or the residual (same data and axes), else it is apart from all inputs. */
typedef struct pa_norm_call {
  pa_type type;
  int64_t rows, cols;
  pa_plane x, residual, out; /* residual counts if its data is set */
  const void *weight, *bias; /* `cols` contiguous numbers, or NULL */
  double eps;
  int centred;
  pa_poll poll; /* as above */
} pa_norm_call;

pa_status pa_norm(const pa_norm_call *call); /* no scratch memory: PA_OK or PA_INTERRUPTED */

/* Linear attention: out[t] = scale * S[t]^T phi(query[t]), or divided by z[t] . phi(query[t])
 * instead of scaled, where S (d, dv) and z (d) are what key t and those before it leave behind:
 *
 *   S[t] = exp(decay[t]) * S[t - 1] + phi(key[t]) value[t]^T, z likewise with 1 for the value
 *   with beta, the delta rule: beta[t] * (value[t] - exp(decay[t]) * S[t - 1]^T key[t]) for
 * value[t]
 *
 * Not causal: every query has the S that all keys leave. Halves are computed with as floats. Keys
 * at or past the key length leave nothing; causal rows there are 0. A row divided by 0 is 0. */
typedef enum pa_feature {
  PA_FEATURE_IDENTITY,
  PA_FEATURE_ELU, /* elu(x) + 1 */
  PA_FEATURE_RELU,
} pa_feature;

typedef struct pa_linear_attention_call {
  pa_type type;                          /* that is computed in; of decay, beta and states */
  pa_element query_element, key_element; /* of query and out; of key and value */
  int batch_axes;
  int64_t batch[PA_MAX_BATCH_AXES];
  int64_t heads, kv_heads, queries, keys, d, dv; /* causal: as many queries as keys */
  pa_feature feature;
  int causal, normalized;
  double scale;               /* unless normalized */
  int64_t chunk;              /* tokens that are computed at once, 1 to 64 */
  const int64_t *key_lengths; /* one per batch element, or NULL: keys */
  pa_view query, key;         /* (..., heads, queries, d), (..., kv_heads, keys, d) */
  pa_view value, out;         /* (..., kv_heads, keys, dv), (..., heads, queries, dv) */
  pa_view decay;              /* (..., kv_heads, keys, decay_cols), or data NULL; causal only */
  int64_t decay_cols;         /* 1, or d: a decay for each dimension of the keys */
  pa_view beta;               /* (..., kv_heads, keys, 1), or data NULL; causal, not normalized */
  /* S before and after, (..., kv_heads, d, dv), with z as one more column if normalized; or data
   * NULL. */
  pa_view state, new_state;
  pa_poll poll;         /* or NULL */
  size_t scratch_bytes; /* set by pa_linear_attention: what it asked for */
} pa_linear_attention_call;

pa_status pa_linear_attention(pa_linear_attention_call *call);

/* Instruction sets this machine can run, best first: names by index, NULL past the last. */
const char *pa_isa_runnable(int index);
const char *pa_isa_name(void);
int pa_isa_select(const char *name); /* 0, or -1 if unknown here or not runnable */

void pa_threads_set(int threads);
int pa_threads_get(void); /* what the next call may use */

/* Measuring sticks for the benchmark, on pa_threads_get() threads. Returns the floating-point
 * operations made (-1: no memory) by `rounds` rounds of FMAs in registers on every thread; the sum
 * of the doubles in `bytes` bytes of memory, split over the threads. */
double pa_probe_fma(pa_type type, int64_t rounds);
double pa_probe_read(const char *data, size_t bytes);

/* Copies, past the caches, split over the threads. 0, or -1: no memory. */
int pa_probe_copy(char *to, const char *from, size_t bytes);

#endif
