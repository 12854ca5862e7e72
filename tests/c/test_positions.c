/* Positions: the kernels that rotate rows and add to them, and the calls made of them, on every
 * table this machine can run, against plain loops; and the kernel that copies past the caches.
 * Every operand is flush against an inaccessible page in front or behind. */
#include "arrays.h"
#include "elements.h"

#if defined(__SANITIZE_THREAD__) || defined(CHECK_UNDER_QEMU) /* slow */
enum { PAIRS_STEP = 12, CALLS = 12, LARGE_ROUNDS = 1 };
#else
enum { PAIRS_STEP = 3, CALLS = 40, LARGE_ROUNDS = 3 };
#endif

enum { MOST_PAIRS = 140, LARGE_BYTES = 16 << 20 };

enum { ROTATE, ROTATE_INTERLEAVED, SHIFT };

/* --- Numbers */

/* Of any size a type has; among them sums that need rounding, ties, denormals, infinities, NaN. */
static double any_number(pa_element e) {
  const double least[] = {0x1p-24, 0x1p-133, 0x1p-149, 0x1p-1074};
  const double most[] = {65504, 0x1.FEp127, (double)FLT_MAX, DBL_MAX};
  const double odd[] = {0, -0.0, HUGE_VAL, -HUGE_VAL, NAN, most[e], -most[e], least[e]};
  const int how = below(60);
  if (how < 8) return odd[how];
  if (how < 12) return least[e] * (below(200) - 100);
  if (how < 14) return (below(2) ? 1 : -1) * most[e] * (1 - uniform() / 2);
  return how < 40 ? normal() : normal() * ldexp(1, below(24) - 12);
}

static int same_element(pa_element e, const char *a, const char *b) {
  return same(element_at(e, a), element_at(e, b));
}

/* --- A call, of a kernel or of the driver: x and out (batch..., heads, rows, cols), index
 * (batch..., rows). That of a kernel has one head and no batch axes. */

typedef struct call {
  pa_element element;
  int what, in_place, batch_axes;
  int64_t batch[3], heads, rows, cols, pairs;
  array x, out, index, table;
} call;

static int angle_bytes(const call *c) { return is_half(c->element) ? 4 : 8; }

/* One that can be seen to be of the right pair; sometimes such that only some of the sum is left.
 */
static double any_angle(void) {
  const double odd[] = {0, 1, -1, -0.0, 1e-30, 0.5};
  return below(8) ? 2 * uniform() - 1 : odd[below(6)];
}

static void call_take(call *c, layout how, int shared) {
  int64_t extent[MAX_AXES], places[MAX_AXES];
  const int bytes = element_bytes[c->element], axes = c->batch_axes + 3;
  memcpy(extent, c->batch, sizeof c->batch), memcpy(places, c->batch, sizeof c->batch);
  extent[axes - 3] = c->heads, extent[axes - 2] = c->rows, extent[axes - 1] = c->cols;
  places[axes - 3] = c->rows;
  const layout x_layout = how == LINED_UP && !c->in_place ? WHOLE : how;
  c->x = array_take(axes, extent, bytes, c->in_place ? 0 : shared, x_layout);
  for (int64_t n = 0; n < numbers(&c->x); ++n)
    element_put(c->element, number_at(&c->x, n), any_number(c->element));
  if (!c->in_place) c->out = array_take(axes, extent, bytes, 0, how);
  const int64_t entries = 1 + below(6);
  if (c->what == SHIFT) {
    c->table = array_take(2, (int64_t[]){entries, c->cols}, bytes, shared,
                          below(2) || how != ANY_LAYOUT ? WHOLE : ANY_LAYOUT);
    for (int64_t n = 0; n < numbers(&c->table); ++n)
      element_put(c->element, number_at(&c->table, n), any_number(c->element));
  } else {
    c->table = array_take(2, (int64_t[]){entries, 2 * c->pairs}, angle_bytes(c), shared & 1, WHOLE);
    for (int64_t n = 0; n < numbers(&c->table); ++n) put(number_at(&c->table, n), 0, any_angle());
  }
  c->index = array_take(axes - 2, places, sizeof(int64_t), shared, ANY_LAYOUT);
  for (int64_t n = 0; n < numbers(&c->index); ++n) {
    const int64_t entry = below((int)entries);
    memcpy(number_at(&c->index, n), &entry, sizeof entry);
  }
  array_keep(&c->x), array_keep(&c->index), array_keep(&c->table);
  if (!c->in_place) array_keep(&c->out);
}

