/* What comes between the scores and their softmax: the cap, and the tiles of what is added or
 * hidden. Every such kernel of every table this machine can run, against plain loops. */
#include "tables.h"

/* A tile of all that there can be: numbers, hidden places, infinities and NaN; both zeros. */
static double any_number(void) {
  const double odd[] = {0, -0.0, -HUGE_VAL, HUGE_VAL, NAN, real_tiny(), -real_max(), real_max()};
  return below(3) ? normal() * 3 : odd[below(8)];
}

static guarded tile_take(int keys, int width) {
  guarded g = panel_take(keys, width);
  for (ptrdiff_t i = 0; i < (ptrdiff_t)keys * width * K->lanes; ++i) put(g.data, i, any_number());
  return g;
}

static int hidden(double x) { return x == -HUGE_VAL; }

/* --- cap */

static double most_ulps;

static double ulps_off(double got, long double want) {
  int exponent;
  frexpl(want, &exponent);
  return (double)(fabsl((long double)got - want) / ldexpl(2 * (long double)unit, exponent - 1));
}

/* Scores x in units of log2 between `low` and `high` caps; at least one panel of them. */
static void test_cap(double cap, double low, double high, int keys, int width) {
  const int lanes = width * K->lanes;
  guarded x = panel_take(keys, width), top = panel_take(1, width);
  for (int i = 0; i < keys * lanes; ++i)
    put(x.data, i, (below(2) ? cap : -cap) / log(2) * low * pow(high / low, uniform()));
  guarded was = copy_take(&x);
  K->cap(x.data, keys, width, cap, top.data);
  const long double ln2 = logl(2);
  int bad = 0;
  for (int l = 0; l < lanes; ++l) {
    double best = -real_max();
    for (int key = 0; key < keys; ++key) {
      const double got = get(x.data, key * lanes + l), before = get(was.data, key * lanes + l);
      const long double want = (long double)cap * tanhl((long double)before * ln2 / cap) / ln2;
      most_ulps = fmax(most_ulps, ulps_off(got, want));
      bad += (got != 0 && signbit(got) != signbit(before)) || fabs(got) > rounded(cap * M_LOG2E);
      best = fmax(best, got);
    }
    bad += get(top.data, l) != best;
  }
  CHECK(bad == 0, "cap %g: keys %d width %d: %d wrong", cap, keys, width, bad);
  guarded_give(&x), guarded_give(&top), guarded_give(&was);
}

static void test_cap_specials(double cap) {
  const double height = rounded(cap * M_LOG2E);
  const double x[] = {0,           -0.0,      NAN,        HUGE_VAL,    -HUGE_VAL,    real_max(),
                      -real_max(), 100 * cap, -100 * cap, real_tiny(), -real_tiny(), real_min()};
  const double want[] = {0,       -0.0,   NAN,     height, -height, height,
                         -height, height, -height, 0,      -0.0,    real_min()};
  enum { count = sizeof x / sizeof x[0] };
  const double slack = 4 * real_tiny() * (2 + cap); /* what products of denormals lose */
  guarded tile = panel_take(count, 1), top = panel_take(1, 1);
  for (int i = 0; i < count * K->lanes; ++i) put(tile.data, i, x[i / K->lanes]);
  K->cap(tile.data, count, 1, cap, top.data);
  for (int i = 0; i < count * K->lanes; ++i) {
    const double got = get(tile.data, i), right = want[i / K->lanes];
    CHECK(isnan(right) ? isnan(got)
                       : fabs(got - right) <= slack && (got == 0 || signbit(got) == signbit(right)),
          "cap %g of %g = %g", cap, x[i / K->lanes], got);
  }
  for (int l = 0; l < K->lanes; ++l) CHECK(get(top.data, l) == height, "largest of cap %g", cap);
  for (int l = 0; l < K->lanes; ++l) put(tile.data, l, NAN);
  K->cap(tile.data, 1, 1, cap, top.data);
  for (int l = 0; l < K->lanes; ++l)
    CHECK(get(top.data, l) == -real_max(), "largest of NaN: %g", get(top.data, l));
  guarded_give(&tile), guarded_give(&top);
}

