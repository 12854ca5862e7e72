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

/* The end of the keys that any query may see; at most 0: none sees any. */
int64_t pa_visible_last(const pa_attention_call *call);

/* The number of batch elements: the product of the leading extents. */
int64_t pa_batch(const pa_attention_call *call);

#endif