static array *result(call *c) { return c->in_place ? &c->x : &c->out; }

/* Column k of a rotated row of numbers x. Products and their sum are rounded to the table's type
 * (with a fused multiply-add one product is not), so that
 *
 *   |computed - exact| <= unit * (|a c| + |b s| + |exact|) * (1 + small),
 *
 * and what is computed is rounded to the element's type. Rounding is monotonous: the result lies
 * between both ends of this interval, rounded. For float, computed in double, that is 0.51 of its
 * last place where the products do not cancel: 1/2, and 2**-29 for each time that they are larger
 * than the result. Plain loops in double are off by as much themselves. */
static int rotated_well(const call *c, const double *x, const char *angles, int64_t k, double got) {
  if (k >= 2 * c->pairs) return same(got, x[k]);
  const int interleaved = c->what == ROTATE_INTERLEAVED;
  const int64_t i = interleaved ? k / 2 : k % c->pairs;
  const int second = interleaved ? (k & 1) != 0 : k >= c->pairs;
  const double a = x[interleaved ? 2 * i : i], b = x[interleaved ? 2 * i + 1 : c->pairs + i];
  const double cosine = get(angles, i), sine = get(angles, c->pairs + i);
  const loose one = (loose)a * (second ? sine : cosine), two = (loose)b * (second ? cosine : -sine);
  const loose want = one + two;
  if (!isfinite(want)) return isnan(want) ? isnan(got) : got == want;
  const loose size = fabsl(one) + fabsl(two) + fabsl(want);
  const loose off =
      (sizeof(loose) == sizeof(double) ? 2 : 1) * 1.01 * unit * size + 4 * real_tiny();
  return element_rounded(c->element, want - off) <= got &&
         got <= element_rounded(c->element, want + off);
}

/* Halves: the sum is rounded to float, and then again. Sums of two floats or doubles, in double and
 * rounded once more, are rounded like those of exact arithmetic. */
static int shifted_well(const call *c, double x, double more, double got) {
  const double sum = is_half(c->element) ? (double)((float)x + (float)more) : x + more;
  return same(got, element_rounded(c->element, sum));
}

static int64_t wrong_numbers(call *c) {
  const array before = array_before(&c->x), *out = result(c);
  double x[2 * MOST_PAIRS + 300];
  int64_t wrong = 0, entry;
  for (int64_t r = 0; r < numbers(&c->x) / c->cols; ++r) {
    const int64_t place = r / c->heads / c->rows * c->rows + r % c->rows;
    memcpy(&entry, number_at(&c->index, place), sizeof entry);
    const char *more = c->table.data + entry * c->table.stride[0];
    const char *from = number_at(&before, r * c->cols), *to = number_at(out, r * c->cols);
    const ptrdiff_t step = before.stride[before.axes - 1], to_step = out->stride[out->axes - 1];
    for (int64_t k = 0; k < c->cols; ++k) x[k] = element_at(c->element, from + k * step);
    for (int64_t k = 0; k < c->cols; ++k) {
      const double got = element_at(c->element, to + k * to_step);
      const int well =
          c->what == SHIFT
              ? shifted_well(c, x[k], element_at(c->element, more + k * c->table.stride[1]), got)
              : rotated_well(c, x, more, k, got);
      wrong += !well;
    }
  }
  return wrong;
}

