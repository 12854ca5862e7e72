/* Functions of one vector. Each states its error bound and where its coefficients come from. */
#ifndef PA_VEC_MATH_H
#define PA_VEC_MATH_H

#include "vec.h"

#if PA_REAL_BITS == 32
#define EXP2_FLOOR -127.0F
#define EXP2_SHIFT 12583039.0F /* 1.5 * 2**23 + 127 */
#define MANTISSA_BITS 23
#else
#define EXP2_FLOOR -1023.0
#define EXP2_SHIFT 6755399441056767.0 /* 1.5 * 2**52 + 1023 */
#define MANTISSA_BITS 52
#endif

PA_INLINE vf vf_abs(vf x) { return (vf)((vi)x & ~(vi)vf_set1((real)-0.0)); }

/* (2**f - 1) / f for f in [-1/2, 1/2], so that 2**f is 1 + f times it. The constant term is exactly
 * 1: 2**0 must be exactly 1, so that a row passes through a block it may not see without a changed
 * bit. Coefficients: minimax of the relative error of the quotient itself (Remez, 50 digits), which
 * is what tanh of small numbers needs. Rounded, the quotient is off by 2.1e-8 (float), 5.4e-17
 * (double), and 2**f by 6.5e-9, 2.1e-17, so what is left is rounding: under 1 ulp with a fused
 * multiply-add, 1.2 without. */
PA_INLINE vf vf_exp2_quotient(vf f) {
#if PA_REAL_BITS == 32
  static const real c[] = {0.69314718793F,   0.24022649795F,   0.055503574336F,
                           0.0096182374949F, 0.0013390735478F, 0.00015403512368F};
#else
  static const real c[] = {
      0.6931471805599453112,      0.24022650695910097888,   0.055504108664821236534,
      0.0096181291076070656693,   0.0013333558146531632859, 0.00015403530441480679921,
      0.000015252733701214656492, 1.321544272423112757e-6,  1.0178121299165704425e-7,
      7.0725617019303205134e-9,   4.4455372281544427333e-10};
#endif
  enum { degree = sizeof c / sizeof c[0] - 1 };
  vf p = vf_set1(c[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) p = vf_fma(p, f, vf_set1(c[i]));
  return p;
}

/* t, at least EXP2_FLOOR, as n + f with n whole and |f| <= 1/2: returns f, *power = 2**n. Adding
 * the shift rounds t to n and leaves n + exponent bias in the low bits. */
PA_INLINE vf vf_exp2_split(vf t, vf *power) {
  const vf shifted = t + vf_set1(EXP2_SHIFT);
  *power = (vf)((vi)shifted << MANTISSA_BITS);
  return t - (shifted - vf_set1(EXP2_SHIFT));
}

/* 2**t for t <= 0. NaN gives NaN. Where t rounds to a whole number of EXP2_FLOOR or less the result
 * is exactly 0; a little above it may be denormal. */
PA_INLINE vf vf_exp2(vf t) {
  vf power;
  const vf f = vf_exp2_split(vf_max(vf_set1(EXP2_FLOOR), t), &power); /* NaN, second, stays */
  /* A product, not an integer addition to the exponent, so that NaN stays NaN. */
  return vf_fma(vf_exp2_quotient(f), f, vf_set1(1)) * power;
}

/* exp(x) for x <= 0. As 2**t with t = log2(e) * x, whose fraction is made with log2(e) in two
 * parts: rounding t alone would cost |t| units. Under 1 ulp with a fused multiply-add; without one
 * the product is rounded, and it does cost them. */
PA_INLINE vf vf_exp(vf x) {
#if PA_REAL_BITS == 32
  const real high = 1.44269502F, low = 1.92596299e-8F, lowest = -88.02969F;
#else
  const real high = 1.4426950408889634, low = 2.0355273740931033e-17, lowest = -709.0895657128241;
#endif
  const vf held = vf_max(vf_set1(lowest), x); /* NaN, second, stays */
  const vf shifted = held * vf_set1(high) + vf_set1(EXP2_SHIFT);
  const vf power = (vf)((vi)shifted << MANTISSA_BITS);
  vf f = vf_fma(held, vf_set1(high), vf_set1(EXP2_SHIFT) - shifted);
  f = vf_fma(held, vf_set1(low), f);
  return vf_fma(vf_exp2_quotient(f), f, vf_set1(1)) * power;
}

/* tanh(x) where t = -2 log2(e) |x| is given, and the sign is that of `x`: (1 - e) / (1 + e) with
 * e = 2**t. With m = e - 1 it is -m / (2 + m), and m = 2**n f q(f) + (2**n - 1) cancels nothing:
 * for small x, n is 0. Under 3 ulp, measured; |result| <= 1. */
PA_INLINE vf vf_tanh_from(vf t, vf x) {
  vf power;
  const vf f = vf_exp2_split(vf_max(vf_set1(EXP2_FLOOR), t), &power);
  const vf m = vf_fma(vf_exp2_quotient(f) * f, power, power - vf_set1(1));
  const vi sign = (vi)x & (vi)vf_set1((real)-0.0);
  return (vf)((vi)(m / (vf_set1(-2) - m)) | sign);
}

#endif
