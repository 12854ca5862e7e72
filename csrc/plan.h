/* Shapes -> block sizes, order of work, scratch bytes. Pure functions of shapes and lanes.
 *
 *   rows     the query rows that share a key head, group * queries of them, query by query:
 *            row = query * group + head in group. Standing side by side in lanes, the heads of a
 *            group read K and V once.
 *   panel    up to max_width vectors of rows: what the kernels work on
 *   unit     up to UNIT_PANELS panels of one key head: a task. Its panels share the K and V tiles
 *            that one of them has brought into the cache.
 *   chunk    PA_KEY_CHUNK keys, a fresh running softmax; chunks are merged in key order. Flat
 *            error over long rows, and with few units the chunks are worked on in parallel.
 *   wave     in that case, as many chunks at once as the scratch memory has slots.
 *
 * No number of threads enters here. More than that: which rows share a panel or a unit, and which
 * chunks a wave, changes no bit of any row, since lanes are independent, key blocks and chunks
 * start at fixed keys, and merging is always a left fold over the chunks.
 */
#ifndef PA_PLAN_H
#define PA_PLAN_H

#include "kernels/kernels.h"
#include "pyattn.h"

enum {
  PA_KEY_CHUNK = 8 * PA_KEY_BLOCK,
  PA_UNIT_PANELS = 4,
  PA_MAX_LANES = 64, /* of a panel, any kernel table */
};

typedef struct pa_plan {
  int64_t group, rows;     /* heads per key head; rows = group * queries */
  int64_t vectors, panels; /* per key head */
  int64_t unit_panels;     /* panels per unit, at most PA_UNIT_PANELS */
  int64_t blocks;          /* units per key head */
  int64_t units;           /* in all */
  int64_t chunks;          /* per key head: as far as any query sees */
  int64_t wave;            /* chunks per wave; 0: a unit is one task, chunk after chunk */
  int panel_lanes;         /* lanes of the widest panel */
  int look_ahead;          /* whether there is more than caches hold, and fetching it early pays */
  int64_t d, dv;
  size_t queries_bytes, state_bytes, worker_bytes; /* of a panel, a panel, a worker */
  double work;                                     /* floating-point operations, about */
} pa_plan;

pa_plan pa_plan_attention(const pa_attention_call *call, const pa_kernels *kernels);

/* Whether the sizes of scratch memory can be computed at all without overflow. */
int pa_plan_fits(const pa_attention_call *call);

/* The vectors of a panel: widths differ by one at most, the wider come first. */
void pa_plan_panel(const pa_plan *plan, int64_t panel, int64_t *first_vector, int *width);

/* Scratch bytes beside the workers': parts and totals of units that are worked on in waves. */
size_t pa_plan_wave_bytes(const pa_plan *plan);

#endif