/* After the result was checked: gives everything back. */
static void call_give(call *c, int number) {
  const int only = array_only_numbers(result(c), element_bytes[c->element]);
  CHECK(only, "call %d: written beside the numbers of the result", number);
  CHECK(array_unchanged(&c->index) && array_unchanged(&c->table) && array_unchanged(&c->x),
        "call %d: an operand changed", number);
  if (!c->in_place) array_give(&c->out);
  array_give(&c->x), array_give(&c->index), array_give(&c->table);
}

/* --- Kernels */

static void run_kernel(const call *c, const pa_table_rows *rows) {
  if (c->what == SHIFT) K->shift[c->element](rows);
  else K->rotate[c->element](rows, c->pairs, c->what == ROTATE_INTERLEAVED);
}

/* The same rows beside each other: the same bits. */
static int64_t differs_when_contiguous(call *c, const pa_table_rows *rows) {
  const int bytes = element_bytes[c->element], sums = c->what == SHIFT;
  const array before = array_before(&c->x);
  const size_t size = (size_t)(c->rows * c->cols * bytes);
  char *from = malloc(size), *to = malloc(size);
  char *table = malloc((size_t)(c->table.extent[0] * c->cols * bytes));
  for (int64_t n = 0; n < c->rows * c->cols; ++n)
    memcpy(from + n * bytes, number_at(&before, n), (size_t)bytes);
  for (int64_t n = 0; sums && n < numbers(&c->table); ++n)
    memcpy(table + n * bytes, number_at(&c->table, n), (size_t)bytes);
  pa_table_rows beside = *rows;
  beside.from = from, beside.to = to, beside.next = from, beside.stream = 0;
  beside.from_step = beside.to_step = c->cols * bytes, beside.from_col = beside.to_col = bytes;
  if (sums) beside.table = table, beside.table_row = c->cols * bytes, beside.table_col = bytes;
  run_kernel(c, &beside);
  int64_t different = 0;
  for (int64_t n = 0; n < c->rows * c->cols; ++n)
    different += !same_element(c->element, to + n * bytes, number_at(result(c), n));
  free(from), free(to), free(table);
  return different;
}

static void test_kernel(pa_element element, int what, int64_t pairs, int64_t cols, layout how,
                        int stream) {
  static int number;
  call c = {.element = element, .what = what, .in_place = below(3) == 0, .heads = 1};
  c.rows = 1 + below(below(8) ? 4 : 30), c.cols = cols, c.pairs = pairs;
  ++number;
  call_take(&c, how, 3);
  const array *x = &c.x, *out = result(&c);
  const char *hints[] = {NULL, (const char *)1, x->memory.map, x->data, (const char *)UINTPTR_MAX};
  const pa_table_rows rows = {
      .from = x->data,
      .to = out->data,
      .from_step = x->stride[1],
      .from_col = x->stride[2],
      .to_step = out->stride[1],
      .to_col = out->stride[2],
      .count = c.rows,
      .cols = cols,
      .index = c.index.data,
      .index_step = c.index.stride[0],
      .table = c.table.data,
      .table_row = c.table.stride[0],
      .table_col = what == SHIFT ? c.table.stride[1] : below(100), /* nobody looks at */
      .next = hints[below(5)],
      .stream = stream,
  };
  run_kernel(&c, &rows);
  K->settle();
  const int64_t wrong = wrong_numbers(&c), different = differs_when_contiguous(&c, &rows);
  CHECK(wrong == 0 && different == 0,
        "call %d: %s element %d what %d pairs %d cols %d rows %d steps %d %d to %d %d in place %d "
        "stream %d: %d wrong, %d not as when contiguous",
        number, K->isa, element, what, (int)pairs, (int)cols, (int)c.rows, (int)rows.from_step,
        (int)rows.from_col, (int)rows.to_step, (int)rows.to_col, c.in_place, stream, (int)wrong,
        (int)different);
  call_give(&c, number);
}

