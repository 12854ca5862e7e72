/* A tile is [key][lane], in natural units: 0 adds nothing, -inf hides. All terms write into the
 * same one, so what a masked place holds in a bias is never looked at: -inf plus anything stays
 * -inf. */
#include "terms.h"

#include <string.h>

/* The tiles of a desk, by use; plan_terms counts them. */
enum { MAIN_TILE, TERM_TILE, CLAUSES_TILE, CLAUSE_TILE };

/* Where a look happens. */
typedef struct look {
  const job *j;
  const unit *u;
  const desk *s;
  const panel *p;
  pa_span keys;
} look;

static char *tile_at(const look *at, int tile) {
  return at->s->tiles + (size_t)tile * at->j->plan.tile_bytes;
}
static int key_count(const look *at) { return (int)(at->keys.last - at->keys.first); }
static int lane_count(const look *at) { return at->p->width * at->j->kernels->lanes; }
static size_t tile_numbers(const look *at) {
  return (size_t)key_count(at) * (size_t)lane_count(at);
}

static pa_sight all_of(pa_sight a, pa_sight b) { return a < b ? a : b; }
static pa_sight one_of(pa_sight a, pa_sight b) { return a > b ? a : b; }

static pa_sight sight_of(int found) {
  if (!(found & PA_FOUND_SEEN)) return PA_NOTHING_SEEN;
  return found & PA_FOUND_OTHER ? PA_PARTLY_SEEN : PA_ALL_SEEN;
}

/* Of the first `term` terms, how many are tables: the number of a table. */
static int table_index(const pa_attention_call *c, int term) {
  int tables = 0;
  for (int t = 0; t < term; ++t) tables += c->terms[t].kind == PA_TABLE;
  return tables;
}

static int64_t axis_offset(const pa_axis *axis, int64_t index) {
  return index / axis->inner * axis->outer + index % axis->inner * axis->stride;
}

static const char *term_batch(const look *at, const pa_term *term) {
  return term->data + pa_batch_offset(at->j->call, term->batch, at->u->batch);
}

void pa_terms_rows(const job *j, const unit *u, const panel *p) {
  const char **rows = p->rows;
  const look at = {j, u, NULL, p, {0, 0}};
  for (int t = 0; t < j->call->term_count; ++t) {
    const pa_term *term = &j->call->terms[t];
    if (term->kind != PA_TABLE) continue;
    const char *base = term_batch(&at, term);
    for (int lane = 0; lane < lane_count(&at); ++lane)
      *rows++ = base + p->lanes.heads[lane] * term->head +
                axis_offset(&term->row, p->lanes.queries[lane]);
  }
}

/* --- Spans */

/* Of each lane: what a term says, or without one the positions and all spans that always apply. */
static void lane_spans(const look *at, const pa_term *term, pa_span *spans) {
  const pa_rows *rows = &at->p->lanes;
  if (!term) {
    pa_visible(at->j->call, at->u->batch, &at->u->place, rows, spans);
    return;
  }
  for (int lane = 0; lane < rows->count; ++lane)
    spans[lane] =
        pa_term_span(at->j->call, term, at->u->batch, rows->heads[lane], rows->queries[lane]);
}

static pa_sight span_sight(const look *at, const pa_term *term) {
  pa_span spans[PA_MAX_LANES];
  int all = 1, any = 0;
  lane_spans(at, term, spans);
  for (int lane = 0; lane < lane_count(at); ++lane) {
    all &= spans[lane].first <= at->keys.first && at->keys.last <= spans[lane].last;
    any |= max64(spans[lane].first, at->keys.first) < min64(spans[lane].last, at->keys.last);
  }
  return all ? PA_ALL_SEEN : any ? PA_PARTLY_SEEN : PA_NOTHING_SEEN;
}

/* Writes 0 inside the spans, -inf outside. seen (or NULL): seen[lane] |= whether there is an
 * inside. */
