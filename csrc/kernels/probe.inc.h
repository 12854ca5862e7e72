/* Measuring sticks: how fast this machine can multiply and read, by the same vectors. */
#ifndef PA_PROBE_INC_H
#define PA_PROBE_INC_H

#include "kernels.h"
#include "vec.h"

static double burn_kernel(int64_t rounds) {
  enum { chains = PA_REGISTERS >= 32 ? 24 : 12 };
  vf x[chains];
  for (int i = 0; i < chains; ++i) x[i] = vf_set1((real)i);
  vf a = vf_set1((real)0.5), b = vf_set1(1);
  __asm__ volatile("" : "+m"(a), "+m"(b)); /* the compiler must not know them */
  for (int64_t k = 0; k < rounds; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) x[i] = vf_fma(x[i], a, b);
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) x[i] = vf_fma(x[i], a, b);
  }
  for (int i = 0; i < chains; ++i) __asm__ volatile("" ::"m"(x[i]));
  return (double)rounds * 2 * 2 * chains * LANES;
}

static double read_kernel(const char *data, size_t bytes) {
  enum { chains = 8 };
  vf x[chains];
  for (int i = 0; i < chains; ++i) x[i] = vf_set1(0);
  for (size_t at = 0; at + chains * sizeof(vf) <= bytes; at += chains * sizeof(vf)) {
#pragma GCC unroll 8
    for (size_t i = 0; i < chains; ++i) x[i] = x[i] + vf_load(data + at + i * sizeof(vf));
  }
  double sum = 0;
  for (int i = 0; i < chains; ++i)
    for (int l = 0; l < LANES; ++l) sum += (double)x[i][l];
  return sum;
}

static void copy_kernel(char *to, const char *from, size_t bytes) {
  enum { line = 64 }; /* whole lines, or memory would be read all the same */
  const size_t before = (size_t)(-(uintptr_t)to % line);
  const size_t head = before < bytes ? before : bytes, lines = (bytes - head) / line;
  __builtin_memcpy(to, from, head);
  to += head, from += head;
  for (size_t i = 0; i < lines; ++i, to += line, from += line) stream_bytes(to, from, line);
  __builtin_memcpy(to, from, bytes - head - lines * line);
  vf_stream_end();
}

#endif