static void test_kernels(pa_element e) {
  for (int pairs = 0; pairs <= MOST_PAIRS; pairs += pairs < 34 ? 1 : 1 + below(PAIRS_STEP))
    for (int how = ANY_LAYOUT; how <= LINED_UP; ++how)
      for (int what = ROTATE; what <= SHIFT; ++what) {
        const int rest = below(2) ? 0 : below(40);
        if (what == SHIFT && pairs + rest == 0) continue;
        const int cols = what == SHIFT ? pairs + rest : 2 * pairs + rest + (pairs == 0);
        test_kernel(e, what, pairs, cols, (layout)how, how == LINED_UP || below(2));
        if (how == LINED_UP) /* whole pieces of 16 bytes */
          test_kernel(e, what, pairs / 8 * 8, (cols + 15) / 16 * 16, LINED_UP, 1);
      }
}

/* --- Conversions of halves */

static uint16_t half_at(const char *at) {
  uint16_t half;
  return memcpy(&half, at, sizeof half), half;
}

/* Every pattern plus -0 is itself; NaN stays NaN. `col` apart: beside each other, or not. */
static void test_patterns(pa_element e, ptrdiff_t col) {
  enum { count = 65536, cols = 1024 };
  guarded x = guarded_take((size_t)(count * labs(col)), 0);
  guarded out = guarded_take((size_t)(count * labs(col)), 1);
  const int64_t index = 0;
  const uint16_t zero = 0x8000;
  const ptrdiff_t first = col < 0 ? (count - 1) * -col : 0;
  for (int i = 0; i < count; ++i) {
    const uint16_t half = (uint16_t)i;
    memcpy(x.data + first + i * col, &half, sizeof half);
  }
  uint16_t zeros[cols];
  for (int i = 0; i < cols; ++i) zeros[i] = zero;
  const pa_table_rows rows = {.from = x.data + first,
                              .to = out.data + first,
                              .from_step = cols * col,
                              .from_col = col,
                              .to_step = cols * col,
                              .to_col = col,
                              .count = count / cols,
                              .cols = cols,
                              .index = (const char *)&index,
                              .table = (const char *)zeros,
                              .table_col = sizeof zero};
  K->shift[e](&rows);
  int bad = 0;
  for (int i = 0; i < count; ++i) {
    const char *at = out.data + first + i * col;
    if (isnan(element_at(e, x.data + first + i * col))) bad += !isnan(element_at(e, at));
    else bad += half_at(at) != i;
  }
  CHECK(bad == 0, "%s element %d col %td: %d of 65536 patterns wrong", K->isa, e, col, bad);
  guarded_give(&x), guarded_give(&out);
}

/* The pair (1, 0) turned by (c, s) is (c, s): floats rounded to halves. */
static int wrong_roundings(pa_element e, int interleaved, ptrdiff_t col, const float *c,
                           int64_t pairs) {
  const int64_t index = 0;
  guarded x = guarded_take((size_t)(2 * pairs * col), 0);
  guarded table = guarded_take((size_t)(2 * pairs) * sizeof *c, 0);
  memcpy(table.data, c, table.bytes);
  for (int64_t k = 0; k < 2 * pairs; ++k)
    element_put(e, x.data + k * col, interleaved ? k % 2 == 0 : k < pairs);
  const pa_table_rows rows = {.from = x.data,
                              .to = x.data,
                              .from_col = col,
                              .to_col = col,
                              .count = 1,
                              .cols = 2 * pairs,
                              .index = (const char *)&index,
                              .table = table.data};
  K->rotate[e](&rows, pairs, interleaved);
  int bad = 0;
  for (int64_t k = 0; k < 2 * pairs; ++k) {
    const int64_t i = interleaved ? k / 2 : k % pairs;
    const int second = interleaved ? (k & 1) != 0 : k >= pairs;
    const double got = element_at(e, x.data + k * col);
    const double want = isnan(c[i]) ? (double)NAN : (double)c[second ? pairs + i : i];
    bad += !(want == 0 ? got == 0 : same(got, element_rounded(e, want)));
  }
  guarded_give(&x), guarded_give(&table);
  return bad;
}