static void lay_spans(const look *at, const pa_term *term, char *tile, unsigned char *seen) {
  pa_span spans[PA_MAX_LANES];
  int32_t first[PA_MAX_LANES], last[PA_MAX_LANES];
  const int64_t keys = key_count(at);
  lane_spans(at, term, spans);
  for (int lane = 0; lane < lane_count(at); ++lane) {
    first[lane] = (int32_t)max64(0, min64(spans[lane].first - at->keys.first, keys));
    last[lane] = (int32_t)max64(0, min64(spans[lane].last - at->keys.first, keys));
    if (seen) seen[lane] |= first[lane] < last[lane];
  }
  at->j->kernels->bound(tile, (int)keys, at->p->width, first, last);
}

/* The same by what the grid says. A row of lanes below another has the columns of that. */
static void lay_rectangles(const look *at, char *tile, unsigned char *seen) {
  const pa_patch *patch = &at->u->patch;
  const int64_t line = patch->columns.count * at->j->plan.group; /* lanes of one line of queries */
  const uint64_t looked_at = ~(uint64_t)0 >> (PA_KEY_BLOCK - key_count(at));
  uint64_t bits[PA_MAX_LANES], columns[PA_MAX_LANES];
  for (int lane = 0; lane < lane_count(at); ++lane) {
    const pa_rectangle *own = &at->p->seen[lane];
    const int below = lane >= line && lane < at->p->count; /* spare lanes repeat the last */
    columns[lane] = below ? columns[lane - line] : pa_patch_column_bits(patch, own, at->keys);
    bits[lane] = columns[lane] & pa_patch_line_bits(patch, own, at->keys) & looked_at;
    if (seen) seen[lane] |= bits[lane] != 0;
  }
  at->j->kernels->unfold(tile, bits, key_count(at), at->p->width);
}

static void lay_places(const look *at, char *tile, unsigned char *seen) {
  if (at->j->call->grid) lay_rectangles(at, tile, seen);
  else lay_spans(at, NULL, tile, seen);
}

/* --- Ids */

static void find_ids(const look *at, const pa_term *term, int32_t *own, int32_t *keys) {
  const char *ids = term_batch(at, term);
  for (int lane = 0; lane < lane_count(at); ++lane)
    memcpy(own + lane, ids + (size_t)at->p->lanes.queries[lane] * sizeof *own, sizeof *own);
  memcpy(keys, ids + (size_t)(at->j->call->queries + at->keys.first) * sizeof *keys,
         (size_t)key_count(at) * sizeof *keys);
}

static void extremes(const int32_t *ids, int count, int32_t *low, int32_t *high) {
  *low = *high = ids[0];
  for (int i = 1; i < count; ++i) {
    if (ids[i] < *low) *low = ids[i];
    if (ids[i] > *high) *high = ids[i];
  }
}

static pa_sight match_sight(const look *at, const pa_term *term) {
  int32_t own[PA_MAX_LANES], keys[PA_KEY_BLOCK], low, high, key_low, key_high;
  find_ids(at, term, own, keys);
  extremes(own, lane_count(at), &low, &high);
  extremes(keys, key_count(at), &key_low, &key_high);
  if (key_high < low || high < key_low) return PA_NOTHING_SEEN;
  return low == high && key_low == key_high ? PA_ALL_SEEN : PA_PARTLY_SEEN;
}

static void hide_strangers(const look *at, const pa_term *term, char *tile) {
  int32_t own[PA_MAX_LANES], keys[PA_KEY_BLOCK];
  find_ids(at, term, own, keys);
  at->j->kernels->match(tile, key_count(at), at->p->width, own, keys);
}

/* --- Tables */

/* `step`: from one key to the next on the axis. */
static void find_runs(const pa_axis *col, int64_t first, int64_t step, int64_t count,
                      pa_columns *columns) {
  while (count > 0) {
    const int64_t room = (col->inner - 1 - first % col->inner) / step + 1; /* of this run */
    const int64_t length = min64(room, count);
    pa_run *run = &columns->runs[columns->count++];
    run->offset = axis_offset(col, first);
    run->length = (int)length;
    first += length * step;
    count -= length;
  }
}

static void find_columns(const look *at, const pa_axis *col, pa_columns *columns) {
  const pa_grid *grid = at->j->call->grid;
  const pa_patch *patch = &at->u->patch;
  columns->count = 0;
  columns->step = col->stride;
  if (!grid) {
    find_runs(col, at->keys.first, 1, key_count(at), columns);
    return;
  }
  columns->step *= grid->columns.step;
  for (int64_t key = at->keys.first; key < at->keys.last;) {
    const int64_t broad = patch->columns.keys;
    const int64_t count = min64(broad - key % broad, at->keys.last - key);
    find_runs(col, pa_patch_key(grid, patch, key), grid->columns.step, count, columns);
    key += count;
  }
}

