/* A square: one block of keys against one panel of queries. */
#ifndef PA_SQUARE_H
#define PA_SQUARE_H

#include "block.h"
#include "terms.h"

/* What it is to the panel, before any product. *keys: those to look at. seen[lane] |= whether the
 * lane's row may see one of them. Partly seen: the tile to add is on the desk. */
pa_sight pa_square_look(const job *j, const unit *u, const desk *s, const panel *p, int64_t from,
                        pa_span *keys, unsigned char *seen);

/* Its scores with all that is added to them, hidden ones at -inf, and their largest, into the desk.
 */
pa_sight pa_square_scores(const job *j, const unit *u, const desk *s, const panel *p, block *b,
                          pa_span *keys, unsigned char *seen);

/* Adds the square to the panel's state. Guarded: hidden values do not even meet a weight of 0. */
pa_sight pa_square_attend(const job *j, const unit *u, const desk *s, const panel *p, block *b,
                          int guarded, pa_state *state);

#endif