/* Between every half and the next: half way, and the floats on both sides of it. And any floats. */
static void test_roundings(pa_element e, int interleaved, ptrdiff_t col) {
  enum { pairs = 512 };
  float c[2 * pairs];
  int bad = 0, n = 0;
  const uint16_t infinity = e == PA_ELEMENT_FLOAT16 ? 0x7C00 : 0x7F80;
  for (uint16_t half = 0; half < infinity; ++half) {
    near_half(e, half, c + n);
    n += NEAR_HALF;
    if (n == 2 * pairs) bad += wrong_roundings(e, interleaved, col, c, pairs), n = 0;
  }
  while (n < 2 * pairs) c[n++] = (float)normal();
  const uint32_t nan[] = {0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001, 0x7F808000};
  for (int i = 0; i < 6; ++i) memcpy(c + pairs / 2 + 7 * i, nan + i, sizeof *nan);
  bad += wrong_roundings(e, interleaved, col, c, pairs);
  CHECK(bad == 0, "%s element %d interleaved %d col %td: %d roundings wrong", K->isa, e,
        interleaved, col, bad);
}

static void test_conversions(pa_element e) {
  test_patterns(e, 2), test_patterns(e, -2), test_patterns(e, 5);
  test_roundings(e, 0, 2), test_roundings(e, 1, 2), test_roundings(e, 1, 4);
}

/* --- copy */

static void test_copy(void) {
  for (int size = 0; size <= 300; ++size)
    for (int i = 0; i < 6; ++i) {
      const int before = below(70), other = below(70), front = below(2);
      guarded from = guarded_take((size_t)(size + (front ? other : 0)), front);
      guarded to = guarded_take((size_t)(size + before), i % 2);
      char *source = from.data + from.bytes - size, *target = to.data + (i % 2 ? before : 0);
      for (int k = 0; k < size; ++k) source[k] = (char)below(256);
      K->copy(target, source, (size_t)size);
      int bad = memcmp(target, source, (size_t)size) != 0;
      const char *rest = i % 2 ? to.data : to.data + size;
      bad += !guarded_untouched(rest, rest + before);
      CHECK(bad == 0, "copy: %s size %d", K->isa, size);
      guarded_give(&from), guarded_give(&to);
    }
}

/* --- The driver */

static void view_of(pa_view *v, const array *a, int batch_axes) {
  const int64_t *own = a->stride + batch_axes;
  memcpy(v->batch, a->stride, (size_t)batch_axes * sizeof *own);
  v->data = a->data, v->head = own[0], v->row = own[1], v->col = own[2];
}

static pa_status run_driver(const pa_positions_call *p, int what) {
  return what == SHIFT ? pa_add_positions(p) : pa_rope(p);
}

static int never(void) { return 0; }

static void positions_call(pa_positions_call *p, const call *c) {
  memset(p, 0, sizeof *p);
  p->element = c->element, p->batch_axes = c->batch_axes;
  memcpy(p->batch, c->batch, (size_t)c->batch_axes * sizeof *c->batch);
  p->heads = c->heads, p->rows = c->rows, p->cols = c->cols;
  view_of(&p->x, &c->x, c->batch_axes);
  view_of(&p->out, c->in_place ? &c->x : &c->out, c->batch_axes);
  memcpy(p->index.batch, c->index.stride, (size_t)c->batch_axes * sizeof *c->index.stride);
  p->index.data = c->index.data, p->index.row = c->index.stride[c->batch_axes];
  p->table = c->table.data, p->table_row = c->table.stride[0], p->table_col = c->table.stride[1];
  p->pairs = c->what == SHIFT ? below(1000) : c->pairs; /* the sum does not look at it */
  p->interleaved = c->what == ROTATE_INTERLEAVED;
  p->poll = below(2) ? never : NULL;
}