static const char *const *table_rows(const look *at, int term) {
  return at->p->rows + table_index(at->j->call, term) * lane_count(at);
}

static uint64_t *table_bits(const look *at, int term) {
  return at->s->bits + table_index(at->j->call, term) * at->j->plan.panel_lanes;
}

static pa_sight table_sight(const look *at, int t) {
  const pa_term *term = &at->j->call->terms[t];
  if (term->element != PA_ELEMENT_BOOL) return PA_PARTLY_SEEN; /* the tile will tell */
  pa_columns columns;
  find_columns(at, &term->col, &columns);
  return sight_of(
      at->j->kernels->scan(table_rows(at, t), &columns, lane_count(at), table_bits(at, t)));
}

static void lay_table(const look *at, int t, char *tile) {
  const pa_kernels *kernels = at->j->kernels;
  const pa_term *term = &at->j->call->terms[t];
  if (term->element == PA_ELEMENT_BOOL) { /* its sight was asked for, so the bits are there */
    kernels->unfold(tile, table_bits(at, t), key_count(at), at->p->width);
  } else {
    pa_columns columns;
    find_columns(at, &term->col, &columns);
    kernels->lay[term->element](tile, table_rows(at, t), &columns, at->p->width);
  }
}

/* --- Slopes */

static void add_slopes(const look *at, const pa_term *term, char *tile) {
  double slopes[PA_MAX_LANES], distances[PA_MAX_LANES];
  const int64_t start = at->u->place.start;
  const int64_t block = at->keys.first / PA_KEY_BLOCK * PA_KEY_BLOCK;
  const char *base = term_batch(at, term);
  for (int lane = 0; lane < lane_count(at); ++lane) {
    memcpy(slopes + lane, base + at->p->lanes.heads[lane] * term->head, sizeof *slopes);
    distances[lane] = (double)(block - at->p->lanes.queries[lane] - start);
  }
  at->j->kernels->slopes(tile, key_count(at), at->p->width, slopes, distances,
                         (int)(at->keys.first - block));
}

/* --- All of them */

static pa_sight term_sight(const look *at, int t) {
  const pa_term *term = &at->j->call->terms[t];
  switch (term->kind) {
    case PA_SPAN: return span_sight(at, term);
    case PA_MATCH: return match_sight(at, term);
    case PA_TABLE: return table_sight(at, t);
    default: return PA_PARTLY_SEEN;
  }
}

/* Terms that can be written into a tile as they are; others change what is there. */
static int lays(const pa_term *term) { return term->kind == PA_TABLE || term->kind == PA_SPAN; }

static void lay_term(const look *at, int t, char *tile) {
  const pa_term *term = &at->j->call->terms[t];
  if (term->kind == PA_TABLE) lay_table(at, t, tile);
  else lay_spans(at, term, tile, NULL);
}

/* Makes a tile of the terms of one clause (-1: those that always apply) that show the block in
 * part; `placed`: and of the positions. */
static void lay_clause(const look *at, int clause, const pa_sight *sights, int placed, char *tile) {
  const pa_term *terms = at->j->call->terms;
  const pa_kernels *kernels = at->j->kernels;
  int blank = 1;
  if (placed) lay_places(at, tile, NULL), blank = 0;
  for (int t = 0; t < at->j->call->term_count; ++t) {
    if (terms[t].clause != clause || sights[t] != PA_PARTLY_SEEN) continue;
    if (lays(&terms[t])) {
      char *to = blank ? tile : tile_at(at, TERM_TILE);
      lay_term(at, t, to);
      if (!blank) kernels->join(tile, to, tile_numbers(at));
    } else {
      if (blank) memset(tile, 0, tile_numbers(at) * (size_t)kernels->real_bytes);
      if (terms[t].kind == PA_MATCH) hide_strangers(at, &terms[t], tile);
      else add_slopes(at, &terms[t], tile);
    }
    blank = 0;
  }
}

