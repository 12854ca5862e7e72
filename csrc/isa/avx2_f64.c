#define PA_ISA avx2
#define PA_VEC_BYTES 32
#define PA_REGISTERS 16
#define PA_REAL_BITS 64
#include "../kernels/table.inc.h"