static void test_caps(int rounds) {
  const double caps[] = {1, 2, 0.5, 15, 20, 30, 50, 0.01, 1000, 1e6, 1e-20, 1e20};
  most_ulps = 0;
  for (int i = 0; i < 12; ++i) {
    test_cap_specials(caps[i]);
    for (int round = 0; round < rounds; ++round) {
      const double cap = i < 7 ? caps[i] : caps[i] * (1 + uniform());
      test_cap(cap, 1e-12, 1e-3, MAX_KEYS, 1 + below(K->max_width));
      test_cap(cap, 1e-3, 30, MAX_KEYS, 1 + below(K->max_width));
      test_cap(cap, 0.05, 3, 1 + below(MAX_KEYS), 1 + below(K->max_width));
    }
  }
  printf(", cap %.2f ulp", most_ulps);
  CHECK(most_ulps <= 6, "cap: %g ulp", most_ulps);
}

/* --- Tiles */

static void test_bound(int keys, int width) {
  const int lanes = width * K->lanes;
  guarded x = tile_take(keys, width);
  guarded firsts = guarded_take((size_t)lanes * sizeof(int32_t), below(2));
  guarded lasts = guarded_take((size_t)lanes * sizeof(int32_t), below(2));
  int32_t *first = (int32_t *)firsts.data, *last = (int32_t *)lasts.data;
  for (int l = 0; l < lanes; ++l) { /* some see nothing, some all */
    first[l] = below(2) ? 0 : below(keys + 1);
    last[l] = below(3) ? keys : below(keys + 1);
  }
  K->bound(x.data, keys, width, first, last);
  int bad = 0;
  for (int i = 0; i < keys * lanes; ++i) {
    const int seen = first[i % lanes] <= i / lanes && i / lanes < last[i % lanes];
    bad += !same(get(x.data, i), seen ? 0 : -HUGE_VAL);
  }
  CHECK(bad == 0, "bound: keys %d width %d: %d wrong", keys, width, bad);
  guarded_give(&x), guarded_give(&firsts), guarded_give(&lasts);
}

static void test_match(int keys, int width) {
  const int lanes = width * K->lanes, kinds = 1 + below(6);
  const int32_t some[] = {0, -1, INT32_MAX, INT32_MIN, 1 << 24, (1 << 24) + 1};
  guarded x = tile_take(keys, width), was = copy_take(&x);
  guarded owns = guarded_take((size_t)lanes * sizeof(int32_t), below(2));
  guarded others = guarded_take((size_t)keys * sizeof(int32_t), below(2));
  int32_t *own = (int32_t *)owns.data, *ids = (int32_t *)others.data;
  for (int l = 0; l < lanes; ++l) own[l] = some[below(kinds)];
  for (int key = 0; key < keys; ++key) ids[key] = some[below(kinds)];
  K->match(x.data, keys, width, own, ids);
  int bad = 0;
  for (int i = 0; i < keys * lanes; ++i) {
    const double want = own[i % lanes] == ids[i / lanes] ? get(was.data, i) : -HUGE_VAL;
    bad += !same(get(x.data, i), want);
  }
  CHECK(bad == 0, "match: keys %d width %d: %d wrong", keys, width, bad);
  guarded_give(&x), guarded_give(&was), guarded_give(&owns), guarded_give(&others);
}

static void test_slopes(int keys, int width) {
  const int lanes = width * K->lanes;
  guarded x = tile_take(keys, width), was = copy_take(&x);
  guarded slopes = guarded_take((size_t)lanes * sizeof(double), below(2));
  guarded distances = guarded_take((size_t)lanes * sizeof(double), below(2));
  double *slope = (double *)slopes.data, *distance = (double *)distances.data;
  for (int l = 0; l < lanes; ++l) {
    slope[l] = below(8) ? normal() : below(2) ? -real_max() : 0; /* hidden stays hidden */
    distance[l] = (below(2) ? -1 : 1) * floor(pow(2, uniform() * (below(4) ? 7 : 40)));
  }
  const int first = below(PA_KEY_BLOCK);
  K->slopes(x.data, keys, width, slope, distance, first);
  int bad = 0;
  for (int i = 0; i < keys * lanes; ++i) {
    const double before = get(was.data, i), got = get(x.data, i);
    const double more = -slope[i % lanes] * fabs(first + i / lanes + distance[i % lanes]);
    if (hidden(before) || isnan(before)) bad += !same(got, before);
    else if (slope[i % lanes] == -real_max() || isinf(before))
      continue; /* anything may come of it */
    else
      bad +=
          !(fabs(got - before - more) <= unit * (2 * fabs(before) + 6 * fabs(more)) + real_tiny());
  }
  CHECK(bad == 0, "slopes: keys %d width %d: %d wrong", keys, width, bad);
  guarded_give(&x), guarded_give(&was), guarded_give(&slopes), guarded_give(&distances);
}

