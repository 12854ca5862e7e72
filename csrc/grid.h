/* Queries and keys that are the pixels of a grid, each of which sees a rectangle of it: the grid is
 * cut into patches, rectangles of queries with the rectangle of all keys that these see. A patch is
 * worked on like a short sequence of its own, its queries and keys numbered line by line, so that
 * what is computed grows with the rectangles and not with the grid. */
#ifndef PA_GRID_H
#define PA_GRID_H

#include "geometry.h"

/* One axis of a patch: `count` places from `first` on, which see keys among `keys` places from
 * `first_key` on; both in steps of the axis. */
typedef struct pa_stretch {
  int64_t first, count, first_key, keys;
} pa_stretch;

typedef struct pa_patch {
  pa_stretch lines, columns;
} pa_patch;

/* Of those keys of a patch the lines and columns that a query sees. */
typedef struct pa_rectangle {
  int32_t first_line, last_line, first_column, last_column;
} pa_rectangle;

/* An axis is cut where neighbours share no key, and after `longest` places unless all see the same
 * keys. Goes to the next stretch (the first one after {0}); 0 if there is none. */
int pa_grid_next(const pa_grid_axis *axis, int64_t longest, pa_stretch *stretch);

/* How an axis is cut: the longest stretch where windows slide, how many there are, and of all of
 * them the most places and the most keys. */
typedef struct pa_axis_plan {
  int64_t longest, stretches, count, keys;
} pa_axis_plan;

/* So that patches have about 64 queries, more only where they all see the same. */
typedef struct pa_grid_plan {
  pa_axis_plan lines, columns;
} pa_grid_plan;

pa_grid_plan pa_grid_plan_of(const pa_grid *grid);

/* All stretches of an axis. */
void pa_grid_stretches(const pa_grid_axis *axis, int64_t longest, pa_stretch *to);

/* The pixel that is the query in a line and column of a patch, and what it sees. */
int64_t pa_patch_query(const pa_grid *grid, const pa_patch *patch, int64_t line, int64_t column);
pa_rectangle pa_patch_seen(const pa_grid *grid, const pa_patch *patch, int64_t line,
                           int64_t column);

/* The pixel that is the key of that number. */
int64_t pa_patch_key(const pa_grid *grid, const pa_patch *patch, int64_t key);

/* What any of the queries may see, as numbers of keys, and what surely all see. */
void pa_patch_range(const pa_patch *patch, const pa_rectangle *seen, int count, pa_span *any,
                    pa_span *all);

/* Of at most 64 keys those in the lines, in the columns of a rectangle: bit k for key number
 * keys.first + k. */
uint64_t pa_patch_line_bits(const pa_patch *patch, const pa_rectangle *seen, pa_span keys);
uint64_t pa_patch_column_bits(const pa_patch *patch, const pa_rectangle *seen, pa_span keys);

static inline int64_t pa_patch_queries(const pa_patch *patch) {
  return patch->lines.count * patch->columns.count;
}
static inline int64_t pa_patch_keys(const pa_patch *patch) {
  return patch->lines.keys * patch->columns.keys;
}

#endif
