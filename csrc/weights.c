#include "weights.h"

#include <string.h>

#include "dispatch.h"
#include "geometry.h"
#include "parallel.h"
#include "scratch.h"

enum {
  MAGIC = 0x70617761, /* "awap" */
  PACK_INPUTS = 256,  /* at once: of halves they go by way of scratch memory */
  FLOPS_PER_BYTE = 8, /* what a packed byte costs, beside what the pool counts in */
};

/* What packed weights begin with. */
typedef struct header {
  int32_t magic, type, stored, lanes, max_width;
  int64_t inputs, outputs, bytes;
} header;

pa_weights pa_weights_of(const void *packed) {
  const header *h = packed;
  pa_weights w = {.type = (pa_type)h->type,
                  .stored = (pa_element)h->stored,
                  .lanes = h->lanes,
                  .max_width = h->max_width,
                  .inputs = h->inputs,
                  .outputs = h->outputs};
  w.real_bytes = w.type == PA_FLOAT32 ? sizeof(float) : sizeof(double);
  w.stored_bytes = (size_t)pa_element_bytes(w.stored);
  /* As numbers that cannot overflow: far above any memory, far below what size_t holds. */
  const double numbers = ((double)w.outputs + w.lanes) * ((double)w.inputs + 1);
  if (numbers * sizeof(double) > 0x1p61) return w;
  w.cut.rows = w.outputs;
  w.cut.vectors = ceil_div(w.outputs, w.lanes);
  w.cut.panels = ceil_div(w.cut.vectors, h->max_width);
  const size_t padded = (size_t)(w.cut.vectors * w.lanes);
  w.bias_at = pa_scratch_round(sizeof(header));
  w.panels_at = w.bias_at + pa_scratch_round(padded * w.real_bytes);
  w.bytes = w.panels_at + pa_scratch_round(padded * (size_t)w.inputs * w.stored_bytes);
  return w;
}

const char *pa_weights_panel(const pa_weights *w, const void *packed, int64_t panel,
                             int64_t *first_output, int *width) {
  int64_t vector;
  pa_plan_panel(&w->cut, panel, &vector, width);
  *first_output = vector * w->lanes;
  return (const char *)packed + w->panels_at +
         (size_t)(*first_output * w->inputs) * w->stored_bytes;
}

static header header_of(const pa_packing *p, const pa_kernels *kernels) {
  return (header){.magic = MAGIC,
                  .type = p->type,
                  .stored = p->stored,
                  .lanes = kernels->lanes,
                  .max_width = kernels->max_width,
                  .inputs = p->inputs,
                  .outputs = p->outputs};
}

size_t pa_linear_bytes(const pa_packing *packing) {
  const header h = header_of(packing, pa_dispatch(packing->type));
  return pa_weights_of(&h).bytes;
}

typedef struct job {
  const pa_packing *packing;
  const pa_kernels *kernels;
  pa_weights shape;
  char *packed, *scratch;
  size_t scratch_bytes; /* of a worker; 0: none is needed */
} job;

static void pack_task(void *data, int64_t panel, int64_t next, int worker) {
  (void)next;
  const job *j = data;
  const pa_packing *p = j->packing;
  const pa_weights *w = &j->shape;
  int64_t first;
  int width;
  char *to =
      j->packed + (pa_weights_panel(w, j->packed, panel, &first, &width) - (const char *)j->packed);
  const int lanes = width * w->lanes;
  const char *rows[PA_MAX_LANES];
  for (int lane = 0; lane < lanes; ++lane) /* spare lanes repeat the last output */
    rows[lane] = p->weight + min64(first + lane, w->outputs - 1) * p->weight_row;
  for (int64_t input = 0; input < w->inputs; input += PACK_INPUTS) {
    const int count = (int)min64(PACK_INPUTS, w->inputs - input);
    const pa_columns columns = {p->weight_col, 1, {{input * p->weight_col, count}}};
    if (j->scratch_bytes) {
      char *wide = j->scratch + (size_t)worker * j->scratch_bytes;
      j->kernels->lay[p->element](wide, rows, &columns, width);
      j->kernels->narrow[w->stored](to, wide, (ptrdiff_t)count * lanes);
    } else {
      j->kernels->lay[p->element](to, rows, &columns, width);
    }
    to += (size_t)count * (size_t)lanes * w->stored_bytes;
  }
}

