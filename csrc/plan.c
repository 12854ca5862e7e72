#include "plan.h"

#include <math.h>
#include <string.h>

#include "geometry.h"
#include "scratch.h"

enum {
  /* Fewer units than this, and chunks of keys become tasks too. Enough for the cores of a large
   * server, few enough that the merged states stay small. */
  FEW_UNITS = 64,
  WAVE_SLOTS = 128,
  WEIGHT_CLASSES = 256, /* of packed sequences: four to a doubling */
};

/* Less than this stays in a core's L2 from the writing of the inputs to the reading here. */
static const double CACHED_BYTES = 1 << 19;

void pa_plan_panel(const pa_cut *cut, int64_t panel, int64_t *first_vector, int *width) {
  const int64_t base = cut->vectors / cut->panels, wider = cut->vectors % cut->panels;
  *first_vector = panel * base + min64(panel, wider);
  *width = (int)(base + (panel < wider));
}

pa_cut pa_plan_cut(const pa_plan *plan, int64_t queries) {
  pa_cut cut = {.rows = plan->group * queries};
  cut.vectors = ceil_div(cut.rows, plan->lanes);
  cut.panels = ceil_div(cut.vectors, plan->max_width);
  cut.blocks = ceil_div(cut.panels, plan->unit_panels);
  return cut;
}

/* The same of a grid, of one batch element, as if all patches were as large as the largest. */
static void count_patches(pa_plan *p, int64_t *panels, int64_t *widest) {
  const int64_t patches = p->grid.lines.stretches * p->grid.columns.stretches;
  p->cut = pa_plan_cut(p, p->grid.lines.count * p->grid.columns.count);
  p->patch_blocks = p->cut.blocks;
  *widest = min64(p->max_width, p->cut.vectors);
  *panels = patches * p->cut.panels;
  p->cut.blocks = p->units = patches * p->patch_blocks;
}

/* Widest panel, and panels and units of one key head over all batch elements. */
static void count_panels(const pa_attention_call *call, pa_plan *p, int64_t *panels) {
  const int64_t batch = call->query_offsets ? pa_batch(call) : 1;
  int64_t widest = 0;
  *panels = p->units = 0;
  if (call->grid) count_patches(p, panels, &widest);
  for (int64_t b = 0; b < batch && !call->grid; ++b) {
    const pa_cut cut = pa_plan_cut(p, pa_sequence_of(call, b).queries);
    if (cut.panels) widest = max64(widest, ceil_div(cut.vectors, cut.panels));
    *panels += cut.panels;
    p->units += cut.blocks;
    p->cut = cut;
  }
  p->panel_lanes = (int)widest * p->lanes;
  if (!call->query_offsets) *panels *= pa_batch(call), p->units *= pa_batch(call);
}

/* What the terms need of every worker: tiles, and the addresses of the rows of tables. */
static void plan_terms(const pa_attention_call *call, pa_plan *p) {
  p->tiles = 1;
  for (int t = 0; t < call->term_count; ++t) {
    p->tables += call->terms[t].kind == PA_TABLE;
    if (p->tiles < 2) p->tiles = 2;
    if (call->terms[t].clause >= 0) p->tiles = 4;
  }
}

/* With a window of W keys, the rows of a panel together see W + rows - 1, and all of these are
 * computed for each. Where the window is narrow a narrower panel wastes less than the 4 or 5 % that
 * its products are slower. */
static int panel_width(const pa_attention_call *call, const pa_kernels *kernels) {
  const int64_t rows = kernels->max_width * kernels->lanes;
  const int narrow = call->left < 5 * rows && call->right < 5 * rows;
  return narrow && kernels->max_width > 2 ? 2 : kernels->max_width;
}

int pa_plan_few(const pa_attention_call *call, int64_t rows) {
  return rows <= PA_FEW_ROWS && !call->weights.data;
}

/* How kernels get at the keys and values of a block. */
static void plan_blocks(const pa_attention_call *call, pa_plan *p) {
  const int64_t real = call->type == PA_FLOAT32 ? sizeof(float) : sizeof(double);
  const int64_t bytes = pa_element_bytes(call->key_element);
  p->whole_d = ceil_div(p->d, p->lanes) * p->lanes;
  p->whole_dv = ceil_div(p->dv, p->lanes) * p->lanes;
  p->element = call->type == PA_FLOAT32 ? PA_ELEMENT_FLOAT32 : PA_ELEMENT_FLOAT64;
  if (!call->grid) { /* lines of a patch lie apart */
    p->keys_fit[0] = p->values_fit[0] = call->key_element == p->element;
    p->keys_fit[1] = call->key.col == bytes && call->d % p->lanes == 0;
    p->values_fit[1] = p->dv && call->value.col == bytes && call->dv % p->lanes == 0;
  }
  if (!p->keys_fit[0] || !p->keys_fit[1])
    p->keys_bytes = pa_scratch_round((size_t)(PA_KEY_BLOCK * p->whole_d * real));
  if (p->dv && (!p->values_fit[0] || !p->values_fit[1]))
    p->values_bytes = pa_scratch_round((size_t)(PA_KEY_BLOCK * p->whole_dv * real));
  if (p->dv) /* queries, outputs, three numbers and scores of each row: decode.c */
    p->few_bytes = pa_scratch_round(
        (size_t)(PA_FEW_ROWS * (p->whole_d + p->whole_dv + 3 + PA_KEY_BLOCK) * real));
}