static void test_join_and_larger(int keys, int width) {
  const int count = keys * width * K->lanes;
  guarded a = tile_take(keys, width), b = tile_take(keys, width);
  guarded sum = copy_take(&a), most = copy_take(&a), kept = copy_take(&b);
  K->join(sum.data, b.data, (size_t)count);
  K->larger(most.data, b.data, (size_t)count);
  int bad = 0;
  for (int i = 0; i < count; ++i) {
    const double x = get(a.data, i), y = get(b.data, i);
    const double least = K->real_bytes == 4 ? -(double)FLT_MAX : -DBL_MAX;
    const double both = rounded(x + y); /* of two that do not hide, so large that they overflow */
    const double want = hidden(x) || hidden(y) ? -HUGE_VAL : both < least ? least : both;
    bad += !same(get(sum.data, i), want);
    if (!isnan(x) && !isnan(y)) bad += get(most.data, i) != fmax(x, y);
  }
  CHECK(bad == 0, "join and larger: keys %d width %d: %d wrong", keys, width, bad);
  CHECK(!memcmp(b.data, kept.data, b.bytes), "join or larger changed the other tile");
  guarded_give(&a), guarded_give(&b), guarded_give(&sum), guarded_give(&most), guarded_give(&kept);
}

/* One lane of a tile: all hidden, hidden but for one key, nothing hidden but one, zeros, or mixed.
 */
static void fill_lane(char *tile, int keys, int lanes, int lane, int how) {
  const int one = below(2) ? keys - 1 : below(keys);
  for (int key = 0; key < keys; ++key) {
    double x = below(4) ? 0.0 : -0.0;
    if (how == 0 || (how == 1 && key != one) || (how == 2 && key == one)) x = -HUGE_VAL;
    if (how == 3 && key == one) x = below(3) ? normal() : NAN;
    if (how == 4) x = any_number();
    put(tile, key * lanes + lane, x);
  }
}

static void test_survey(int keys, int width, int how) {
  const int lanes = width * K->lanes;
  guarded x = panel_take(keys, width), seen = guarded_take((size_t)lanes, below(2));
  char before[MAX_PANEL];
  int found = 0, bad = 0;
  for (int l = 0; l < lanes; ++l) {
    fill_lane(x.data, keys, lanes, l, how < 6 ? how : below(2 + how % 6));
    seen.data[l] = before[l] = below(4) == 0;
  }
  if (how == 5) /* one place alone, anywhere */
    put(x.data, below(keys * lanes), below(2) ? -HUGE_VAL : 1);
  const int got = K->survey(x.data, keys, width, (unsigned char *)seen.data);
  for (int l = 0; l < lanes; ++l) {
    int shown = 0;
    for (int key = 0; key < keys; ++key) {
      const double place = get(x.data, key * lanes + l);
      shown |= !hidden(place);
      found |= (hidden(place) ? 0 : PA_FOUND_SEEN) | (place == 0 ? 0 : PA_FOUND_OTHER);
    }
    bad += (seen.data[l] != 0) != (shown || before[l]);
  }
  CHECK(bad == 0 && got == found, "survey: keys %d width %d how %d: found %d not %d, %d seen wrong",
        keys, width, how, got, found, bad);
  guarded_give(&x), guarded_give(&seen);
}

