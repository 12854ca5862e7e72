#define PA_ISA avx512
#define PA_VEC_BYTES 64
#define PA_REGISTERS 32
#define PA_REAL_BITS 64
#include "../kernels/table.inc.h"
