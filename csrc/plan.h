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
 *   sequence a batch element; packed ones differ in their numbers of queries and keys.
 *
 * No number of threads enters here. More than that: which rows share a panel or a unit, and which
 * chunks a wave, changes no bit of any row, since lanes are independent, key blocks and chunks
 * start at fixed keys, and merging is always a left fold over the chunks.
 */
#ifndef PA_PLAN_H
#define PA_PLAN_H

#include "geometry.h"
#include "grid.h"
#include "kernels/kernels.h"
#include "pyattn.h"

enum {
  PA_KEY_CHUNK = 8 * PA_KEY_BLOCK,
  PA_UNIT_PANELS = 4,
  PA_MAX_LANES = PA_MAX_ROWS, /* of a panel, any kernel table */
};

/* How the rows of one key head of one sequence are cut. */
typedef struct pa_cut {
  int64_t rows, vectors, panels; /* rows = group * queries */
  int64_t blocks;                /* units */
} pa_cut;

typedef struct pa_plan {
  int64_t group;        /* heads per key head */
  int64_t unit_panels;  /* panels per unit, at most PA_UNIT_PANELS */
  int64_t units;        /* in all */
  int64_t first_chunk;  /* of those that any query sees */
  int64_t chunks;       /* per key head: as far as any query sees */
  int64_t wave;         /* chunks per wave; 0: a unit is one task, chunk after chunk */
  int lanes, max_width; /* of a vector, in vectors of a panel */
  int panel_lanes;      /* lanes of the widest panel */
  int tables;           /* how many terms are tables */
  int tiles;            /* scratch tiles that the terms need, see terms.c */
  int look_ahead;       /* whether there is more than caches hold, and fetching it early pays */
  pa_cut cut;           /* of every key head, unless there are packed sequences; of a grid only
                           `blocks` counts */
  pa_grid_plan grid;
  int64_t patch_blocks; /* of each patch of a grid */
  int64_t d, dv;
  int64_t whole_d, whole_dv; /* in whole vectors */
  pa_element element;        /* that kernels compute in */
  /* Whether they can read keys (values) where these lie, in units of many rows, of few. */
  int keys_fit[2], values_fit[2];
  size_t queries_bytes, state_bytes, tile_bytes; /* of a panel */
  size_t rows_bytes, bits_bytes;   /* of a panel: addresses of table rows, bits of tables */
  size_t keys_bytes, values_bytes; /* of a block, if they do not fit */
  size_t few_bytes;                /* of units of few rows */
  size_t worker_bytes;             /* of a worker */
  size_t order_bytes, grid_bytes;  /* of the whole call */
  double work;                     /* floating-point operations, about */
} pa_plan;

pa_plan pa_plan_attention(const pa_attention_call *call, const pa_kernels *kernels);

/* Whether `rows` rows of a key head are few: memory is what limits them, see decode.c. */
int pa_plan_few(const pa_attention_call *call, int64_t rows);

pa_cut pa_plan_cut(const pa_plan *plan, int64_t queries);

/* Packed sequences only. The heaviest first: order[n] is the n-th sequence to be worked on,
 * units[n] how many units come before it, units[batch] all. Room for batch, batch + 1. */
void pa_plan_order(const pa_attention_call *call, const pa_plan *plan, int64_t *order,
                   int64_t *units);

/* Whether the sizes of scratch memory can be computed at all without overflow. */
int pa_plan_fits(const pa_attention_call *call);

/* The vectors of a panel: widths differ by one at most, the wider come first. */
void pa_plan_panel(const pa_cut *cut, int64_t panel, int64_t *first_vector, int *width);

/* Scratch bytes for the parts and totals of units that are worked on in waves. */
size_t pa_plan_wave_bytes(const pa_plan *plan);

#endif
