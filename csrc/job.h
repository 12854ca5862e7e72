/* A call at work: what its tasks share, and how a task finds its part. plan.h has the words. */
#ifndef PA_JOB_H
#define PA_JOB_H

#include "geometry.h"
#include "grid.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "plan.h"
#include "pyattn.h"

typedef struct job {
  const pa_attention_call *call;
  const pa_kernels *kernels;
  pa_plan plan;
  pa_team team;
  char *workers;        /* plan.worker_bytes each */
  char *parts, *totals; /* waves only: states, by (unit, chunk of wave, panel) and (unit, panel) */
  int64_t *order, *order_units; /* packed sequences only: see pa_plan_order */
  pa_stretch *lines, *columns;  /* grids only: how the axes are cut */
  int64_t wave_from, wave_to;   /* chunks of the running wave */
} job;

/* One panel of a unit. Row r of a key head is query r / group in head r % group of the group. */
typedef struct panel {
  int width, count; /* vectors; lanes that are not spare */
  int64_t first_row;
  pa_rows lanes; /* the row in each lane; spare lanes repeat the last */
  void *queries;
  const char **rows; /* of the terms that are tables: [table][lane] */
  pa_span any, all;  /* keys that some row may see, that every row may see: by position */
  pa_rectangle seen[PA_MAX_LANES]; /* of a grid: what the row in each lane sees */
} panel;

/* One unit, and where its things lie. */
typedef struct unit {
  int64_t batch, kv_head;
  pa_sequence sequence;
  pa_patch patch; /* grids only: keys are numbered in it, queries are pixels */
  pa_place place;
  pa_cut cut;
  int64_t first_panel, panels;
  const char *key, *value; /* of its key head, unless they are in pages; value may be NULL */
  int few;                 /* whether it is worked on row by row: decode.h */
  pa_span keys;            /* no row of the unit may see a key outside */
  panel panel[PA_UNIT_PANELS];
} unit;

/* Scratch of one worker. */
typedef struct desk {
  int worker;
  pa_ahead *ahead;                       /* what the next unit will want */
  char *queries, *rows, *parts, *totals; /* by panel */
  char *scores, *tiles, *top, *alpha;
  char *keys, *values; /* of a block, widened */
  char *few;           /* see decode.c */
  uint64_t *bits;      /* of the tables of bools: [table][lane] */
} desk;

desk pa_desk_of(const job *j, int worker, pa_ahead *ahead);
void pa_unit_of(const job *j, const desk *s, int64_t index, unit *u);

/* State number `panel` of an array of them. */
pa_state pa_state_at(const job *j, char *states, int64_t panel);

/* Addresses of the panel's rows in an array over the queries, for its first `lanes` lanes. */
void pa_view_rows(const job *j, const unit *u, const pa_view *view, const panel *p, int lanes,
                  char **rows);

/* The memory that unit `index` (-1: none) starts with: its queries, its first keys and values, its
 * output. */
void pa_look_ahead(const job *j, int64_t index, pa_ahead *ahead);

#endif
