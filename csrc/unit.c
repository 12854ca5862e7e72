/* Finding things: of a worker its scratch, of a unit its panels and where its arrays lie. */
#include "block.h"
#include "scratch.h"

desk pa_desk_of(const job *j, int worker, pa_ahead *ahead) {
  const pa_plan *p = &j->plan;
  const size_t panels = (size_t)p->unit_panels;
  const size_t states = p->wave ? 0 : panels * p->state_bytes;
  desk s = {.worker = worker, .ahead = ahead};
  s.queries = j->workers + (size_t)worker * p->worker_bytes;
  s.totals = s.queries + panels * p->queries_bytes;
  s.parts = s.totals + states;
  s.rows = s.parts + (p->chunks > 1 ? states : 0);
  s.scores = s.rows + panels * p->rows_bytes + p->bits_bytes;
  s.tiles = s.scores + p->tile_bytes;
  s.top = s.tiles + (size_t)p->tiles * p->tile_bytes;
  s.alpha = s.top + (size_t)p->panel_lanes * (size_t)j->kernels->real_bytes;
  s.keys = s.top + pa_scratch_round(2 * (size_t)p->panel_lanes * (size_t)j->kernels->real_bytes);
  s.values = s.keys + p->keys_bytes;
  s.few = s.values + p->values_bytes;
  s.bits = (uint64_t *)(s.rows + panels * p->rows_bytes);
  return s;
}

pa_state pa_state_at(const job *j, char *states, int64_t panel) {
  char *at = states + (size_t)panel * j->plan.state_bytes;
  const size_t row = (size_t)j->plan.panel_lanes * (size_t)j->kernels->real_bytes;
  return (pa_state){at, at + row, at + 2 * row,
                    (unsigned char *)at + (2 + (size_t)j->plan.dv) * row};
}

static char *view_head(const job *j, const unit *u, const pa_view *view, int64_t head,
                       int64_t first_row) {
  return view->data + pa_batch_offset(j->call, view->batch, u->batch) + head * view->head +
         first_row * view->row;
}

void pa_view_rows(const job *j, const unit *u, const pa_view *view, const panel *p, int lanes,
                  char **rows) {
  char *base = view_head(j, u, view, 0, u->sequence.first_query);
  for (int lane = 0; lane < lanes; ++lane)
    rows[lane] = base + p->lanes.heads[lane] * view->head + p->lanes.queries[lane] * view->row;
}

/* Queries by their numbers in a patch become pixels; what these see. */
static void find_pixels(const pa_grid *grid, const pa_patch *patch, panel *p) {
  const int64_t broad = patch->columns.count;
  int64_t query = p->lanes.queries[0], line = query / broad, column = query % broad;
  for (int lane = 0; lane < p->lanes.count; ++lane) {
    if (p->lanes.queries[lane] != query) {
      query = p->lanes.queries[lane];
      if (++column == broad) column = 0, ++line;
    }
    p->lanes.queries[lane] = pa_patch_query(grid, patch, line, column);
    p->seen[lane] = pa_patch_seen(grid, patch, line, column);
  }
  pa_patch_range(patch, p->seen, p->lanes.count, &p->any, &p->all);
}

static void panel_of(const job *j, const unit *u, const desk *s, int64_t index, panel *p) {
  const int64_t group = j->plan.group, head0 = u->kv_head * group;
  int64_t first_vector;
  pa_plan_panel(&u->cut, u->first_panel + index, &first_vector, &p->width);
  const int lanes = p->width * j->kernels->lanes;
  p->first_row = first_vector * j->kernels->lanes;
  p->count = (int)min64(lanes, u->cut.rows - p->first_row);
  p->queries = s->queries + (size_t)index * j->plan.queries_bytes;
  p->rows = (const char **)(s->rows + (size_t)index * j->plan.rows_bytes);
  p->lanes.count = lanes;
  int64_t query = p->first_row / group, head = p->first_row % group;
  for (int lane = 0; lane < lanes; ++lane) {
    p->lanes.heads[lane] = head0 + head;
    p->lanes.queries[lane] = query;
    if (lane + 1 < p->count && ++head == group) head = 0, ++query;
  }
  if (j->call->grid) find_pixels(j->call->grid, &u->patch, p);
  else pa_visible_range(j->call, u->batch, &u->place, &p->lanes, &p->any, &p->all);
}

