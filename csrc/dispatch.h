/* The choice of instruction set. */
#ifndef PA_DISPATCH_H
#define PA_DISPATCH_H

#include "kernels/kernels.h"
#include "pyattn.h"

/* The kernels of the selected instruction set; the best runnable one if none was selected. */
const pa_kernels *pa_dispatch(pa_type type);

#endif
