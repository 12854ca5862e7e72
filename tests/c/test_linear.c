/* Linear layers: the kernels, and the calls made of them, on every table this machine can run,
 * against plain loops. Every operand is flush against an inaccessible page in front or behind. */
#include "activations.h"
#include "planes.h"

#if defined(__SANITIZE_THREAD__) || defined(CHECK_UNDER_QEMU) /* slow */
enum { ROUNDS = 1, CALLS = 16, ROWS_STEP = 5 };
#elif defined(__SANITIZE_ADDRESS__)
enum { ROUNDS = 1, CALLS = 60, ROWS_STEP = 1 };
#else
enum { ROUNDS = 3, CALLS = 120, ROWS_STEP = 1 };
#endif

enum { CHAIN = 512 }; /* the longest chain of products in a sum, see csrc/linear.c */

static void plane_fill(plane *p) {
  for (int64_t n = 0; n < numbers(&p->memory); ++n) put(number_at(&p->memory, n), 0, normal());
  array_keep(&p->memory);
}

/* What a result may be off by if its sum is off by `off`: want = activation(sum) * gate + residual.
 * No activation is steeper than 1.2. Without gate or residual these are 1 and 0. */
static double allowed_of(int activation, double sum, double off, double gate, double residual) {
  const double y = fabs((double)activated(activation, sum));
  const double size = fabs(gate) * (y * (activation_units(activation, sum) + 1) * unit +
                                    activation_rest(activation, sum) + 1.2 * off);
  return size + unit * (fabs(gate) * y + fabs(residual)) * 2 + 4 * real_tiny();
}

/* --- The kernel */

enum { MOST_ROWS = 80 };

/* The places of a plane's rows and columns; data NULL: there is none. */
typedef struct outlet {
  plane plane;
  guarded rows, cols;
  pa_outlet view;
} outlet;

static guarded places_take(const pa_axis *axis, int64_t count) {
  guarded g = guarded_take((size_t)count * sizeof(ptrdiff_t), below(2));
  for (int64_t i = 0; i < count; ++i) ((ptrdiff_t *)g.data)[i] = (ptrdiff_t)axis_at(axis, i);
  return g;
}

static outlet outlet_take(int rows, int count, int shared) {
  outlet o = {.plane = plane_take(rows, count, K->real_bytes, shared, below(2))};
  plane_fill(&o.plane);
  o.rows = places_take(&o.plane.view.row, rows), o.cols = places_take(&o.plane.view.col, count);
  o.view = (pa_outlet){o.plane.view.data, (ptrdiff_t *)o.rows.data, (ptrdiff_t *)o.cols.data, 0};
  for (int j = 0; (j + 1) * K->lanes <= count; ++j) {
    unsigned beside = 1;
    for (int c = j * K->lanes + 1; c < (j + 1) * K->lanes; ++c)
      beside &= o.view.cols[c] - o.view.cols[c - 1] == K->real_bytes;
    o.view.beside |= beside << j;
  }
  return o;
}

static void outlet_give(outlet *o) {
  array_give(&o->plane.memory), guarded_give(&o->rows), guarded_give(&o->cols);
}

static void operand_give(outlet *o) {
  CHECK(array_unchanged(&o->plane.memory), "an operand changed");
  outlet_give(o);
}

/* A matrix of contiguous rows, anyhow apart. */
static pa_matrix rows_take(guarded *g, int rows, ptrdiff_t cols) {
  const ptrdiff_t bytes = cols * K->real_bytes, steps[] = {bytes, bytes, bytes + 1 + below(40), 0};
  const ptrdiff_t step = (below(4) ? 1 : -1) * steps[below(4)];
  *g = guarded_take((size_t)(bytes + labs(step) * (rows - 1)), below(2));
  const pa_matrix m = {g->data + (step < 0 ? -step * (rows - 1) : 0), step, below(100)};
  for (int r = 0; r < rows; ++r) fill((char *)m.data + r * step, cols);
  return m;
}