static void test_add(int keys, int width) {
  const int lanes = width * K->lanes;
  const double log2e = 1 / log(2);
  guarded x = tile_take(keys, width), was = copy_take(&x), tile = tile_take(keys, width);
  guarded top = panel_take(1, width);
  K->add(x.data, tile.data, keys, width, top.data);
  int bad = 0;
  for (int l = 0; l < lanes; ++l) {
    double best = -real_max();
    for (int i = l; i < keys * lanes; i += lanes) {
      const double before = get(was.data, i), more = get(tile.data, i), got = get(x.data, i);
      const int small = fabs(before) < 1e30 && fabs(more) < 1e30;
      if (hidden(more)) bad += !hidden(got); /* whatever was there */
      else if (isnan(more) || isnan(before)) bad += !isnan(got);
      else if (small)
        bad += !(fabs(got - before - more * log2e) <=
                 unit * (2 * fabs(before) + 4 * fabs(more)) + real_tiny());
      else if (more < 0 && isfinite(more) && fabs(before) < 1e30)
        bad += !(got < -0.999 * real_max() && isfinite(got)); /* finite stays finite */
      best = fmax(best, got);                                 /* NaN is none */
    }
    bad += get(top.data, l) != best;
  }
  CHECK(bad == 0, "add: keys %d width %d: %d wrong", keys, width, bad);

  guarded weights = panel_take(keys, width), old = copy_take(&weights);
  for (int i = 0; i < keys * lanes; ++i) /* weights as softmax leaves them */
    if (below(4) == 0)
      put(weights.data, i, below(2) ? 0 : NAN), put(old.data, i, get(weights.data, i));
  K->mark(weights.data, tile.data, keys, width);
  for (int i = 0; i < keys * lanes; ++i)
    bad += !same(get(weights.data, i), hidden(get(tile.data, i)) ? -0.0 : get(old.data, i));
  CHECK(bad == 0, "mark: keys %d width %d: %d wrong", keys, width, bad);
  guarded_give(&x), guarded_give(&was), guarded_give(&tile), guarded_give(&top);
  guarded_give(&weights), guarded_give(&old);
}

/* --- Rows of tables */

/* In the table's type: what is finite hides nothing. */
static double as_real(double x) { return x < -real_max() && !hidden(x) ? -real_max() : rounded(x); }

/* Any bits; often those of numbers between which types differ. */
static void element_put(pa_element element, char *at) {
  const double edges[] = {
      0x1p-149,        0x1p-150,        0x1.8p-150, 0x1p-126, 0x1.fffffep127, 0x1.ffffffp127,
      0x1.fffffefp127, 0x1.ffffff1p127, 0x1p128,    1e300,    DBL_MAX,        DBL_MIN,
      0x1p-1074,       HUGE_VAL,        NAN,        0};
  static const uint32_t odd[] = {0x7F800001, 0x7FC00000, 0x7FBFFFFF, 0x7F800000,
                                 0xFF800000, 0xFF800001, 0x00000001, 0x807FFFFF,
                                 0x80000000, 0x7F7FFFFF, 0xFF7FFFFF};
  uint64_t bits = (uint64_t)(uniform() * 0x1p32) << 32 | (uint64_t)(uniform() * 0x1p32);
  const int how = below(4);
  if (element == PA_ELEMENT_FLOAT64 && how < 2) {
    double x = how ? normal() : (below(2) ? -1 : 1) * edges[below(16)];
    memcpy(&bits, &x, sizeof bits);
    if (how == 0 && below(8) == 0) bits = UINT64_C(0xFFF0000000000001); /* signalling */
  } else if (element == PA_ELEMENT_FLOAT32 && how == 0) {
    bits = odd[below(11)];
  } else if (element == PA_ELEMENT_BFLOAT16 && how == 0) {
    bits = odd[below(11)] >> 16;
  } else if (element == PA_ELEMENT_BOOL) {
    bits = how ? 0 : bits;
  }
  memcpy(at, &bits, (size_t)element_bytes[element]); /* little-endian, as all machines here */
}

typedef struct rows {
  guarded memory[MAX_PANEL];
  const char *at[MAX_PANEL];
  pa_columns columns;
  int lanes, keys;
  ptrdiff_t key_at[MAX_KEYS]; /* of each key, from the start of a row */
} rows;

/* Cuts the keys into runs: one, of any lengths, or all of one length but the ends. */
static void cut_runs(pa_columns *c, int keys) {
  const int how = below(4), most = 1 + below(how == 0 ? 4 : keys);
  c->count = 0;
  for (int from = 0; from < keys;) {
    int length = how < 2 ? most : how == 2 ? keys : 1 + below(most);
    if (how == 1 && from == 0) length = 1 + below(length);
    if (length > keys - from) length = keys - from;
    c->runs[c->count++].length = length;
    from += length;
  }
}

/* Rows that hold the runs in any order, at any distance; each between guard pages of its own, but
 * that some rows are the same. alike: 0 few, 1 all, 2 those of a vector, 3 its first and last. */
