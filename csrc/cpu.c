#include "cpu.h"

#if defined(PA_EMULATED) /* compiled without the instructions: runs anywhere (make check-emulated) \
                          */
int pa_cpu_has_avx2(void) { return 1; }
int pa_cpu_has_avx512(void) { return 1; }
#elif defined(__x86_64__)
#include <cpuid.h>

/* Of which compilers' run times know nothing. Its registers are saved if those of AVX are. */
static int has_f16c(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* The compiler's run time reads cpuid, and xgetbv for what the operating system saves. */
int pa_cpu_has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

int pa_cpu_has_avx512(void) {
  __builtin_cpu_init();
  return pa_cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq");
}
#else
int pa_cpu_has_avx2(void) { return 0; }
int pa_cpu_has_avx512(void) { return 0; }
#endif