pa_plan pa_plan_attention(const pa_attention_call *call, const pa_kernels *kernels) {
  const int64_t batch = pa_batch(call);
  const size_t real = (size_t)kernels->real_bytes;
  pa_plan p = {.d = call->d, .dv = call->weights.data ? 0 : call->dv, .unit_panels = 1};

  p.group = call->heads / call->kv_heads;
  p.lanes = kernels->lanes;
  p.max_width = panel_width(call, kernels);
  if (call->grid) p.grid = pa_grid_plan_of(call->grid);
  int64_t panels;
  count_panels(call, &p, &panels);
  p.unit_panels = min64(PA_UNIT_PANELS, 1 + call->kv_heads * panels / (2 * FEW_UNITS));
  count_panels(call, &p, &panels);
  p.units *= call->kv_heads;
  pa_span hull = {0, p.grid.lines.keys * p.grid.columns.keys};
  if (!call->grid) hull = pa_visible_hull(call);
  p.first_chunk = hull.first / PA_KEY_CHUNK;
  p.chunks = max64(1, ceil_div(hull.last, PA_KEY_CHUNK));
  /* Weights are written by whoever knows the whole row, so their units stay whole. */
  if (p.units > 0 && p.units < FEW_UNITS && p.chunks > 1 && !call->weights.data)
    p.wave = min64(p.chunks - p.first_chunk, WAVE_SLOTS / p.units);
  plan_terms(call, &p);

  plan_blocks(call, &p);

  const size_t lanes = (size_t)p.panel_lanes;
  p.queries_bytes = pa_scratch_round(lanes * (size_t)p.d * real);
  p.state_bytes = pa_scratch_round(lanes * (((size_t)p.dv + 2) * real + 1));
  p.tile_bytes = pa_scratch_round(lanes * PA_KEY_BLOCK * real);
  p.rows_bytes = pa_scratch_round(lanes * (size_t)p.tables * sizeof(char *));
  p.bits_bytes = pa_scratch_round(lanes * (size_t)p.tables * sizeof(uint64_t));
  const size_t states = p.wave ? 0 : p.chunks > 1 ? 2 : 1;
  p.worker_bytes =
      (size_t)p.unit_panels * (p.queries_bytes + states * p.state_bytes + p.rows_bytes) +
      p.bits_bytes + (size_t)(1 + p.tiles) * p.tile_bytes + pa_scratch_round(2 * lanes * real) +
      p.keys_bytes + p.values_bytes + p.few_bytes;
  if (call->query_offsets)
    p.order_bytes = pa_scratch_round((size_t)(2 * batch + 1) * sizeof(int64_t));
  p.grid_bytes = (size_t)(p.grid.lines.stretches + p.grid.columns.stretches) * sizeof(pa_stretch);
  const double queries = (double)(call->query_offsets ? 1 : batch) * (double)call->queries;
  p.work = 2.0 * (double)call->heads * queries * (double)(hull.last - hull.first) *
           (double)(p.d + p.dv + 16);
  const double rows = queries * (double)call->heads * (double)real +
                      (double)(batch * call->kv_heads) * (double)call->keys *
                          (double)pa_element_bytes(call->key_element);
  p.look_ahead = !call->weights.data && rows * (double)(p.d + p.dv) > CACHED_BYTES;
  return p;
}

/* Squares that a packed sequence costs, in classes of about a fifth. */
static int weight_class(const pa_attention_call *call, int64_t b) {
  const pa_sequence s = pa_sequence_of(call, b);
  if (s.queries == 0) return 0;
  const pa_place place = pa_place_of(call, b);
  const pa_rows ends = {2, {0, 0}, {0, s.queries - 1}};
  pa_span spans[2];
  pa_visible(call, b, &place, &ends, spans);
  const double keys = (double)max64(0, spans[0].last - spans[0].first) +
                      (double)max64(0, spans[1].last - spans[1].first);
  const int weight = (int)(4 * log2((double)s.queries * (keys < 1 ? 1 : keys)));
  return weight < WEIGHT_CLASSES ? weight : WEIGHT_CLASSES - 1;
}

void pa_plan_order(const pa_attention_call *call, const pa_plan *plan, int64_t *order,
                   int64_t *units) {
  const int64_t batch = pa_batch(call);
  int64_t place[WEIGHT_CLASSES + 1];
  memset(place, 0, sizeof place);
  for (int64_t b = 0; b < batch; ++b) ++place[WEIGHT_CLASSES - 1 - weight_class(call, b)];
  int64_t sum = 0;
  for (int c = 0; c < WEIGHT_CLASSES; ++c) {
    const int64_t count = place[c];
    place[c] = sum;
    sum += count;
  }
  for (int64_t b = 0; b < batch; ++b)
    order[place[WEIGHT_CLASSES - 1 - weight_class(call, b)]++] = b;
  units[0] = 0;
  for (int64_t n = 0; n < batch; ++n) {
    const pa_cut cut = pa_plan_cut(plan, pa_sequence_of(call, order[n]).queries);
    units[n + 1] = units[n] + cut.blocks * call->kv_heads;
  }
}

size_t pa_plan_wave_bytes(const pa_plan *plan) {
  if (!plan->wave) return 0;
  const int64_t panels = plan->units * plan->unit_panels;
  return (size_t)((plan->wave + 1) * panels) * plan->state_bytes;
}

int pa_plan_fits(const pa_attention_call *call) {
  /* The largest scratch there can be, with room for every rounding up; far below what size_t holds,
   * and far above any memory. */
  const double states = 4.0 * WAVE_SLOTS * PA_UNIT_PANELS, lanes = PA_MAX_LANES, real = 8;
  const double d = (double)call->d, dv = (double)call->dv;
  return states * lanes * real * (d + dv + 8 * PA_KEY_BLOCK + PA_MAX_TERMS) < 0x1p62;
}