static rows rows_take(pa_element element, int keys, int lanes, ptrdiff_t step, int whole,
                      int alike) {
  rows r = {.lanes = lanes, .keys = keys, .columns = {.step = step, .count = 1}};
  if (whole) r.columns.runs[0].length = keys;
  else cut_runs(&r.columns, keys);
  ptrdiff_t size = 0, shift = below(3) ? 0 : below(2000) - 1000;
  const int backwards = below(2);
  for (int n = 0; n < r.columns.count; ++n) {
    pa_run *run = &r.columns.runs[backwards ? r.columns.count - 1 - n : n];
    const ptrdiff_t extent = (run->length - 1) * step;
    if (n > 0) size += below(4);
    run->offset = size + shift - (extent < 0 ? extent : 0);
    size += labs(extent) + element_bytes[element];
  }
  for (int n = 0, key = 0; n < r.columns.count; ++n)
    for (int i = 0; i < r.columns.runs[n].length; ++i)
      r.key_at[key++] = r.columns.runs[n].offset + i * step;
  for (int l = 0; l < lanes; ++l) {
    const int lane = l % K->lanes;
    int like = alike == 1 || (alike == 0 && below(8) == 0) ? l - 1 : -1;
    if (alike == 2 && lane) like = l - 1;
    if (alike == 3 && lane == K->lanes - 1) like = l - lane;
    if (like >= 0) {
      r.memory[l] = (guarded){0};
      r.at[l] = r.at[like];
      continue;
    }
    r.memory[l] = guarded_take((size_t)size, below(2));
    r.at[l] = r.memory[l].data - shift;
    for (int key = 0; key < keys; ++key) element_put(element, (char *)r.at[l] + r.key_at[key]);
    for (ptrdiff_t i = 0; i < size; ++i) /* between the runs: what would show */
      if (r.memory[l].data[i] == (char)GUARDED_PATTERN) r.memory[l].data[i] = 0x5A;
  }
  return r;
}

static void rows_give(rows *r) {
  for (int l = 0; l < r->lanes; ++l)
    if (r->memory[l].map) guarded_give(&r->memory[l]);
}

static ptrdiff_t any_element_step(pa_element element) {
  const ptrdiff_t size = element_bytes[element];
  const ptrdiff_t steps[] = {size, size, -size, -size, 0, 2 * size, -3 * size, 1 + 2 * size};
  const int which = below(10);
  return which < 8 ? steps[which] : below(40) - 20;
}

static void test_lay(pa_element element, int keys, int width, ptrdiff_t step, int whole) {
  const int lanes = width * K->lanes, alike = below(4);
  rows r = rows_take(element, keys, lanes, step, whole, alike);
  guarded tile = panel_take(keys, width);
  K->lay[element](tile.data, r.at, &r.columns, width);
  int bad = 0;
  for (int key = 0; key < keys; ++key)
    for (int l = 0; l < lanes; ++l) {
      const double want = as_real(element_at(element, r.at[l] + r.key_at[key]));
      bad += !same(get(tile.data, key * lanes + l), want);
    }
  CHECK(bad == 0, "lay: element %d keys %d width %d step %td runs %d alike %d: %d wrong", element,
        keys, width, step, r.columns.count, alike, bad);
  rows_give(&r), guarded_give(&tile);
}

/* All 65536 patterns of a half type, in squares, backwards, one by one, in equal rows. */
static void test_halves(pa_element element) {
  const ptrdiff_t steps[] = {2, -2, 4, 2};
  const int lanes = K->lanes;
  guarded tile = panel_take(MAX_KEYS, 1);
  uint16_t memory[16 * 2 * MAX_KEYS];
  const char *at[16];
  for (int how = 0; how < 4; ++how) {
    const int apart = how == 2 ? 2 : 1, different = how == 3 ? 1 : lanes;
    pa_columns columns = {.step = steps[how], .count = 1};
    columns.runs[0] = (pa_run){how == 1 ? 2 * (MAX_KEYS - 1) : 0, MAX_KEYS};
    int bad = 0;
    for (int from = 0; from < 65536; from += different * MAX_KEYS) {
      for (int i = 0; i < different * MAX_KEYS; ++i) memory[i * apart] = (uint16_t)(from + i);
      for (int l = 0; l < lanes; ++l)
        at[l] = (const char *)(memory + l % different * apart * MAX_KEYS);
      K->lay[element](tile.data, at, &columns, 1);
      for (int i = 0; i < MAX_KEYS * lanes; ++i) {
        const char *one = at[i % lanes] + columns.runs[0].offset + i / lanes * columns.step;
        bad += !same(get(tile.data, i), element_at(element, one));
      }
    }
    CHECK(bad == 0, "half type %d, way %d: %d of 65536 patterns wrong", element, how, bad);
  }
  guarded_give(&tile);
}