int pa_weights_fit(const pa_weights *w, const pa_kernels *kernels) {
  return w->lanes == kernels->lanes && w->max_width == kernels->max_width;
}

pa_status pa_linear_pack(const pa_packing *packing, void *packed, size_t bytes) {
  const pa_kernels *kernels = pa_dispatch(packing->type);
  header h = header_of(packing, kernels);
  job j = {.packing = packing, .kernels = kernels, .shape = pa_weights_of(&h), .packed = packed};
  const pa_weights *w = &j.shape;
  if (w->bytes != bytes) return PA_FOREIGN;
  pa_team team;
  pa_team_begin(&team, w->cut.panels, FLOPS_PER_BYTE * (double)w->bytes, NULL);
  if (w->stored_bytes != w->real_bytes)
    j.scratch_bytes = (size_t)PA_MAX_LANES * PACK_INPUTS * w->real_bytes;
  pa_status status = PA_NO_MEMORY;
  if (j.scratch_bytes) j.scratch = pa_scratch_take((size_t)team.workers * j.scratch_bytes);
  if (!j.scratch_bytes || j.scratch) {
    h.bytes = (int64_t)w->bytes;
    memset(packed, 0, w->panels_at);
    memcpy(packed, &h, sizeof h);
    if (packing->bias)
      memcpy(j.packed + w->bias_at, packing->bias, (size_t)w->outputs * w->real_bytes);
    status = pa_team_run(&team, w->cut.panels, pack_task, &j);
    pa_scratch_give(j.scratch);
  }
  pa_team_end(&team);
  return status;
}

int pa_linear_inspect(const void *packed, size_t bytes, pa_packing *packing) {
  header h;
  if (bytes < sizeof h) return -1;
  memcpy(&h, packed, sizeof h);
  const int halves = h.stored == PA_ELEMENT_FLOAT16 || h.stored == PA_ELEMENT_BFLOAT16;
  const int type = h.type == PA_FLOAT64 ? PA_ELEMENT_FLOAT64 : PA_ELEMENT_FLOAT32;
  if (h.magic != MAGIC || (h.type != PA_FLOAT32 && h.type != PA_FLOAT64) ||
      (!(halves && h.type == PA_FLOAT32) && h.stored != type) || h.lanes < 1 || h.max_width < 1 ||
      h.lanes > PA_MAX_LANES / h.max_width || h.inputs < 1 || h.outputs < 1 ||
      (size_t)h.bytes != bytes || pa_weights_of(&h).bytes != bytes)
    return -1;
  packing->type = (pa_type)h.type;
  packing->stored = (pa_element)h.stored;
  packing->inputs = h.inputs;
  packing->outputs = h.outputs;
  const pa_weights w = pa_weights_of(&h);
  return !pa_weights_fit(&w, pa_dispatch(packing->type));
}

void pa_linear_unpack(const void *packed, void *weight, void *bias) {
  const pa_weights w = pa_weights_of(packed);
  for (int64_t panel = 0; panel < w.cut.panels; ++panel) {
    int64_t first;
    int width;
    const char *from = pa_weights_panel(&w, packed, panel, &first, &width);
    const int lanes = width * w.lanes;
    for (int64_t output = first; output < min64(first + lanes, w.outputs); ++output) {
      const char *at = from + (size_t)(output - first) * w.stored_bytes;
      char *to = (char *)weight + (size_t)(output * w.inputs) * w.stored_bytes;
      for (int64_t input = 0; input < w.inputs; ++input)
        memcpy(to + (size_t)input * w.stored_bytes, at + (size_t)(input * lanes) * w.stored_bytes,
               w.stored_bytes);
    }
  }
  memcpy(bias, (const char *)packed + w.bias_at, (size_t)w.outputs * w.real_bytes);
}