/* Sums of one chain of products, which may go on. Each row has the bits that it has alone. */
static void test_sums(int rows, int steps, int width, int fresh) {
  const int lanes = width * K->lanes;
  guarded memory, panel = panel_take(steps, width), sums = panel_take(rows, width);
  guarded was = copy_take(&sums), again = copy_take(&sums);
  const pa_matrix x = rows_take(&memory, rows, steps);
  K->linear(&x, rows, steps, panel.data, width, fresh, sums.data, NULL);
  double worst = 0;
  for (int r = 0; r < rows; ++r) {
    const char *row = x.data + r * x.row;
    for (int l = 0; l < lanes; ++l) {
      const ptrdiff_t at = r * lanes + l;
      double sum = fresh ? 0 : get(was.data, at), size = fabs(sum);
      for (int k = 0; k < steps; ++k) {
        const double term = get(row, k) * get(panel.data, k * lanes + l);
        sum += term, size += fabs(term);
      }
      worst = fmax(worst, fabs(get(sums.data, at) - sum) / (unit * size * (steps + 2)));
    }
    const pa_matrix alone = {row, 0, 0};
    K->linear(&alone, 1, steps, panel.data, width, fresh,
              again.data + (size_t)(r * lanes) * real_bytes(), NULL);
  }
  CHECK(worst <= 1, "sums: rows %d steps %d width %d fresh %d: error %g", rows, steps, width, fresh,
        worst);
  CHECK(!memcmp(sums.data, again.data, sums.bytes),
        "rows %d steps %d width %d fresh %d: other bits than alone", rows, steps, width, fresh);
  guarded_give(&memory), guarded_give(&panel), guarded_give(&sums), guarded_give(&was);
  guarded_give(&again);
}

/* Sums that become results: these are made of the sums and rounded after each step. */
static void test_completion(int rows, int width, int activation) {
  const int lanes = width * K->lanes, count = below(3) ? lanes : 1 + below(lanes);
  const int steps = 1 + below(9), how = below(5), fresh = below(2);
  guarded memory, panel = panel_take(steps, width), sums = panel_take(rows, width);
  guarded bias = panel_take(1, width);
  const pa_matrix x = rows_take(&memory, rows, steps);
  outlet out = outlet_take(rows, count, 0), gate, residual;
  const int has_gate = how & 1, has_residual = how >> 1 & 1, in_place = below(3);
  if (has_gate) gate = in_place & 1 ? out : outlet_take(rows, count, SHARED_ALL);
  if (has_residual) residual = in_place & 2 ? out : outlet_take(rows, count, SHARED_ALL);
  pa_completion completion = {
      .activation = activation, .count = count, .bias = bias.data, .out = out.view};
  if (has_gate) completion.gate = gate.view;
  if (has_residual) completion.residual = residual.view;
  K->linear(&x, rows, steps, panel.data, width, fresh, sums.data, &completion);
  int bad = 0;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < count; ++c) {
      const double y = rounded(get(sums.data, r * lanes + c) + get(bias.data, c));
      const pa_plane g = plane_before(has_gate ? &gate.plane : &out.plane);
      const pa_plane more = plane_before(has_residual ? &residual.plane : &out.plane);
      const double by = has_gate ? get(plane_at(&g, r, c), 0) : 1;
      const double plus = has_residual ? get(plane_at(&more, r, c), 0) : 0;
      const double got = get(plane_at(&out.plane.view, r, c), 0);
      if (activation == PA_IDENTITY || activation == PA_RELU) {
        double want = activation == PA_RELU && y < 0 ? 0 : y;
        if (has_gate) want = rounded(want * by);
        if (has_residual) want = rounded(want + plus);
        bad += !same(got, want);
      } else {
        const double want = (double)(activated(activation, y) * by + plus);
        bad += !(fabs(got - want) <= allowed_of(activation, y, 0, by, plus));
      }
    }
  CHECK(bad == 0,
        "completion: activation %d rows %d width %d count %d gate %d residual %d in place %d "
        "beside %u: %d wrong",
        activation, rows, width, count, has_gate, has_residual, in_place, out.view.beside, bad);
  CHECK(array_only_numbers(&out.plane.memory, K->real_bytes), "written beside the results");
  if (has_gate && !(in_place & 1)) operand_give(&gate);
  if (has_residual && !(in_place & 2)) operand_give(&residual);
  outlet_give(&out), guarded_give(&memory), guarded_give(&panel), guarded_give(&sums);
  guarded_give(&bias);
}