static void test_driver(pa_element element, int what, int large) {
  static int number;
  static pa_positions_call p; /* large for a stack */
  call c = {.element = element, .what = what, .in_place = below(3) == 0, .batch_axes = below(4)};
  for (int i = 0; i < 3; ++i) c.batch[i] = i < c.batch_axes ? 1 + below(3) : 1;
  c.heads = 1 + below(4), c.rows = 1 + below(large ? 60 : 9), c.cols = 1 + below(large ? 200 : 40);
  if (below(6) == 0) c.rows = 1;
  c.pairs = below(3) ? c.cols / 2 : 1 + below((int)c.cols) / 2;
  if (c.pairs > c.cols / 2) c.pairs = c.cols / 2;
  ++number;
  call_take(&c, (layout)below(3), 0xFF);
  positions_call(&p, &c);
  array *out = result(&c);
  char *first = malloc(out->memory.bytes);
  for (int threads = 1; threads <= 3; ++threads) {
    array_restore(out);
    pa_threads_set(threads);
    CHECK(run_driver(&p, what) == PA_OK, "status");
    if (threads == 1) memcpy(first, out->memory.data, out->memory.bytes);
    else
      CHECK(!memcmp(first, out->memory.data, out->memory.bytes),
            "driver %d: other bits on %d threads", number, threads);
  }
  const int64_t wrong = wrong_numbers(&c);
  CHECK(wrong == 0,
        "driver %d: %s element %d what %d in place %d batch axes %d heads %d rows %d cols %d "
        "pairs %d: %d wrong",
        number, pa_isa_name(), element, what, c.in_place, c.batch_axes, (int)c.heads, (int)c.rows,
        (int)c.cols, (int)c.pairs, (int)wrong);
  free(first);
  call_give(&c, number);
}

/* Results that leave the caches, at any address, are those of one head at a time, which do not. */
static void test_large(pa_element element, int what) {
  static int number;
  static pa_positions_call p;
  enum { entries = 8 };
  const int64_t bytes = element_bytes[element], pad = below(2) ? 0 : 16 / bytes * below(3);
  const int64_t rows = 300 + below(200), cols = 48 + below(4) * 16 + (below(2) ? 0 : below(40));
  const int64_t pairs = below(2) ? cols / 16 * 8 : 1 + below((int)cols / 2);
  const int64_t heads = LARGE_BYTES / (rows * cols * bytes) + 1; /* just past the limit */
  const int64_t row = (cols + pad) * bytes, size = heads * rows * row - pad * bytes;
  const int heads_inside = below(2), in_place = below(4) == 0, shifts[] = {0, 0, 1, 2, 4, 8, 16};
  const int front = below(4) != 0, ahead = front ? shifts[below(7)] : 0;
  call c = {.element = element, .what = what, .heads = 1, .rows = rows, .cols = cols};
  c.pairs = pairs;
  ++number;
  call_take(&c, WHOLE, 0); /* x of one head, or not at all */
  positions_call(&p, &c);
  p.heads = heads, p.x.head = 0, p.poll = NULL;
  guarded got = guarded_take((size_t)(size + ahead), front);
  guarded want = guarded_take((size_t)(size + ahead), front);
  p.out.head = heads_inside ? row : rows * row, p.out.row = heads_inside ? heads * row : row;
  p.out.col = bytes;
  if (in_place) {
    char some[1024];
    for (int64_t n = 0; n < (int64_t)sizeof some / bytes; ++n)
      element_put(element, some + n * bytes, normal());
    for (size_t at = 0; at < want.bytes; ++at) want.data[at] = some[at % sizeof some];
    memcpy(got.data, want.data, want.bytes);
    p.x = p.out;
  }
  p.out.data = want.data + ahead;
  if (in_place) p.x.data = p.out.data;
  pa_threads_set(1);
  p.heads = 1;
  for (int64_t h = 0; h < heads; ++h) {
    CHECK(run_driver(&p, what) == PA_OK, "status");
    p.out.data += p.out.head, p.x.data += p.x.head;
  }
  p.heads = heads;
  p.out.data = got.data + ahead;
  p.x.data = in_place ? p.out.data : c.x.data;
  const int threads = 1 + below(3);
  pa_threads_set(threads);
  CHECK(run_driver(&p, what) == PA_OK, "status");
  CHECK(!memcmp(got.data, want.data, got.bytes),
        "large %d: %s element %d what %d in place %d threads %d rows %d cols %d pairs %d pad %d "
        "heads inside %d address %d",
        number, pa_isa_name(), element, what, in_place, threads, (int)rows, (int)cols, (int)pairs,
        (int)pad, heads_inside, (int)((uintptr_t)p.out.data % 64));
  guarded_give(&got), guarded_give(&want);
  array_give(&c.x), array_give(&c.out), array_give(&c.index), array_give(&c.table);
}

