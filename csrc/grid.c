#include "grid.h"

enum {
  /* A square of so many queries is what a patch is where windows slide: narrower ones would share
   * fewer keys, of wider ones a panel has queries that see too different keys. */
  SIDE = 8,
  PATCH_QUERIES = SIDE * SIDE,
};

static pa_span seen_from(const pa_grid_axis *axis, int64_t place) {
  return (pa_span){axis->spans[2 * place], axis->spans[2 * place + 1]};
}

int pa_grid_next(const pa_grid_axis *axis, int64_t longest, pa_stretch *s) {
  int64_t place = s->first + s->count * axis->step;
  if (place >= axis->extent) { /* then the places of the next remainder */
    place = s->first % axis->step + 1;
    if (place >= min64(axis->step, axis->extent)) return 0;
  }
  const pa_span start = seen_from(axis, place);
  pa_span last = start;
  s->first = place;
  s->first_key = start.first;
  for (s->count = 1; (place += axis->step) < axis->extent; ++s->count) {
    const pa_span next = seen_from(axis, place);
    const int same = next.first == start.first && next.last == start.last;
    if (next.first >= last.last || (s->count >= longest && !same)) break;
    last = next;
  }
  s->keys = ceil_div(last.last - start.first, axis->step);
  return 1;
}

static pa_axis_plan cut(const pa_grid_axis *axis, int64_t longest) {
  pa_axis_plan p = {.longest = longest};
  for (pa_stretch s = {0}; pa_grid_next(axis, longest, &s); ++p.stretches) {
    p.count = max64(p.count, s.count);
    p.keys = max64(p.keys, s.keys);
  }
  return p;
}

/* Where one axis gives fewer than SIDE places, the other makes up for it. */
static int64_t longest_beside(const pa_axis_plan *other) {
  return max64(SIDE, PATCH_QUERIES / other->count);
}

pa_grid_plan pa_grid_plan_of(const pa_grid *grid) {
  pa_grid_plan p = {.columns = cut(&grid->columns, SIDE)};
  p.lines = cut(&grid->lines, longest_beside(&p.columns));
  p.columns = cut(&grid->columns, longest_beside(&p.lines));
  return p;
}

void pa_grid_stretches(const pa_grid_axis *axis, int64_t longest, pa_stretch *to) {
  pa_stretch s = {0};
  while (pa_grid_next(axis, longest, &s)) *to++ = s;
}

static int64_t pixel(const pa_grid *grid, int64_t line, int64_t column) {
  return line * grid->columns.extent + column;
}

int64_t pa_patch_query(const pa_grid *grid, const pa_patch *p, int64_t line, int64_t column) {
  return pixel(grid, p->lines.first + line * grid->lines.step,
               p->columns.first + column * grid->columns.step);
}

int64_t pa_patch_key(const pa_grid *grid, const pa_patch *p, int64_t key) {
  return pixel(grid, p->lines.first_key + key / p->columns.keys * grid->lines.step,
               p->columns.first_key + key % p->columns.keys * grid->columns.step);
}

/* What place number n of a stretch sees, counted from the stretch's first key. */
static pa_span seen_along(const pa_grid_axis *axis, const pa_stretch *s, int64_t n) {
  pa_span seen = seen_from(axis, s->first + n * axis->step);
  seen.first -= s->first_key;
  seen.last -= s->first_key;
  if (axis->step == 1) return seen; /* the usual case, for it is asked of every query */
  return (pa_span){seen.first / axis->step, ceil_div(seen.last, axis->step)};
}

pa_rectangle pa_patch_seen(const pa_grid *grid, const pa_patch *p, int64_t line, int64_t column) {
  const pa_span lines = seen_along(&grid->lines, &p->lines, line);
  const pa_span columns = seen_along(&grid->columns, &p->columns, column);
  return (pa_rectangle){(int32_t)lines.first, (int32_t)lines.last, (int32_t)columns.first,
                        (int32_t)columns.last};
}

void pa_patch_range(const pa_patch *p, const pa_rectangle *seen, int count, pa_span *any,
                    pa_span *all) {
  const int64_t broad = p->columns.keys;
  int whole = 1;
  *any = (pa_span){INT64_MAX, 0};
  for (int i = 0; i < count; ++i) {
    const pa_rectangle *r = &seen[i];
    any->first = min64(any->first, r->first_line * broad + r->first_column);
    any->last = max64(any->last, (r->last_line - 1) * broad + r->last_column);
    whole &= r->first_line == 0 && r->last_line == p->lines.keys && r->first_column == 0 &&
             r->last_column == broad;
  }
  *all = (pa_span){0, whole ? pa_patch_keys(p) : 0};
}

/* Bits first <= k < last, of those that a word has. */
static uint64_t bits_between(int64_t first, int64_t last) {
  first = max64(first, 0);
  last = min64(last, 64);
  return first < last ? ~(uint64_t)0 >> (64 - (last - first)) << first : 0;
}

uint64_t pa_patch_line_bits(const pa_patch *p, const pa_rectangle *r, pa_span keys) {
  const int64_t broad = p->columns.keys;
  return bits_between(r->first_line * broad - keys.first, r->last_line * broad - keys.first);
}

uint64_t pa_patch_column_bits(const pa_patch *p, const pa_rectangle *r, pa_span keys) {
  const int64_t broad = p->columns.keys;
  uint64_t bits = 0;
  for (int64_t start = -(keys.first % broad); start < keys.last - keys.first; start += broad)
    bits |= bits_between(start + r->first_column, start + r->last_column);
  return bits;
}