/* A NaN, or what becomes one, stays in its row or its lane. */
static void test_nan_stays(int rows, int width) {
  enum { steps = 5 };
  const int lanes = width * K->lanes, row = below(rows), lane = below(lanes), in_x = below(2);
  guarded memory = guarded_take((size_t)(rows * steps) * real_bytes(), below(2));
  guarded panel = panel_take(steps, width), sums = panel_take(rows, width);
  guarded want = copy_take(&sums);
  const pa_matrix x = {memory.data, steps * K->real_bytes, 0};
  fill(memory.data, rows * steps);
  K->linear(&x, rows, steps, panel.data, width, 1, want.data, NULL);
  if (in_x) put(memory.data, row * steps + below(steps), NAN);
  else put(panel.data, below(steps) * lanes + lane, NAN);
  K->linear(&x, rows, steps, panel.data, width, 1, sums.data, NULL);
  int bad = 0;
  for (int r = 0; r < rows; ++r)
    for (int l = 0; l < lanes; ++l) {
      const ptrdiff_t at = r * lanes + l;
      if (in_x ? r == row : l == lane) bad += !isnan(get(sums.data, at));
      else bad += !same(get(sums.data, at), get(want.data, at));
    }
  CHECK(bad == 0, "NaN in %s: rows %d width %d: %d wrong", in_x ? "x" : "panel", rows, width, bad);
  guarded_give(&memory), guarded_give(&panel), guarded_give(&sums), guarded_give(&want);
}

static void test_kernels(void) {
  for (int width = 1; width <= K->max_width; ++width) {
    for (int rows = 1; rows <= MOST_ROWS; rows += rows < 34 ? ROWS_STEP : 1 + below(30)) {
      for (int i = 0; i < ROUNDS; ++i) {
        test_sums(rows, 1 + below(below(8) ? 30 : 600), width, i % 2);
        test_nan_stays(rows, width);
      }
      for (int i = 0; i < ROUNDS; ++i)
        for (int activation = 0; activation < ACTIVATIONS; ++activation)
          test_completion(rows, width, activation);
    }
  }
}

/* --- Halves to numbers, and back */

static void test_halves(pa_element e) {
  enum { count = 65536, bytes = 2 };
  guarded halves = guarded_take(count * bytes, below(2));
  guarded wide = guarded_take(count * real_bytes(), below(2));
  for (int i = 0; i < count; ++i) memcpy(halves.data + i * bytes, &(uint16_t){(uint16_t)i}, bytes);
  K->widen[e](wide.data, halves.data, count);
  int bad = 0;
  for (int i = 0; i < count; ++i)
    bad += !same(get(wide.data, i), element_at(e, halves.data + i * bytes));
  CHECK(bad == 0, "widen: element %d: %d of 65536 wrong", e, bad);

  /* floats, of which those half way between two halves go to the even one */
  const int finite = e == PA_ELEMENT_FLOAT16 ? 0x7C00 : 0x7F80;
  for (int i = bad = 0; i < finite; i += count / NEAR_HALF) {
    static float x[count];
    for (int k = 0; k < count / NEAR_HALF; ++k)
      near_half(e, (uint16_t)(i + k < finite ? i + k : 0), x + NEAR_HALF * k);
    const float odd[] = {NAN, HUGE_VALF, -HUGE_VALF, 0, -0.0F, FLT_MAX, -FLT_MAX, 0x1p-149F};
    memcpy(x + below(count - 8), odd, sizeof odd);
    for (int k = 0; k < count; ++k) put(wide.data, k, (double)x[k]);
    K->narrow[e](halves.data, wide.data, count);
    for (int k = 0; k < count; ++k)
      bad += !same(element_at(e, halves.data + k * bytes), element_rounded(e, (double)x[k]));
  }
  CHECK(bad == 0, "narrow: element %d: %d wrong", e, bad);
  guarded_give(&halves), guarded_give(&wide);

  /* no more than is asked for */
  for (int vectors = 1; vectors < 9; ++vectors) {
    const int some = vectors * K->lanes;
    guarded from = guarded_take((size_t)(some * bytes), below(2)), back = copy_take(&from);
    guarded to = guarded_take((size_t)some * real_bytes(), below(2));
    for (int i = 0; i < some; ++i) element_put(e, from.data + i * bytes, normal());
    K->widen[e](to.data, from.data, some);
    K->narrow[e](back.data, to.data, some);
    CHECK(!memcmp(from.data, back.data, from.bytes), "there and back: element %d", e);
    guarded_give(&from), guarded_give(&back), guarded_give(&to);
  }
}