/* One clause at least must hold: the tile of all of them together. */
static void lay_clauses(const look *at, const pa_sight *sights, const pa_sight *clauses,
                        char *tile) {
  char *one = tile_at(at, CLAUSE_TILE);
  int blank = 1;
  for (int clause = 0; clause < PA_MAX_CLAUSES; ++clause) {
    if (clauses[clause] != PA_PARTLY_SEEN) continue;
    lay_clause(at, clause, sights, 0, blank ? tile : one);
    if (!blank) at->j->kernels->larger(tile, one, tile_numbers(at));
    blank = 0;
  }
}

pa_sight pa_terms_look(const job *j, const unit *u, const desk *s, const panel *p, pa_span keys,
                       unsigned char *seen) {
  const pa_attention_call *c = j->call;
  const look at = {j, u, s, p, keys};
  const int partly_placed = !(p->all.first <= keys.first && keys.last <= p->all.last);
  if (c->term_count == 0 && partly_placed) { /* but for grids, every key is seen by some row */
    lay_places(&at, tile_at(&at, MAIN_TILE), seen);
    return PA_PARTLY_SEEN;
  }
  pa_sight sights[PA_MAX_TERMS], clauses[PA_MAX_CLAUSES];
  pa_sight always = partly_placed ? PA_PARTLY_SEEN : PA_ALL_SEEN, some = PA_NOTHING_SEEN;
  int clause_count = 0;
  for (int t = 0; t < c->term_count; ++t) {
    const int clause = c->terms[t].clause;
    /* A span that always applies is among the positions already. */
    const int placed = c->terms[t].kind == PA_SPAN && clause < 0;
    sights[t] = placed ? PA_ALL_SEEN : term_sight(&at, t);
    if (clause < 0) {
      always = all_of(always, sights[t]);
      if (always == PA_NOTHING_SEEN) return always;
      continue;
    }
    while (clause_count <= clause) clauses[clause_count++] = PA_ALL_SEEN;
    clauses[clause] = all_of(clauses[clause], sights[t]);
  }
  for (int clause = 0; clause < clause_count; ++clause) some = one_of(some, clauses[clause]);
  if (clause_count == 0) some = PA_ALL_SEEN;
  const pa_sight sight = all_of(always, some);
  if (sight == PA_ALL_SEEN) memset(seen, 1, (size_t)lane_count(&at));
  if (sight != PA_PARTLY_SEEN) return sight;
  char *tile = tile_at(&at, MAIN_TILE);
  if (always == PA_PARTLY_SEEN) lay_clause(&at, -1, sights, partly_placed, tile);
  if (some == PA_PARTLY_SEEN) {
    while (clause_count < PA_MAX_CLAUSES) clauses[clause_count++] = PA_NOTHING_SEEN;
    char *choice = always == PA_PARTLY_SEEN ? tile_at(&at, CLAUSES_TILE) : tile;
    lay_clauses(&at, sights, clauses, choice);
    if (choice != tile) j->kernels->join(tile, choice, tile_numbers(&at));
  }
  return sight_of(j->kernels->survey(tile, key_count(&at), p->width, seen));
}

void pa_terms_ahead(const job *j, const unit *u, const desk *s, const panel *p, int64_t from) {
  const pa_attention_call *c = j->call;
  pa_ahead *ahead = s->ahead;
  ahead->row = ahead->row_count = 0;
  int t = 0;
  while (t < c->term_count && c->terms[t].kind != PA_TABLE) ++t;
  if (t == c->term_count || c->grid) return;
  const int64_t index = p - u->panel + 1; /* panel by panel, then the next block */
  const panel *next = u->panel + index % u->panels;
  if (index == u->panels) from += PA_KEY_BLOCK;
  if (from >= u->keys.last || c->terms[t].col.stride <= 0) return;
  ahead->rows = next->rows;
  ahead->row_count = next->width * j->kernels->lanes;
  ahead->row_offset = axis_offset(&c->terms[t].col, from);
  ahead->row_byte = 0;
  ahead->row_bytes = min64(c->terms[t].col.stride * PA_KEY_BLOCK, 512);
  ahead->row_lines = 1 + (int)(ahead->row_count * ahead->row_bytes / 64 / 16);
}
