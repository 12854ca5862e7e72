#include "plan.h"

#include "geometry.h"
#include "scratch.h"

enum {
  /* Fewer units than this, and chunks of keys become tasks too. Enough for the cores of a large
   * server, few enough that the merged states stay small. */
  FEW_UNITS = 64,
  WAVE_SLOTS = 128,
};

/* Less than this stays in a core's L2 from the writing of the inputs to the reading here. */
static const double CACHED_BYTES = 1 << 19;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

void pa_plan_panel(const pa_plan *plan, int64_t panel, int64_t *first_vector, int *width) {
  const int64_t base = plan->vectors / plan->panels, wider = plan->vectors % plan->panels;
  *first_vector = panel * base + min64(panel, wider);
  *width = (int)(base + (panel < wider));
}

pa_plan pa_plan_attention(const pa_attention_call *call, const pa_kernels *kernels) {
  const int64_t heads = pa_batch(call) * call->kv_heads;
  const size_t real = (size_t)kernels->real_bytes;
  pa_plan p = {.d = call->d, .dv = call->weights.data ? 0 : call->dv};

  p.group = call->heads / call->kv_heads;
  p.rows = p.group * call->queries;
  p.vectors = ceil_div(p.rows, kernels->lanes);
  p.panels = ceil_div(p.vectors, kernels->max_width);
  p.panel_lanes = (int)ceil_div(p.vectors, p.panels) * kernels->lanes;
  p.unit_panels = min64(PA_UNIT_PANELS, 1 + heads * p.panels / (2 * FEW_UNITS));
  p.blocks = ceil_div(p.panels, p.unit_panels);
  p.units = heads * p.blocks;
  const int64_t last_key = pa_visible_last(call);
  p.chunks = last_key > 0 ? ceil_div(last_key, PA_KEY_CHUNK) : 1;
  /* Weights are written by whoever knows the whole row, so their units stay whole. */
  if (p.units < FEW_UNITS && p.chunks > 1 && !call->weights.data)
    p.wave = min64(p.chunks, WAVE_SLOTS / p.units);

  const size_t lanes = (size_t)p.panel_lanes;
  p.queries_bytes = pa_scratch_round(lanes * (size_t)p.d * real);
  p.state_bytes = pa_scratch_round(lanes * ((size_t)p.dv + 2) * real);
  const size_t states = p.wave ? 0 : p.chunks > 1 ? 2 : 1;
  const size_t tile = pa_scratch_round(lanes * (PA_KEY_BLOCK + 2) * real); /* scores, top, alpha */
  p.worker_bytes = (size_t)p.unit_panels * (p.queries_bytes + states * p.state_bytes) + tile;
  p.work = 2.0 * (double)heads * (double)p.rows *
           (double)min64(call->keys, p.chunks * PA_KEY_CHUNK) * (double)(p.d + p.dv + 16);
  p.look_ahead = !call->weights.data && (double)heads * (double)(p.rows + call->keys) *
                                                (double)(p.d + p.dv) * (double)real >
                                            CACHED_BYTES;
  return p;
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
  return states * lanes * real * (d + dv + 4 * PA_KEY_BLOCK) < 0x1p62;
}