/* --- Packed weights */

/* A layer: its weights in an array of any element, and packed; `numbers` as they are stored. */
typedef struct weights {
  pa_packing packing;
  plane memory;
  guarded bias, packed;
  double *numbers;
} weights;

static int64_t any_extent(int most) {
  const int edges[] = {1, 2, K->lanes - 1, K->lanes, K->lanes + 1, 3 * K->lanes, 3 * K->lanes + 1};
  return below(2) ? 1 + below(most) : edges[below(7)] > 0 ? edges[below(7)] : 1;
}

static weights weights_take(pa_type type, int64_t inputs, int64_t outputs) {
  weights w = {.packing = {.type = type, .inputs = inputs, .outputs = outputs}};
  pa_packing *p = &w.packing;
  p->element = (pa_element)below(4);
  p->stored = type == PA_FLOAT32 ? PA_ELEMENT_FLOAT32 : PA_ELEMENT_FLOAT64;
  if (type == PA_FLOAT32 && below(2)) p->stored = (pa_element)below(2);
  const int64_t extent[] = {outputs, inputs};
  w.memory.memory = array_take(2, extent, element_bytes[p->element], below(8) ? 0 : 3, ANY_LAYOUT);
  const array *a = &w.memory.memory;
  p->weight = a->data, p->weight_row = a->stride[0], p->weight_col = a->stride[1];
  for (int64_t n = 0; n < inputs * outputs; ++n)
    element_put(p->element, number_at(a, n), normal() / sqrt((double)inputs));
  array_keep(&w.memory.memory);
  w.bias = guarded_take((size_t)outputs * real_bytes(), below(2));
  fill(w.bias.data, outputs);
  if (below(4)) p->bias = w.bias.data;
  else memset(w.bias.data, 0, w.bias.bytes);
  w.numbers = malloc((size_t)(inputs * outputs) * sizeof *w.numbers);
  for (int64_t n = 0; n < inputs * outputs; ++n)
    w.numbers[n] = element_rounded(p->stored, rounded(element_at(p->element, number_at(a, n))));
  w.packed = guarded_take(pa_linear_bytes(p), below(2));
  pa_threads_set(1 + below(3));
  CHECK(pa_linear_pack(p, w.packed.data, w.packed.bytes + 64) == PA_FOREIGN &&
            guarded_untouched(w.packed.data, w.packed.data + w.packed.bytes),
        "packed in another size");
  CHECK(pa_linear_pack(p, w.packed.data, w.packed.bytes) == PA_OK, "pack");
  CHECK(array_unchanged(&w.memory.memory), "weights changed");
  return w;
}

static void weights_give(weights *w) {
  array_give(&w->memory.memory), guarded_give(&w->bias), guarded_give(&w->packed);
  free(w->numbers);
}

/* What `packed` says it holds, and that it does. */
static void check_packed(const weights *w, const char *packed, int foreign) {
  const pa_packing *p = &w->packing;
  pa_packing found;
  CHECK(pa_linear_inspect(packed, w->packed.bytes, &found) == foreign, "inspect");
  CHECK(found.type == p->type && found.stored == p->stored && found.inputs == p->inputs &&
            found.outputs == p->outputs,
        "inspect: other shape");
  const int64_t count = p->inputs * p->outputs;
  const int bytes = element_bytes[p->stored];
  guarded weight = guarded_take((size_t)(count * bytes), below(2));
  guarded bias = guarded_take(w->bias.bytes, below(2));
  pa_linear_unpack(packed, weight.data, bias.data);
  int bad = 0;
  for (int64_t n = 0; n < count; ++n)
    bad += !same(element_at(p->stored, weight.data + n * bytes), w->numbers[n]);
  CHECK(bad == 0 && !memcmp(bias.data, w->bias.data, bias.bytes),
        "unpack: inputs %d outputs %d element %d stored %d: %d wrong", (int)p->inputs,
        (int)p->outputs, p->element, p->stored, bad);
  guarded_give(&weight), guarded_give(&bias);
}

