/* A tile is [key][lane], in natural units: 0 adds nothing, -inf hides. All terms write into the
 * same one, so what a masked place holds in a bias is never looked at: -inf plus anything stays
 * -inf. */
#include "terms.h"

#include <string.h>

/* The tiles of a desk, by use; plan_terms counts them. */
enum { MAIN_TILE, TABLE_TILE, SOME_CLAUSE_TILE, CLAUSE_TILE };

/* Where a look happens. */
typedef struct place {
  const job *j;
  const unit *u;
  const desk *s;
  const panel *p;
  pa_span keys;
} place;

static char *tile_at(const place *at, int tile) {
  return at->s->tiles + (size_t)tile * at->j->plan.tile_bytes;
}
static int key_count(const place *at) { return (int)(at->keys.last - at->keys.first); }
static int lane_count(const place *at) { return at->p->width * at->j->kernels->lanes; }
static size_t tile_numbers(const place *at) {
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

static const char *term_batch(const place *at, const pa_term *term) {
  return term->data + pa_batch_offset(at->j->call, term->batch, at->u->batch);
}

void pa_terms_rows(const job *j, const unit *u, const panel *p) {
  const char **rows = p->rows;
  const place at = {j, u, NULL, p, {0, 0}};
  for (int t = 0; t < j->call->term_count; ++t) {
    const pa_term *term = &j->call->terms[t];
    if (term->kind != PA_TABLE) continue;
    const char *base = term_batch(&at, term);
    for (int lane = 0; lane < lane_count(&at); ++lane)
      *rows++ = base + p->heads[lane] * term->head + axis_offset(&term->row, p->query_at[lane]);
  }
}

/* --- Spans */

static pa_span lane_span(const place *at, const pa_term *term, int lane) {
  const int64_t head = at->p->heads[lane], query = at->p->query_at[lane];
  return term ? pa_term_span(at->j->call, term, at->u->batch, head, query)
              : pa_visible(at->j->call, at->u->batch, head, query);
}

static pa_sight span_sight(const place *at, const pa_term *term) {
  int all = 1, any = 0;
  for (int lane = 0; lane < at->p->count; ++lane) {
    const pa_span own = lane_span(at, term, lane);
    all &= own.first <= at->keys.first && at->keys.last <= own.last;
    any |= max64(own.first, at->keys.first) < min64(own.last, at->keys.last);
  }
  return all ? PA_ALL_SEEN : any ? PA_PARTLY_SEEN : PA_NOTHING_SEEN;
}

/* Without a term: the span of the positions, and of all terms that always apply. */
static void hide_spans(const place *at, const pa_term *term, char *tile) {
  int32_t first[PA_MAX_LANES], last[PA_MAX_LANES];
  const int64_t keys = key_count(at);
  for (int lane = 0; lane < lane_count(at); ++lane) {
    const pa_span own = lane_span(at, term, lane);
    first[lane] = (int32_t)max64(0, min64(own.first - at->keys.first, keys));
    last[lane] = (int32_t)max64(0, min64(own.last - at->keys.first, keys));
  }
  at->j->kernels->hide(tile, (int)keys, at->p->width, first, last);
}

/* --- Ids */

static void find_ids(const place *at, const pa_term *term, int32_t *own, int32_t *keys) {
  const char *ids = term_batch(at, term);
  for (int lane = 0; lane < lane_count(at); ++lane)
    memcpy(own + lane, ids + (size_t)at->p->query_at[lane] * sizeof *own, sizeof *own);
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

static pa_sight match_sight(const place *at, const pa_term *term) {
  int32_t own[PA_MAX_LANES], keys[PA_KEY_BLOCK], low, high, key_low, key_high;
  find_ids(at, term, own, keys);
  extremes(own, lane_count(at), &low, &high);
  extremes(keys, key_count(at), &key_low, &key_high);
  if (key_high < low || high < key_low) return PA_NOTHING_SEEN;
  return low == high && key_low == key_high ? PA_ALL_SEEN : PA_PARTLY_SEEN;
}

static void hide_strangers(const place *at, const pa_term *term, char *tile) {
  int32_t own[PA_MAX_LANES], keys[PA_KEY_BLOCK];
  find_ids(at, term, own, keys);
  at->j->kernels->match(tile, key_count(at), at->p->width, own, keys);
}

/* --- Tables */

static void find_columns(const place *at, const pa_axis *col, pa_columns *columns) {
  columns->step = col->stride;
  columns->count = 0;
  for (int64_t key = at->keys.first; key < at->keys.last;) {
    const int64_t inside = key % col->inner;
    const int64_t length = min64(col->inner - inside, at->keys.last - key);
    pa_run *run = &columns->runs[columns->count++];
    run->offset = axis_offset(col, key);
    run->length = (int)length;
    key += length;
  }
}

static const char *const *table_rows(const place *at, int term) {
  return at->p->rows + table_index(at->j->call, term) * lane_count(at);
}

static uint64_t *table_bits(const place *at, int term) {
  return at->s->bits + table_index(at->j->call, term) * at->j->plan.panel_lanes;
}

static pa_sight table_sight(const place *at, int t) {
  const pa_term *term = &at->j->call->terms[t];
  if (term->element != PA_ELEMENT_BOOL) return PA_PARTLY_SEEN; /* the tile will tell */
  pa_columns columns;
  find_columns(at, &term->col, &columns);
  return sight_of(
      at->j->kernels->scan(table_rows(at, t), &columns, lane_count(at), table_bits(at, t)));
}

static void lay_table(const place *at, int t, char *tile) {
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

static void add_slopes(const place *at, const pa_term *term, char *tile) {
  double slopes[PA_MAX_LANES], distances[PA_MAX_LANES];
  const int64_t start = pa_start(at->j->call, at->u->batch);
  const char *base = term_batch(at, term);
  for (int lane = 0; lane < lane_count(at); ++lane) {
    memcpy(slopes + lane, base + at->p->heads[lane] * term->head, sizeof *slopes);
    distances[lane] = (double)(at->keys.first - at->p->query_at[lane] - start);
  }
  at->j->kernels->slopes(tile, key_count(at), at->p->width, slopes, distances);
}

/* --- All of them */

static pa_sight term_sight(const place *at, int t) {
  const pa_term *term = &at->j->call->terms[t];
  switch (term->kind) {
    case PA_SPAN: return span_sight(at, term);
    case PA_MATCH: return match_sight(at, term);
    case PA_TABLE: return table_sight(at, t);
    default: return PA_PARTLY_SEEN;
  }
}

static void clear(const place *at, char *tile) {
  memset(tile, 0, tile_numbers(at) * (size_t)at->j->kernels->real_bytes);
}

static void join_table(const place *at, int t, char *tile) {
  char *table = tile_at(at, TABLE_TILE);
  lay_table(at, t, table);
  at->j->kernels->join(tile, table, tile_numbers(at));
}

/* Makes a tile of the terms of one clause (-1: those that always apply) that show the block in
 * part; `placed`: and of the positions. */
static void apply_clause(const place *at, int clause, const pa_sight *sights, int placed,
                         char *tile) {
  const pa_term *terms = at->j->call->terms;
  int blank = 1; /* nothing has been written yet: a table can be laid straight into the tile */
  if (placed) {
    clear(at, tile);
    hide_spans(at, NULL, tile);
    blank = 0;
  }
  for (int t = 0; t < at->j->call->term_count; ++t) {
    if (terms[t].clause != clause || sights[t] != PA_PARTLY_SEEN) continue;
    if (terms[t].kind == PA_TABLE && blank) lay_table(at, t, tile);
    else if (blank) clear(at, tile);
    if (terms[t].kind == PA_TABLE && !blank) join_table(at, t, tile);
    if (terms[t].kind == PA_SPAN) hide_spans(at, &terms[t], tile);
    if (terms[t].kind == PA_MATCH) hide_strangers(at, &terms[t], tile);
    if (terms[t].kind == PA_SLOPES) add_slopes(at, &terms[t], tile);
    blank = 0;
  }
  if (blank) clear(at, tile);
}

static pa_sight make_tile(const place *at, const pa_sight *sights, const pa_sight *clauses,
                          int partly_placed, unsigned char *seen) {
  const pa_kernels *kernels = at->j->kernels;
  char *tile = tile_at(at, MAIN_TILE);
  apply_clause(at, -1, sights, partly_placed, tile);
  if (clauses) {
    char *some = tile_at(at, SOME_CLAUSE_TILE), *one = tile_at(at, CLAUSE_TILE);
    const int32_t nothing[PA_MAX_LANES] = {0};
    clear(at, some);
    kernels->hide(some, key_count(at), at->p->width, nothing, nothing);
    for (int clause = 0; clause < PA_MAX_CLAUSES; ++clause) {
      if (clauses[clause] != PA_PARTLY_SEEN) continue;
      apply_clause(at, clause, sights, 0, one);
      kernels->larger(some, one, tile_numbers(at));
    }
    kernels->join(tile, some, tile_numbers(at));
  }
  const int found = kernels->survey(tile, key_count(at), at->p->width, seen);
  return sight_of(found);
}

pa_sight pa_terms_look(const job *j, const unit *u, const desk *s, const panel *p, pa_span keys,
                       unsigned char *seen) {
  const pa_attention_call *c = j->call;
  const place at = {j, u, s, p, keys};
  const int partly_placed = !(p->all.first <= keys.first && keys.last <= p->all.last);
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
  if (clause_count && some == PA_NOTHING_SEEN) return some;
  const int choice = clause_count && some == PA_PARTLY_SEEN;
  if (always == PA_ALL_SEEN && !choice) {
    memset(seen, 1, (size_t)lane_count(&at));
    return PA_ALL_SEEN;
  }
  while (clause_count < PA_MAX_CLAUSES) clauses[clause_count++] = PA_NOTHING_SEEN;
  return make_tile(&at, sights, choice ? clauses : NULL, partly_placed, seen);
}

void pa_terms_ahead(const job *j, const unit *u, const desk *s, const panel *p, int64_t from) {
  const pa_attention_call *c = j->call;
  pa_ahead *ahead = s->ahead;
  ahead->row = ahead->row_count = 0;
  int t = 0;
  while (t < c->term_count && c->terms[t].kind != PA_TABLE) ++t;
  if (t == c->term_count) return;
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
