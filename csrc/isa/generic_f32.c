#define PA_ISA generic
#define PA_VEC_BYTES 16
#define PA_REGISTERS 16
#define PA_REAL_BITS 32
#include "../kernels/table.inc.h"