/* Bytes that are not what was packed: refused, or read without harm. */
static void check_damaged(const weights *w) {
  enum { header = 48 };
  pa_packing found;
  for (size_t bytes = 0; bytes < w->packed.bytes; bytes += bytes < 100 ? 1 : 1 + bytes / 4) {
    guarded less = guarded_take(bytes, 0);
    memcpy(less.data, w->packed.data, bytes);
    CHECK(pa_linear_inspect(less.data, bytes, &found) == -1, "%zu of %zu bytes", bytes,
          w->packed.bytes);
    guarded_give(&less);
  }
  for (int i = 0; i < 200; ++i) {
    const int64_t odd[] = {0, -1, 1, 2, 3, 1 << 16, INT32_MAX, INT64_MAX, INT64_MIN};
    const int at = below(header / 4) * 4, wide = at % 8 == 0 && at >= 24;
    const int64_t number = odd[below(9)];
    guarded damaged = copy_take(&w->packed);
    memcpy(damaged.data + at, &number, wide ? sizeof number : sizeof number / 2);
    const int whole = !memcmp(damaged.data, w->packed.data, header);
    const int is = pa_linear_inspect(damaged.data, damaged.bytes, &found);
    CHECK(is == -1 || whole || (at && at < 40), "byte %d is %lld", at, (long long)number);
    if (is >= 0) {
      const size_t count = (size_t)(found.inputs * found.outputs);
      char *weight = malloc(count * 8), *bias = malloc((size_t)found.outputs * 8);
      pa_linear_unpack(damaged.data, weight, bias);
      free(weight), free(bias);
    }
    guarded_give(&damaged);
  }
}

static void test_packing(pa_type type) {
  static int number;
  weights w = weights_take(type, any_extent(700), any_extent(90));
  check_packed(&w, w.packed.data, 0);
  if (++number % 8 == 0) check_damaged(&w);
  const char *isa = pa_isa_name(), *name;
  for (int i = 0; (name = pa_isa_runnable(i)); ++i) { /* others can read it */
    pa_isa_select(name);
    check_packed(&w, w.packed.data, pa_dispatch(type)->lanes != K->lanes);
  }
  pa_isa_select(isa);
  weights_give(&w);
}

/* Sizes that no machine has. */
static void test_absurd_sizes(pa_type type) {
  pa_packing p = {.type = type, .stored = PA_ELEMENT_FLOAT64};
  if (type == PA_FLOAT32) p.stored = PA_ELEMENT_FLOAT32;
  const int64_t sizes[] = {INT64_MAX, INT64_MAX / 2, INT64_C(1) << 60, INT64_C(1) << 40};
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 4; ++k) {
      p.inputs = sizes[i], p.outputs = sizes[k];
      CHECK(pa_linear_bytes(&p) == 0, "%lld x %lld", (long long)p.inputs, (long long)p.outputs);
    }
  p.inputs = 1, p.outputs = INT64_C(1) << 40;
  const size_t bytes = pa_linear_bytes(&p);
  CHECK(bytes >= (size_t)p.outputs * 2 * real_bytes(), "%zu", bytes);
}

/* --- The driver */

typedef struct layer {
  weights weights;
  plane out, gate, residual;
  int has_gate, has_residual, in_place; /* in place of the gate: 1, the residual: 2 */
} layer;

static int never(void) { return 0; }

