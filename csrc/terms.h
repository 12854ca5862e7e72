/* Masks and biases. A block of keys can be asked what it is to a panel: all of it seen (the lean
 * kernels), nothing (skipped before K is read), or partly: then a tile is made that is added to the
 * scores, -inf where nothing may be seen. */
#ifndef PA_TERMS_H
#define PA_TERMS_H

#include "job.h"

/* In order: all of several is the least of them, one of several the greatest. */
typedef enum pa_sight { PA_NOTHING_SEEN, PA_PARTLY_SEEN, PA_ALL_SEEN } pa_sight;

/* Finds the rows of all tables for a panel; needed once per unit, before the first look. */
void pa_terms_rows(const job *j, const unit *u, const panel *p);

/* Of the panel, the keys `keys` (of one block) are what? PA_PARTLY_SEEN: the tile lies at s->tiles.
 * seen[lane] |= whether the lane's row may see any of them. */
pa_sight pa_terms_look(const job *j, const unit *u, const desk *s, const panel *p, pa_span keys,
                       unsigned char *seen);

/* Lets the kernels ask for the part of the (first) table that will be looked at after the block at
 * `from` for this panel: its rows lie far apart, too many streams for the hardware to foresee. */
void pa_terms_ahead(const job *j, const unit *u, const desk *s, const panel *p, int64_t from);

#endif
