/* A square: the block of keys at `from` (a multiple of PA_KEY_BLOCK) against one panel of queries.
 */
#ifndef PA_SQUARE_H
#define PA_SQUARE_H

#include "job.h"
#include "terms.h"

/* Its scores with all that is added to them, hidden ones at -inf, and their largest, into the desk.
 * *keys: those looked at. seen[lane] |= whether the lane's row may see one of them. */
pa_sight pa_square_scores(const job *j, const unit *u, const desk *s, const panel *p, int64_t from,
                          pa_span *keys, unsigned char *seen);

/* Adds the square to the panel's state. Guarded: hidden values do not even meet a weight of 0. */
pa_sight pa_square_attend(const job *j, const unit *u, const desk *s, const panel *p, int64_t from,
                          int guarded, pa_state *state);

#endif