static void layer_take(layer *l, pa_linear_call *c) {
  const int64_t outputs = any_extent(c->layer_count > 3 ? 30 : 150);
  pa_layer *to = &c->layers[c->layer_count++];
  *l = (layer){.weights = weights_take(c->type, c->inputs, outputs)};
  l->has_gate = below(3) == 0, l->has_residual = below(3) == 0;
  l->in_place = (l->has_gate ? below(2) : 0) + (l->has_residual ? 2 * below(2) : 0);
  l->out = plane_take(c->rows, outputs, K->real_bytes, 0, below(2) ? ANY_LAYOUT : WHOLE);
  plane_fill(&l->out);
  l->gate = l->residual = l->out;
  if (!(l->in_place & 1))
    l->gate = plane_take(c->rows, outputs, K->real_bytes, SHARED_ALL, ANY_LAYOUT),
    plane_fill(&l->gate);
  if (!(l->in_place & 2))
    l->residual = plane_take(c->rows, outputs, K->real_bytes, SHARED_ALL, ANY_LAYOUT),
    plane_fill(&l->residual);
  memset(to, 0, sizeof *to);
  to->packed = l->weights.packed.data, to->activation = (pa_activation)below(ACTIVATIONS);
  to->out = l->out.view;
  if (l->has_gate) to->gate = l->gate.view;
  if (l->has_residual) to->residual = l->residual.view;
}

static void layer_give(layer *l) {
  CHECK(array_only_numbers(&l->out.memory, K->real_bytes), "written beside the results");
  plane *operands[] = {l->in_place & 1 ? NULL : &l->gate, l->in_place & 2 ? NULL : &l->residual};
  for (int i = 0; i < 2; ++i)
    if (operands[i]) {
      CHECK(array_unchanged(&operands[i]->memory), "an operand changed");
      array_give(&operands[i]->memory);
    }
  array_give(&l->out.memory), weights_give(&l->weights);
}

static int64_t wrong_results(const pa_linear_call *c, int number, const layer *l) {
  const pa_layer *given = &c->layers[number];
  const pa_plane gate = plane_before(&l->gate), residual = plane_before(&l->residual);
  const double *w = l->weights.numbers;
  const double terms = (double)(c->inputs < CHAIN ? c->inputs : CHAIN + c->inputs / CHAIN) + 3;
  int64_t wrong = 0;
  for (int64_t n = 0; n < l->weights.packing.outputs; ++n, w += c->inputs)
    for (int64_t r = 0; r < c->rows; ++r) {
      double sum = get(l->weights.bias.data, n), size = fabs(sum);
      for (int64_t k = 0; k < c->inputs; ++k) {
        const double term = get(plane_at(&c->x, r, k), 0) * w[k];
        sum += term, size += fabs(term);
      }
      const double by = l->has_gate ? get(plane_at(&gate, r, n), 0) : 1;
      const double plus = l->has_residual ? get(plane_at(&residual, r, n), 0) : 0;
      const double want = (double)activated(given->activation, sum) * by + plus;
      const double allowed = allowed_of(given->activation, sum, unit * size * terms, by, plus);
      wrong += !(fabs(get(plane_at(&given->out, r, n), 0) - want) <= 2 * allowed);
    }
  return wrong;
}

/* Weights packed for another instruction set, of all layers or of one: nothing is written. */
static void check_foreign(pa_linear_call *c, layer *layers) {
  const char *isa = pa_isa_name(), *name;
  const int last = c->layer_count - 1;
  for (int i = 0; (name = pa_isa_runnable(i)); ++i) {
    pa_isa_select(name);
    if (pa_dispatch(c->type)->lanes == K->lanes) continue;
    const pa_packing *p = &layers[last].weights.packing;
    guarded other = guarded_take(pa_linear_bytes(p), below(2));
    CHECK(pa_linear_pack(p, other.data, other.bytes) == PA_OK, "pack");
    const pa_status all = pa_linear(c);
    pa_isa_select(isa);
    c->layers[last].packed = other.data;
    const pa_status one = pa_linear(c);
    c->layers[last].packed = layers[last].weights.packed.data;
    CHECK(all == PA_FOREIGN && one == PA_FOREIGN, "%s on %s: %d, %d", isa, name, all, one);
    for (int n = 0; n < c->layer_count; ++n)
      CHECK(array_unchanged(&layers[n].out.memory), "written for %s on %s", isa, name);
    guarded_give(&other);
  }
  pa_isa_select(isa);
}