/* Of a grid: unit `index` of its head. The patches follow each other; smaller ones have fewer
 * panels than their units could take. */
static void patch_place(const job *j, int64_t index, unit *u) {
  const int64_t columns = j->plan.grid.columns.stretches, blocks = j->plan.patch_blocks;
  const int64_t number = index / blocks;
  u->patch = (pa_patch){j->lines[number / columns], j->columns[number % columns]};
  u->cut = pa_plan_cut(&j->plan, pa_patch_queries(&u->patch));
  u->sequence.keys = u->place.keys = pa_patch_keys(&u->patch);
  u->first_panel = index % blocks * j->plan.unit_panels;
}

/* Units of a key head follow each other, so that threads share its K and V; among them the last
 * rows, which see the most if causal, come first. Packed sequences come heaviest first. */
static void unit_place(const job *j, int64_t index, unit *u) {
  const pa_attention_call *c = j->call;
  u->cut = j->plan.cut;
  if (j->order) {
    int64_t low = 0, high = pa_batch(c); /* units before `low` <= index < units before `high` */
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      if (j->order_units[middle] <= index) low = middle;
      else high = middle;
    }
    u->batch = j->order[low];
    index -= j->order_units[low];
    u->cut = pa_plan_cut(&j->plan, pa_sequence_of(c, u->batch).queries);
  } else {
    u->batch = index / u->cut.blocks / c->kv_heads;
    index -= u->batch * c->kv_heads * u->cut.blocks;
  }
  u->sequence = pa_sequence_of(c, u->batch);
  u->place = pa_place_of(c, u->batch);
  u->kv_head = index / u->cut.blocks;
  u->first_panel = (u->cut.blocks - 1 - index % u->cut.blocks) * j->plan.unit_panels;
  if (c->grid) patch_place(j, index % u->cut.blocks, u);
  u->panels = max64(0, min64(j->plan.unit_panels, u->cut.panels - u->first_panel));
  /* Patches that are few would make bits depend on how heads are grouped. */
  u->few = !c->grid && pa_plan_few(c, u->cut.rows);
  u->key = u->value = NULL;
  if (c->pages) return;
  u->key = view_head(j, u, &c->key, u->kv_head, u->sequence.first_key);
  if (!c->weights.data) u->value = view_head(j, u, &c->value, u->kv_head, u->sequence.first_key);
}

void pa_unit_of(const job *j, const desk *s, int64_t index, unit *u) {
  unit_place(j, index, u);
  u->keys = (pa_span){INT64_MAX, 0};
  for (int64_t i = 0; i < u->panels; ++i) {
    panel_of(j, u, s, i, &u->panel[i]);
    const pa_span any = u->panel[i].any;
    if (any.first >= any.last) continue;
    u->keys.first = min64(u->keys.first, any.first);
    u->keys.last = max64(u->keys.last, any.last);
  }
  if (u->keys.first >= u->keys.last) u->keys = (pa_span){0, 0};
}

/* The rows of some queries in all heads of the unit's group. */
static pa_region rows_region(const job *j, const unit *u, const pa_view *view, int64_t query,
                             int64_t queries, int64_t bytes) {
  const char *head0 =
      view_head(j, u, view, u->kv_head * j->plan.group, u->sequence.first_query + query);
  return (pa_region){head0, view->row, view->head, bytes, queries, (int)j->plan.group};
}

/* Spreads the regions over the tiles of a unit, at most `most` lines at a time. */
static void ask_for(const job *j, const unit *u, int64_t rows, int64_t keys, int64_t most,
                    pa_ahead *ahead) {
  const pa_attention_call *c = j->call;
  const int64_t bytes =
      rows * pa_element_bytes(c->query_element) + keys * pa_element_bytes(c->key_element);
  const int64_t lines = bytes * (j->plan.d + j->plan.dv) / 64;
  const int64_t blocks = u->panels * min64(u->sequence.keys, PA_KEY_CHUNK) / PA_KEY_BLOCK;
  const int64_t tiles = blocks * (PA_KEY_BLOCK + 2 * j->plan.dv) / 12; /* tile.inc.h, about */
  ahead->lines = (int)(1 + min64(lines / max64(tiles, 1), most));
  ahead->byte = ahead->piece = ahead->inner = 0;
  ahead->region = 3;
}

