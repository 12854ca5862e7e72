#define PA_ISA neon
#define PA_VEC_BYTES 16
#define PA_REGISTERS 32
#define PA_REAL_BITS 32
#include "../kernels/table.inc.h"