/* --- Interruption */

static int polls;
static int at_once(void) { return ++polls; }

/* Slow by its columns, as large as it takes to be asked. Each number is new, or as it was. */
static void test_interrupted(int threads) {
  static pa_positions_call p;
  enum { cols = 64 };
  const float one = 1, table[cols] = {0};
  const int64_t index = 0;
  memset(&p, 0, sizeof p);
  p.element = PA_ELEMENT_FLOAT32, p.heads = 1, p.cols = cols, p.poll = at_once;
  p.x.data = (char *)&one, p.index.data = (char *)&index, p.table = (const char *)table;
  p.table_col = sizeof *table, p.out.row = cols * sizeof one, p.out.col = sizeof one;
  polls = 0;
  pa_threads_set(threads);
  for (p.rows = 1 << 15; p.rows <= 1 << 21 && polls == 0; p.rows *= 2) {
    const size_t bytes = (size_t)(p.rows * p.out.row);
    guarded out = guarded_take(bytes, 0);
    float *x = (float *)(void *)out.data;
    memset(out.data, 0, bytes);
    p.out.data = out.data;
    const pa_status status = pa_add_positions(&p);
    CHECK((status == PA_INTERRUPTED) == (polls > 0), "status %d after %d polls", status, polls);
    int64_t done = 0, other = 0;
    for (int64_t n = 0; n < p.rows * cols; ++n) done += x[n] == 1, other += x[n] != 1 && x[n] != 0;
    CHECK(other == 0 && (done == p.rows * cols) <= (status == PA_OK || threads > 1),
          "%lld numbers done, %lld wrong", (long long)done, (long long)other);
    guarded_give(&out);
  }
  CHECK(polls > 0, "never asked");
}

static void test_table(void) {
  for (int e = 0; e < 4; ++e) {
    const pa_element element = (pa_element)e;
    const int ours = (K->real_bytes == 4) == is_half(element);
    CHECK((K->rotate[e] != NULL) == ours && (K->shift[e] != NULL) == ours, "element %d", e);
    if (!ours) continue;
    if (!THREADS_ONLY) test_kernels(element);
    if (!THREADS_ONLY && is_half(element)) test_conversions(element);
    for (int i = 0; i < CALLS; ++i)
      for (int what = ROTATE; what <= SHIFT; ++what) test_driver(element, what, i % 8 == 0);
    for (int i = 0; i < LARGE_ROUNDS; ++i) test_large(element, LARGE_ROUNDS == 3 ? i : below(3));
  }
  if (!THREADS_ONLY) test_copy();
}

int main(void) {
  for_each_table(test_table);
  for (int threads = 1; threads <= 3; ++threads) test_interrupted(threads);
  return check_report();
}