/* The rows of a patch's keys or queries in one head. */
static pa_region patch_region(const pa_grid *grid, const char *head, const pa_view *view,
                              int64_t pixel, int64_t lines, int64_t columns, int64_t bytes) {
  return (pa_region){head + pixel * view->row,
                     grid->lines.step * grid->columns.extent * view->row,
                     grid->columns.step * view->row,
                     bytes,
                     lines,
                     (int)columns};
}

/* The same for a unit of a grid, but of the heads that share a key head only the first. */
static void look_ahead_at_patch(const job *j, const unit *u, pa_ahead *ahead) {
  const pa_attention_call *c = j->call;
  const pa_plan *p = &j->plan;
  const pa_grid *grid = c->grid;
  const pa_stretch *lines = &u->patch.lines, *columns = &u->patch.columns;
  const int64_t head = u->kv_head * p->group, key = pa_patch_key(grid, &u->patch, 0),
                query = pa_patch_query(grid, &u->patch, 0, 0);
  const int64_t of_query = pa_element_bytes(c->query_element);
  const int64_t of_key = pa_element_bytes(c->key_element);
  ahead->regions[3] =
      patch_region(grid, u->key, &c->key, key, lines->keys, columns->keys, p->d * of_key);
  ahead->regions[2] =
      patch_region(grid, u->value, &c->value, key, lines->keys, columns->keys, p->dv * of_key);
  ahead->regions[1] = patch_region(grid, view_head(j, u, &c->query, head, 0), &c->query, query,
                                   lines->count, columns->count, p->d * of_query);
  ahead->regions[0] = patch_region(grid, view_head(j, u, &c->out, head, 0), &c->out, query,
                                   lines->count, columns->count, p->dv * of_query);
  ask_for(j, u, pa_patch_queries(&u->patch), pa_patch_keys(&u->patch), 32, ahead);
}

void pa_look_ahead(const job *j, int64_t index, pa_ahead *ahead) {
  enum { ahead_keys = 4 * PA_KEY_BLOCK }; /* worth while only if that is much of what it touches */
  const pa_attention_call *c = j->call;
  const pa_plan *p = &j->plan;
  ahead->region = -1;
  if (index < 0) return;
  unit u;
  unit_place(j, index, &u);
  if (c->grid) {
    look_ahead_at_patch(j, &u, ahead);
    return;
  }
  int64_t first, last;
  int width;
  pa_plan_panel(&u.cut, u.first_panel, &first, &width);
  pa_plan_panel(&u.cut, u.first_panel + u.panels - 1, &last, &width);
  const int64_t query = first * p->lanes / p->group;
  const int64_t rows = min64((last + width) * p->lanes, u.cut.rows);
  const int64_t queries = (rows + p->group - 1) / p->group - query;
  pa_span any, all;
  const int64_t head = u.kv_head * p->group;
  const pa_rows ends = {2, {head, head}, {query, query + queries - 1}};
  pa_visible_range(c, u.batch, &u.place, &ends, &any, &all);
  if (any.first >= any.last) return;
  int64_t keys = min64(any.last - any.first, ahead_keys);
  if (c->pages) keys = min64(keys, c->page_rows - any.first % c->page_rows);
  const int64_t of_query = pa_element_bytes(c->query_element);
  const int64_t of_key = pa_element_bytes(c->key_element);
  const block b = pa_block_at(j, &u, any.first);
  ahead->regions[3] = (pa_region){b.key.data, b.key.row, 0, p->d * of_key, keys, 1};
  ahead->regions[2] = (pa_region){b.value.data, b.value.row, 0, p->dv * of_key, keys, 1};
  ahead->regions[1] = rows_region(j, &u, &c->query, query, queries, p->d * of_query);
  ahead->regions[0] = rows_region(j, &u, &c->out, query, queries, p->dv * of_query);
  ask_for(j, &u, queries * p->group, keys, 8, ahead);
}
