/* Few query rows against long keys: a generated token, or some, in a group of heads. */
#ifndef PA_DECODE_H
#define PA_DECODE_H

#include "job.h"

/* The blocks from `first` to `last` into fresh states, one for each panel of the unit, as the
 * states that many rows have. */
void pa_decode_chunk(job *j, const unit *u, const desk *s, pa_span keys, char *states);

#endif