/* Once more, in another way: the same bits. */
static void check_again(pa_linear_call *c, layer *layers, const char *what, int number) {
  char *first[PA_MAX_LAYERS];
  for (int i = 0; i < c->layer_count; ++i) {
    array *out = &layers[i].out.memory;
    first[i] = malloc(out->memory.bytes);
    memcpy(first[i], out->memory.data, out->memory.bytes);
    array_restore(out);
  }
  CHECK(pa_linear(c) == PA_OK, "status");
  for (int i = 0; i < c->layer_count; ++i) {
    const guarded *out = &layers[i].out.memory.memory;
    CHECK(!memcmp(first[i], out->data, out->bytes), "call %d, layer %d: other bits %s", number, i,
          what);
    free(first[i]);
  }
}

/* Every row by itself, and every layer; the rows of x contiguous. */
static void check_alone(const pa_linear_call *c, layer *layers, int number) {
  static pa_linear_call one;
  guarded row = guarded_take((size_t)c->inputs * real_bytes(), below(2));
  int bad = 0;
  for (int i = 0; i < c->layer_count; ++i) {
    const layer *l = &layers[i];
    const int64_t outputs = l->weights.packing.outputs, step = c->rows > 20 ? 1 + below(20) : 1;
    guarded out = guarded_take((size_t)outputs * real_bytes(), below(2));
    one = *c, one.layer_count = 1, one.layers[0] = c->layers[i], one.rows = 1;
    one.x.data = row.data, one.x.col = (pa_axis){INT64_MAX, 0, K->real_bytes};
    one.layers[0].out = one.x, one.layers[0].out.data = out.data;
    for (int64_t r = 0; r < c->rows; r += step) {
      for (int64_t k = 0; k < c->inputs; ++k) put(row.data, k, get(plane_at(&c->x, r, k), 0));
      pa_plane gate = plane_before(&l->gate), residual = plane_before(&l->residual);
      gate.data += axis_at(&gate.row, r), residual.data += axis_at(&residual.row, r);
      if (l->has_gate) one.layers[0].gate = gate;
      if (l->has_residual) one.layers[0].residual = residual;
      CHECK(pa_linear(&one) == PA_OK, "status");
      for (int64_t n = 0; n < outputs; ++n)
        bad += !same(get(out.data, n), get(plane_at(&c->layers[i].out, r, n), 0));
    }
    guarded_give(&out);
  }
  CHECK(bad == 0, "call %d: %d numbers are others when their row is alone", number, bad);
  guarded_give(&row);
}

static void test_call(pa_type type, int64_t rows, int64_t inputs, int layer_count) {
  static int number;
  static pa_linear_call c; /* large for a stack */
  layer layers[PA_MAX_LAYERS];
  memset(&c, 0, sizeof c);
  c.type = type, c.rows = rows, c.inputs = inputs;
  c.poll = below(2) ? never : NULL;
  plane x = plane_take(rows, inputs, K->real_bytes, SHARED_ROWS, below(2) ? ANY_LAYOUT : WHOLE);
  plane_fill(&x);
  c.x = x.view;
  ++number;
  while (c.layer_count < layer_count) layer_take(&layers[c.layer_count], &c);
  check_foreign(&c, layers);
  pa_threads_set(1);
  CHECK(pa_linear(&c) == PA_OK, "status");
  for (int i = 0; i < layer_count; ++i) {
    const int64_t wrong = wrong_results(&c, i, &layers[i]);
    const pa_packing *p = &layers[i].weights.packing;
    CHECK(wrong == 0,
          "call %d: %s type %d rows %d inputs %d outputs %d (layer %d of %d) stored %d activation "
          "%d gate %d residual %d in place %d: %d wrong",
          number, pa_isa_name(), type, (int)rows, (int)inputs, (int)p->outputs, i, layer_count,
          p->stored, c.layers[i].activation, layers[i].has_gate, layers[i].has_residual,
          layers[i].in_place, (int)wrong);
  }
  const int threads[] = {2, 3, 7};
  for (int i = 0; i < 3; ++i)
    pa_threads_set(threads[i]), check_again(&c, layers, "on more threads", number);
  if (!THREADS_ONLY) check_alone(&c, layers, number);
  CHECK(array_unchanged(&x.memory), "x changed");
  for (int i = 0; i < layer_count; ++i) layer_give(&layers[i]);
  array_give(&x.memory);
}

