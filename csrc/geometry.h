/* Which keys a query may see. A mask source is something a block of keys can be asked about: all
 * seen (the lean kernels), none (skipped before K is read), or some (`hide`, row by row). */
#ifndef PA_GEOMETRY_H
#define PA_GEOMETRY_H

#include "pyattn.h"

/* Keys first <= j < last; empty if first >= last. */
typedef struct pa_span {
  int64_t first, last;
} pa_span;

/* What query `query` of batch element `b` may see. Both ends never fall from query to query. */
pa_span pa_visible(const pa_attention_call *call, int64_t b, int64_t query);

#endif
