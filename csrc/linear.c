/* The driver of linear layers: y = activation(x W^T + bias), times a gate, plus a residual.
 *
 *   block    up to ROW_BLOCK rows of x. They are read where they lie, or copied first if they do
 *            not lie evenly or have gaps between their numbers.
 *   panel    up to three vectors of outputs (weights.h). For each: the sums of the block, SUM_STEPS
 *            inputs at a time, so that the part of the panel stays in L2 while the rows pass; with
 *            the last part they become results.
 *   task     a block and some panels. Nothing of this depends on the number of threads; and a
 *            result is the same chain of sums whatever its block and panel.
 */
#include <string.h>

#include "dispatch.h"
#include "parallel.h"
#include "plane.h"
#include "scratch.h"
#include "weights.h"

enum {
  ROW_BLOCK = 128,  /* of the weights that pass by for them, little then comes from L3 */
  SUM_STEPS = 512,  /* inputs of one chain; longer sums are made of several */
  WIDEN_ROWS = 8,   /* for which halves are widened where they are used, not beforehand */
  MANY_TASKS = 256, /* about so many, or one for each block: enough for a large server */
};

/* Of a task, at least: below it the handing out begins to show. A number of the weights has to come
 * from a farther cache, or from memory: with few rows that is what takes the time. */
static const double TASK_WORK = 0.2e6, WORK_PER_WEIGHT = 8;

typedef struct job {
  const pa_linear_call *call;
  const pa_kernels *kernels;
  pa_team team;
  pa_weights weights[PA_MAX_LAYERS];
  int64_t first_panel[PA_MAX_LAYERS + 1]; /* panels of all layers, counted through */
  int64_t blocks, task_panels, groups;
  double work;
  size_t copy_bytes; /* of a copied row; 0: they are read where they lie */
  size_t x_bytes, sums_bytes, panel_bytes, worker_bytes;
  char *scratch;
} job;

/* Whether the rows of all blocks lie evenly, each contiguous. */
static int lie_evenly(const pa_linear_call *c, size_t real) {
  const pa_axis *row = &c->x.row;
  return (row->inner >= c->rows || row->outer == row->inner * row->stride) &&
         c->x.col.inner >= c->inputs && c->x.col.stride == (int64_t)real;
}

static void copy_rows(const job *j, int64_t first, int rows, char *to) {
  const pa_plane *x = &j->call->x;
  const size_t real = (size_t)j->kernels->real_bytes;
  for (int r = 0; r < rows; ++r, to += j->copy_bytes) {
    const char *from = pa_plane_row(x, first + r);
    for (int64_t k = 0; k < j->call->inputs; ++k)
      memcpy(to + (size_t)k * real, from + pa_axis_place(&x->col, k), real);
  }
}

/* Where the rows of a block and the lanes of a panel lie in one of the arrays of a layer. */
typedef struct places {
  ptrdiff_t rows[ROW_BLOCK], cols[PA_MAX_LANES];
} places;

/* A block of rows, a panel's outputs, and their places in the arrays of the layer. */
typedef struct piece {
  int64_t first_row, first_output;
  int rows, outputs;
  pa_matrix x;
  places out, gate, residual;
} piece;

static void place_rows(const pa_plane *plane, const piece *p, places *to) {
  if (plane->data) pa_axis_places(&plane->row, p->first_row, p->rows, to->rows);
}

static pa_outlet place_cols(const job *j, const pa_plane *plane, const piece *p, places *to) {
  if (!plane->data) return (pa_outlet){NULL, NULL, NULL, 0};
  const int lanes = j->kernels->lanes, real = j->kernels->real_bytes;
  pa_axis_places(&plane->col, p->first_output, p->outputs, to->cols);
  unsigned beside = 0;
  for (int vector = 0; (vector + 1) * lanes <= p->outputs; ++vector) {
    unsigned together = 1;
    for (int c = vector * lanes + 1; c < (vector + 1) * lanes; ++c)
      together &= to->cols[c] == to->cols[c - 1] + real;
    beside |= together << vector;
  }
  return (pa_outlet){plane->data, to->rows, to->cols, beside};
}

/* One panel of outputs for one block of rows. */
static void piece_of_layer(const job *j, int layer, int64_t panel, piece *p, char *desk) {
  const pa_layer *l = &j->call->layers[layer];
  const pa_weights *w = &j->weights[layer];
  const pa_kernels *kernels = j->kernels;
  char *sums = desk + j->x_bytes, *wide = sums + j->sums_bytes;
  int width;
  const char *from = pa_weights_panel(w, l->packed, panel, &p->first_output, &width);
  const int lanes = width * w->lanes, halves = w->stored_bytes != w->real_bytes;
  p->outputs = (int)min64(lanes, w->outputs - p->first_output);
  const pa_completion completion = {
      .activation = l->activation,
      .count = p->outputs,
      .bias = (const char *)l->packed + w->bias_at + (size_t)p->first_output * w->real_bytes,
      .out = place_cols(j, &l->out, p, &p->out),
      .gate = place_cols(j, &l->gate, p, &p->gate),
      .residual = place_cols(j, &l->residual, p, &p->residual),
  };
  for (int64_t input = 0; input < w->inputs; input += SUM_STEPS) {
    const int64_t steps = min64(SUM_STEPS, w->inputs - input);
    const pa_matrix x = {p->x.data + (size_t)input * w->real_bytes, p->x.row, 0};
    const int few = halves && p->rows <= WIDEN_ROWS;
    const char *weights = from;
    if (halves && !few) {
      kernels->widen[w->stored](wide, from, (ptrdiff_t)steps * lanes);
      weights = wide;
    }
    (few ? kernels->linear_few[w->stored] : kernels->linear)(
        &x, p->rows, (ptrdiff_t)steps, weights, width, input == 0, sums,
        input + steps == w->inputs ? &completion : NULL);
    from += (size_t)(steps * lanes) * w->stored_bytes;
  }
}

