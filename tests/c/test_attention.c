/* pa_attention on every instruction set: random shapes and strides, every operand flush against an
 * inaccessible page in front or behind, against plain loops in double. */
#include "check.h"
#include "pyattn.h"

static int real; /* bytes */

static double get(const char *at) {
  return real == 4 ? (double)*(const float *)at : *(const double *)at;
}
static void put(char *at, double x) {
  if (real == 4) *(float *)at = (float)x;
  else *(double *)at = x;
}

/* (batch, heads, rows, cols) in one of several axis orders, reversed or padded */
static pa_view view_take(guarded *g, const int64_t extent[4], int fill) {
  static const int orders[4][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {3, 1, 0, 2}, {1, 0, 2, 3}};
  const int *order = orders[below(4)];
  int64_t stride[4], step = real, bytes = real;
  for (int i = 3; i >= 0; --i) {
    stride[order[i]] = step;
    bytes += (extent[order[i]] - 1) * step;
    step *= extent[order[i]] + (below(3) == 0);
  }
  *g = guarded_take((size_t)bytes, below(2));
  char *data = g->data;
  for (int axis = 0; axis < 4; ++axis)
    if (below(6) == 0) data += (extent[axis] - 1) * stride[axis], stride[axis] = -stride[axis];
  pa_view v = {data, {stride[0]}, stride[1], stride[2], stride[3]};
  for (int64_t b = 0; b < extent[0]; ++b)
    for (int64_t h = 0; h < extent[1]; ++h)
      for (int64_t r = 0; r < extent[2]; ++r)
        for (int64_t c = 0; c < extent[3]; ++c)
          put(data + b * stride[0] + h * stride[1] + r * stride[2] + c * stride[3],
              fill ? normal() : NAN);
  return v;
}

static char *at(const pa_view *v, int64_t b, int64_t h, int64_t r, int64_t c) {
  return v->data + b * v->batch[0] + h * v->head + r * v->row + c * v->col;
}

static void test_call(pa_type type, int d, int dv, int queries, int keys, int want_weights) {
  const int kv_heads = 1 + below(2), group = 1 + below(3), batch = 1 + below(2);
  const int heads = kv_heads * group;
  int64_t start[2], lengths[2];
  for (int b = 0; b < 2; ++b) {
    start[b] = below(keys + 4) - queries;
    lengths[b] = below(keys + 1);
  }
  pa_attention_call call = {.type = type,
                            .batch_axes = 1,
                            .batch = {batch},
                            .heads = heads,
                            .kv_heads = kv_heads,
                            .queries = queries,
                            .keys = keys,
                            .d = d,
                            .dv = dv,
                            .scale = (uniform() - 0.3) / sqrt(d),
                            .causal = below(2)};
  if (below(2)) call.query_start = start;
  if (below(2)) call.key_lengths = lengths;
  guarded q, k, v = {0}, o, lse = {0};
  call.query = view_take(&q, (int64_t[]){batch, heads, queries, d}, 1);
  call.key = view_take(&k, (int64_t[]){batch, kv_heads, keys, d}, 1);
  pa_view result;
  if (want_weights) {
    result = call.weights = view_take(&o, (int64_t[]){batch, heads, queries, keys}, 0);
  } else {
    call.value = view_take(&v, (int64_t[]){batch, kv_heads, keys, dv}, 1);
    result = call.out = view_take(&o, (int64_t[]){batch, heads, queries, dv}, 0);
    lse = guarded_take((size_t)(batch * heads * queries * real), below(2));
    call.lse = lse.data;
  }
  CHECK(pa_attention(&call) == PA_OK, "status");

  double worst = 0, *p = malloc((size_t)keys * sizeof *p);
  const double unit = real == 4 ? 0x1p-24 : 0x1p-53;
  int bad = 0;
  for (int b = 0; b < batch; ++b)
    for (int h = 0; h < heads; ++h)
      for (int i = 0; i < queries; ++i) {
        const int64_t first = call.query_start ? start[b] : keys - queries;
        int64_t seen = call.key_lengths ? lengths[b] : keys;
        if (call.causal && i + first + 1 < seen) seen = i + first + 1;
        double top = -HUGE_VAL, total = 0, size = 0;
        for (int64_t j = 0; j < seen; ++j) {
          double s = 0, a = 0;
          for (int c = 0; c < d; ++c) {
            const double t = get(at(&call.query, b, h, i, c)) *
                             get(at(&call.key, b, h / group, j, c)) * call.scale;
            s += t, a += fabs(t);
          }
          p[j] = s, top = fmax(top, s), size = fmax(size, a);
        }
        for (int64_t j = 0; j < seen; ++j) total += p[j] = exp(p[j] - top);
        const double allowed = unit * (8 + 8 * size) * (real == 8 ? 2 : 1); /* ours + the loops' */
        for (int c = 0; c < (want_weights ? keys : dv); ++c) {
          const double got = get(at(&result, b, h, i, c));
          double want = 0, scale = 0;
          if (want_weights) {
            want = scale = c < seen ? p[c] / total : 0;
          } else {
            for (int64_t j = 0; j < seen; ++j) {
              const double t = p[j] / total * get(at(&call.value, b, h / group, j, c));
              want += t, scale += fabs(t);
            }
          }
          if (seen <= 0 || scale == 0) bad += got != 0 || signbit(got);
          else worst = fmax(worst, fabs(got - want) / scale / allowed);
          bad += isnan(got);
        }
        if (!want_weights) {
          const double got = get(lse.data + ((b * heads + h) * queries + i) * real);
          if (seen <= 0) bad += got != -HUGE_VAL;
          else bad += !(fabs(got - top - log(total)) <= 2 * allowed + 4 * unit * fabs(got));
        }
      }
  CHECK(worst <= 1 && bad == 0,
        "attention: type %d batch %d heads %d/%d queries %d keys %d d %d dv %d causal %d "
        "weights %d: error %g, %d wrong",
        type, batch, heads, kv_heads, queries, keys, d, dv, call.causal, want_weights, worst, bad);
  free(p);
  guarded_give(&q), guarded_give(&k), guarded_give(&o);
  if (v.map) guarded_give(&v);
  if (lse.map) guarded_give(&lse);
}

int main(int argc, char **argv) {
  const int thorough = argc > 1 && !strcmp(argv[1], "thorough");
  const char *name;
  pa_threads_set(2);
  for (int i = 0; (name = pa_isa_runnable(i)); ++i) {
    pa_isa_select(name);
    for (int type = 0; type < 2; ++type) {
      real = type == PA_FLOAT32 ? 4 : 8;
      for (int d = 1; d <= 129; d += thorough || d < 34 ? 1 : 5)
        for (int weights = 0; weights < 2; ++weights) {
          test_call((pa_type)type, d, 1 + below(130), 1 + below(60), 1 + below(150), weights);
          test_call((pa_type)type, 1 + below(20), d, 1 + below(120), 1 + below(80), weights);
        }
      for (int n = 0; n < (thorough ? 20 : 4); ++n) /* several chunks, in waves and not */
        test_call((pa_type)type, 1 + below(9), 1 + below(9), 1 + below(n % 2 ? 4 : 900),
                  1 + below(4000), 0);
    }
    printf("%s done\n", name);
  }
  return check_report();
}