static void test_scan(int keys, int width, ptrdiff_t step, int whole) {
  const int lanes = 1 + below(width * K->lanes), alike = below(4), plain = below(4);
  rows r = rows_take(PA_ELEMENT_BOOL, keys, lanes, step, whole, alike);
  for (int l = 0; l < lanes; ++l)
    for (int key = 0; plain < 2 && key < keys; ++key) /* all true, or false, often but for one */
      ((char *)r.at[l])[r.key_at[key]] = (char)(plain ? 1 << below(8) : 0);
  if (below(2)) ((char *)r.at[below(lanes)])[r.key_at[below(keys)]] ^= (char)(1 << below(8));
  guarded words = guarded_take((size_t)lanes * sizeof(uint64_t), below(2));
  uint64_t *bits = (uint64_t *)words.data;
  const int got = K->scan(r.at, &r.columns, lanes, bits);
  int found = 0, bad = 0;
  for (int l = 0; l < lanes; ++l) {
    uint64_t want = 0;
    for (int key = 0; key < keys; ++key) {
      const int seen = r.at[l][r.key_at[key]] != 0;
      want |= (uint64_t)seen << key;
      found |= seen ? PA_FOUND_SEEN : PA_FOUND_OTHER;
    }
    bad += bits[l] != want;
  }
  CHECK(bad == 0 && got == found,
        "scan: keys %d lanes %d step %td runs %d alike %d: found %d not %d, %d wrong", keys, lanes,
        step, r.columns.count, alike, got, found, bad);
  rows_give(&r), guarded_give(&words);
}

static void test_unfold(int keys, int width) {
  const int lanes = width * K->lanes;
  guarded tile = panel_take(keys, width);
  guarded words = guarded_take((size_t)lanes * sizeof(uint64_t), below(2));
  uint64_t *bits = (uint64_t *)words.data;
  for (int l = 0; l < lanes; ++l) /* bits beyond the keys are nobody's */
    bits[l] = below(8) ? (uint64_t)(uniform() * 0x1p32) << 32 | (uint64_t)(uniform() * 0x1p32)
                       : -(uint64_t)below(2);
  K->unfold(tile.data, bits, keys, width);
  int bad = 0;
  for (int i = 0; i < keys * lanes; ++i)
    bad += !same(get(tile.data, i), bits[i % lanes] >> i / lanes & 1 ? 0 : -HUGE_VAL);
  CHECK(bad == 0, "unfold: keys %d width %d: %d wrong", keys, width, bad);
  guarded_give(&tile), guarded_give(&words);
}

static void test_rows(void) {
  for (int keys = 1; keys <= MAX_KEYS; ++keys) {
    for (int e = 0; e <= PA_ELEMENT_BOOL; ++e) {
      if (e == PA_ELEMENT_INT8) continue; /* no table is of them */
      const ptrdiff_t size = element_bytes[e], steps[] = {size, -size, 0, 2 * size, 2 * size + 1};
      for (int i = 0; i < 10; ++i) {
        const ptrdiff_t step = i < 5 ? steps[i] : any_element_step((pa_element)e);
        const int width = 1 + below(K->max_width);
        if (e == PA_ELEMENT_BOOL) test_scan(keys, width, step, i < 5);
        else test_lay((pa_element)e, keys, width, step, i < 5);
      }
    }
    for (int i = 0; i < 8; ++i) /* most tables of bools are contiguous */
      test_scan(i < 4 ? keys : MAX_KEYS, 1 + below(K->max_width), i % 2 ? 1 : -1, i < 6);
  }
  test_halves(PA_ELEMENT_FLOAT16);
  test_halves(PA_ELEMENT_BFLOAT16);
}

static void test_table(void) {
  for (int width = 1; width <= K->max_width; ++width)
    for (int keys = 1; keys <= MAX_KEYS; ++keys)
      for (int i = 0; i < 2; ++i) {
        test_bound(keys, width);
        test_match(keys, width);
        test_slopes(keys, width);
        test_join_and_larger(keys, width);
        test_unfold(keys, width);
        test_add(keys, width);
        for (int how = 0; how < 12; ++how) test_survey(keys, width, how);
      }
  test_rows();
#if defined(CHECK_UNDER_QEMU)
  test_caps(1);
#else
  test_caps(20);
#endif
}

int main(void) {
  for_each_table(test_table);
  return check_report();
}
