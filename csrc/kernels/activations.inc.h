/* Activations: what a layer does to each of its outputs. By pa_activation, a constant after
 * inlining. NaN stays NaN. */
#ifndef PA_ACTIVATIONS_INC_H
#define PA_ACTIVATIONS_INC_H

#include <math.h>

#include "kernels.h"
#include "vec_math.h"

/* 1 / (1 + exp(-x)), whose exponential never overflows. */
PA_INLINE vf sigmoid(vf x) {
  const vf e = vf_exp(vf_set1(0) - vf_abs(x)), one = vf_set1(1);
  return vf_select((vi)(x < vf_set1(0)), e, one) / (one + e);
}

/* x * Phi(x), Phi the normal distribution: Hendrycks and Gimpel 2016, arXiv 1606.08415.
 *
 * In single precision max(x, 0) - a * Phi(-a) with a = |x|, and Phi(-a) = exp(-a**2 / 2) * t *
 * P(t), t = 1 / (1 + 0.26 a): the form of Hastings (Abramowitz and Stegun 7.1.26), which keeps the
 * digits of the negative tail. P: minimax of the relative error (Remez, 50 digits), 2.9e-8 for a
 * up to 14.6, where the product has long vanished; a is held at 15, so that infinity is no NaN. */
PA_INLINE vf gelu(vf x) {
#if PA_REAL_BITS == 32
  static const real c[] = {0.103756632598F,  0.103057564058F,  0.102741862492F,
                           0.0521474767523F, 0.15833000103F,   -0.147167871108F,
                           0.248188717094F,  -0.151230166579F, 0.0301757692799F};
  enum { degree = sizeof c / sizeof c[0] - 1 };
  const vf a = vf_set1(0) - vf_max(vf_set1(-15), vf_set1(0) - vf_abs(x)); /* NaN, second, stays */
  const vf t = vf_set1(1) / vf_fma(vf_set1(0.26F), a, vf_set1(1));
  vf p = vf_set1(c[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) p = vf_fma(p, t, vf_set1(c[i]));
  const vf tail = a * t * p * vf_exp(a * a * vf_set1(-0.5F));
  return vf_max(vf_set1(0), x) - tail;
#else
  vf y = x;
  for (int l = 0; l < LANES; ++l) y[l] = x[l] * 0.5 * erfc(x[l] * -0.70710678118654752440);
  return y;
#endif
}

/* x * sigmoid(1.5957691... * (x + 0.044715 x**3)): with tanh(u) = 2 sigmoid(2u) - 1 the same as
 * x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x**3))) of the paper above. */
PA_INLINE vf gelu_tanh(vf x) {
  const vf cubic = vf_fma(x * x, vf_set1((real)0.044715), vf_set1(1));
  return x * sigmoid(x * cubic * vf_set1((real)1.59576912160573071176));
}

enum { IDENTITY, GELU, GELU_TANH, QUICK_GELU, SILU, RELU }; /* in the order of pa_activation */

PA_INLINE vf activate(const int activation, vf x) {
  switch (activation) {
    case GELU: return gelu(x);
    case GELU_TANH: return gelu_tanh(x);
    case QUICK_GELU: return x * sigmoid(x * vf_set1((real)1.702));
    case SILU: return x * sigmoid(x);
    case RELU: return vf_max(vf_set1(0), x);
    default: return x;
  }
}

#endif
