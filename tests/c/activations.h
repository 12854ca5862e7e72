/* Activations by the book, in many digits. */
#ifndef ACTIVATIONS_H
#define ACTIVATIONS_H

#include "elements.h"

enum { ACTIVATIONS = PA_RELU + 1 };

/* 1 / (1 + exp(-x)): through what is smaller than 1, so that nothing overflows. */
static loose sigmoid(loose x) {
  const loose e = expl(-fabsl(x));
  return (x < 0 ? e : 1) / (1 + e);
}

/* What the exponential in an activation is of. */
static loose exponent_of(int activation, loose x) {
  switch (activation) {
    case PA_GELU: return x * x / 2;
    case PA_GELU_TANH: return fabsl(x * (1 + 0.044715L * x * x)) * 1.59576912160573071176L;
    case PA_QUICK_GELU: return 1.702L * fabsl(x);
    case PA_SILU: return fabsl(x);
    default: return 0;
  }
}

static loose activated(int activation, loose x) {
  switch (activation) {
    case PA_GELU: return x / 2 * erfcl(-x * 0.707106781186547524401L);
    case PA_GELU_TANH:
    case PA_QUICK_GELU:
    case PA_SILU: return x * sigmoid(copysignl(exponent_of(activation, x), x));
    case PA_RELU: return x < 0 ? 0 : x;
    default: return x;
  }
}

/* How far from that a kernel may be, as measured by test_activations.c: in units of the type, of
 * the result, and what it may be off by besides. What the exponential is of is rounded too, which
 * counts where the result is little else than that exponential; without fused multiply-adds, more
 * often. */
static double activation_units(int activation, double x) {
  static const double always[ACTIVATIONS] = {0, 9, 7, 5, 5, 0};
  static const double exponent[ACTIVATIONS] = {0, 4, 4, 2, 0.1, 0};
  const double t = (double)exponent_of(activation, x), more = always[activation] > 0 && !fused();
  const double own = sizeof(loose) > real_bytes() ? 1 : 2; /* plain loops are off as well */
  return own * (always[activation] + (exponent[activation] + more) * (x < 0 ? t : fmin(t, 1)));
}
static double activation_rest(int activation, double x) {
  const int exact = activation == PA_IDENTITY || activation == PA_RELU;
  return exact ? 0 : 2 * (1 + fabs(x)) * real_min();
}

#endif