static void test_calls(pa_type type) {
  for (int i = 0; i < CALLS; ++i) {
    const int many = i % 10 == 0, far = i % 7 == 0;
    test_call(type, many ? 100 + below(250) : 1 + below(20), far ? 500 + below(800) : 1 + below(40),
              i % 30 == 1 ? PA_MAX_LAYERS : 1 + below(3));
  }
}

/* --- Interruption */

static int polls;
static int at_once(void) { return ++polls; }

/* As many rows as it takes to be asked. Each number is new, or as it was; in place nobody asks, not
 * even at twice the rows. */
static void test_interrupted(int threads, int in_place) {
  static pa_linear_call c;
  enum { size = 64 };
  float weight[size][size] = {{0}}, row[size];
  for (int i = 0; i < size; ++i) weight[i][i] = 1, row[i] = 1;
  const pa_packing packing = {.type = PA_FLOAT32,
                              .stored = PA_ELEMENT_FLOAT32,
                              .inputs = size,
                              .outputs = size,
                              .element = PA_ELEMENT_FLOAT32,
                              .weight = (const char *)weight,
                              .weight_row = sizeof weight[0],
                              .weight_col = sizeof weight[0][0]};
  char *packed = aligned_alloc(64, pa_linear_bytes(&packing));
  CHECK(pa_linear_pack(&packing, packed, pa_linear_bytes(&packing)) == PA_OK, "pack");
  polls = 0;
  pa_threads_set(threads);
  static int64_t asked; /* rows of the call before, which was not in place */
  const int64_t first = in_place ? 2 * asked : 1 << 12, last = in_place ? first : 1 << 18;
  for (int64_t rows = first; rows <= last && polls == 0; rows *= 2) {
    const size_t bytes = (size_t)rows * sizeof row;
    guarded out = guarded_take(bytes, 0);
    memset(out.data, 0, bytes);
    memset(&c, 0, sizeof c);
    c.type = PA_FLOAT32, c.rows = rows, c.inputs = size, c.layer_count = 1, c.poll = at_once;
    c.x = (pa_plane){(char *)row, {rows, 0, 0}, {size, 0, sizeof row[0]}};
    c.layers[0] = (pa_layer){.packed = packed};
    c.layers[0].out = (pa_plane){out.data, {rows, 0, sizeof row}, c.x.col};
    if (in_place) c.layers[0].residual = c.layers[0].out;
    const pa_status status = pa_linear(&c);
    CHECK((status == PA_INTERRUPTED) == (polls > 0), "status %d after %d polls", status, polls);
    asked = rows;
    const float *y = (float *)(void *)out.data;
    int64_t done = 0, other = 0;
    for (int64_t n = 0; n < rows * size; ++n) done += y[n] == 1, other += y[n] != 1 && y[n] != 0;
    CHECK(other == 0 && (done == rows * size) <= (status == PA_OK || threads > 1),
          "%lld numbers done, %lld wrong", (long long)done, (long long)other);
    CHECK(!in_place || done == rows * size, "left half done");
    guarded_give(&out);
  }
  CHECK((polls > 0) == !in_place, "asked %d times", polls);
  free(packed);
}

static void test_table(void) {
  const pa_type type = K->real_bytes == 4 ? PA_FLOAT32 : PA_FLOAT64;
  test_calls(type);
  if (THREADS_ONLY) return;
  test_kernels();
  test_halves(PA_ELEMENT_FLOAT16), test_halves(PA_ELEMENT_BFLOAT16);
  for (int i = 0; i < CALLS; ++i) test_packing(type);
  test_absurd_sizes(type);
}

int main(void) {
  for_each_table(test_table);
  for (int threads = 1; threads <= 3; ++threads)
    for (int in_place = 0; in_place < 2; ++in_place) test_interrupted(threads, in_place);
  return check_report();
}
