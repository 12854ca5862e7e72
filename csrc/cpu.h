/* What this processor, under this operating system, can run. */
#ifndef PA_CPU_H
#define PA_CPU_H

int pa_cpu_has_avx2(void);   /* AVX2 and FMA */
int pa_cpu_has_avx512(void); /* AVX-512 F, VL, BW, DQ (Skylake-X, Zen 4 and later) */

#endif
