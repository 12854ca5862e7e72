/* Packed weights of a linear layer: a header, the bias, then panels of outputs (plan.h has the
 * words), each [input][lane] in the type that is stored. Made once, for the lanes of one
 * instruction set; tasks read them in the order in which they lie. */
#ifndef PA_WEIGHTS_H
#define PA_WEIGHTS_H

#include "plan.h"
#include "pyattn.h"

typedef struct pa_weights {
  pa_type type;         /* of the bias, and computed in */
  pa_element stored;    /* of the panels */
  int lanes, max_width; /* of the kernels it is made for */
  int64_t inputs, outputs;
  pa_cut cut;                       /* outputs as rows of panels */
  size_t real_bytes, stored_bytes;  /* of a number */
  size_t bias_at, panels_at, bytes; /* bytes is 0 if it cannot be computed without overflow */
} pa_weights;

pa_weights pa_weights_of(const void *packed);

/* Whether these kernels can read them. */
int pa_weights_fit(const pa_weights *w, const pa_kernels *kernels);

/* Where a panel lies; which outputs it has. */
const char *pa_weights_panel(const pa_weights *w, const void *packed, int64_t panel,
                             int64_t *first_output, int *width);

#endif