static void task(void *data, int64_t number, int64_t next, int worker) {
  (void)next;
  job *j = data;
  char *desk = j->scratch + (size_t)worker * j->worker_bytes;
  piece p = {.first_row = number / j->groups * ROW_BLOCK};
  p.rows = (int)min64(ROW_BLOCK, j->call->rows - p.first_row);
  p.x = (pa_matrix){pa_plane_row(&j->call->x, p.first_row), j->call->x.row.stride, 0};
  if (j->copy_bytes) {
    copy_rows(j, p.first_row, p.rows, desk);
    p.x = (pa_matrix){desk, (ptrdiff_t)j->copy_bytes, 0};
  }
  const int64_t from = number % j->groups * j->task_panels;
  const int64_t to = min64(from + j->task_panels, j->first_panel[j->call->layer_count]);
  int layer = -1;
  for (int64_t panel = from; panel < to; ++panel) {
    if (pa_team_cancelled(&j->team, worker)) return;
    while (layer < 0 || panel >= j->first_panel[layer + 1]) {
      const pa_layer *l = &j->call->layers[++layer];
      place_rows(&l->out, &p, &p.out);
      place_rows(&l->gate, &p, &p.gate);
      place_rows(&l->residual, &p, &p.residual);
    }
    piece_of_layer(j, layer, panel - j->first_panel[layer], &p, desk);
  }
}

/* Blocks, tasks and scratch bytes. */
static void plan(job *j) {
  const pa_linear_call *c = j->call;
  const size_t real = (size_t)j->kernels->real_bytes;
  double outputs = 0;
  int halves = 0;
  for (int n = 0; n < c->layer_count; ++n) {
    j->weights[n] = pa_weights_of(c->layers[n].packed);
    j->first_panel[n + 1] = j->first_panel[n] + j->weights[n].cut.panels;
    outputs += (double)j->weights[n].outputs;
    halves |= j->weights[n].stored_bytes != real;
  }
  const int64_t panels = j->first_panel[c->layer_count];
  j->work = (2 * (double)c->rows + WORK_PER_WEIGHT) * (double)c->inputs * outputs;
  j->blocks = ceil_div(c->rows, ROW_BLOCK);
  const int64_t tasks = min64(MANY_TASKS, 1 + (int64_t)(j->work / TASK_WORK));
  j->task_panels = max64(1, panels * j->blocks / tasks);
  j->groups = ceil_div(panels, j->task_panels);
  const size_t lanes = (size_t)(j->kernels->lanes * j->kernels->max_width);
  if (!lie_evenly(c, real)) j->copy_bytes = pa_scratch_round((size_t)c->inputs * real);
  j->x_bytes = (size_t)min64(ROW_BLOCK, c->rows) * j->copy_bytes;
  j->sums_bytes = pa_scratch_round(ROW_BLOCK * lanes * real);
  j->panel_bytes = halves ? pa_scratch_round(SUM_STEPS * lanes * real) : 0;
  j->worker_bytes = j->x_bytes + j->sums_bytes + j->panel_bytes;
}

/* Whether results are written over what they are made of: then nothing can be done twice. */
static int in_place(const pa_linear_call *c) {
  for (int n = 0; n < c->layer_count; ++n) {
    const pa_layer *l = &c->layers[n];
    if (l->out.data == l->gate.data || l->out.data == l->residual.data) return 1;
  }
  return 0;
}

pa_status pa_linear(pa_linear_call *call) {
  job j = {.call = call, .kernels = pa_dispatch(call->type)};
  plan(&j);
  for (int n = 0; n < call->layer_count; ++n)
    if (!pa_weights_fit(&j.weights[n], j.kernels)) return PA_FOREIGN;
  const int64_t tasks = j.blocks * j.groups;
  const int over_inputs = in_place(call);
  pa_team_begin(&j.team, tasks, j.work, over_inputs ? NULL : call->poll);
  call->scratch_bytes = (size_t)j.team.workers * j.worker_bytes;
  pa_status status = PA_NO_MEMORY;
  j.scratch = pa_scratch_take(call->scratch_bytes);
  if (j.scratch) {
    status = pa_team_run(&j.team, tasks, task, &j);
    if (!over_inputs && pa_team_lost(&j.team)) status = pa_team_run(&j.team, tasks, task, &j);
    pa_scratch_give(j.scratch);
  }
  pa_team_end(&j.team);
  return status;
}
