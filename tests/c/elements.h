/* Numbers of every type by the book: rounded, written, and those that are hard to round. */
#ifndef ELEMENTS_H
#define ELEMENTS_H

#include "tables.h"

/* What plain loops compute in. On x86-64 more digits than any type here; soft and slow elsewhere.
 */
#if defined(CHECK_UNDER_QEMU)
typedef double loose;
#else
typedef long double loose;
#endif

static int is_half(pa_element e) { return element_bytes[e] == 2; }

/* x as a number of the type: to nearest, ties to even. */
static double element_rounded(pa_element e, loose x) {
  if (e == PA_ELEMENT_FLOAT64) return (double)x;
  if (e == PA_ELEMENT_FLOAT32) return (double)(float)x;
  const int digits = e == PA_ELEMENT_FLOAT16 ? 11 : 8, last = e == PA_ELEMENT_FLOAT16 ? -24 : -133;
  const double wide = (double)x, past = e == PA_ELEMENT_FLOAT16 ? 0x1p16 : 0x1p128;
  if (!isfinite(wide) || wide == 0) return wide;
  int exponent;
  frexp(wide, &exponent);
  const int place = exponent - digits > last ? exponent - digits : last;
  const double near = ldexp(nearbyint(ldexp(wide, -place)), place);
  return fabs(near) >= past ? copysign(HUGE_VAL, wide) : near;
}

static void element_put(pa_element e, char *to, double x) {
  const double value = element_rounded(e, x), size = fabs(value);
  const float single = (float)value;
  const void *from[] = {NULL, NULL, &single, &value};
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  uint16_t half = (uint16_t)(bits >> 16);
  if (e == PA_ELEMENT_FLOAT16) {
    int exponent;
    const double fraction = frexp(size, &exponent); /* 0.5 <= fraction < 1 */
    half = (uint16_t)(isnan(value)     ? 0x7E00
                      : isinf(value)   ? 0x7C00
                      : size < 0x1p-14 ? size * 0x1p24
                                       : (exponent + 14) * 1024 + (fraction * 2048 - 1024));
    half = (uint16_t)(half | (signbit(value) ? 0x8000 : 0));
  }
  memcpy(to, is_half(e) ? &half : from[e], (size_t)element_bytes[e]);
}

enum { NEAR_HALF = 4 };

/* Floats of either sign: half way between a finite half and the next, on both sides of that, and
 * any. */
static void near_half(pa_element e, uint16_t half, float *to) {
  const uint16_t above = (uint16_t)(half + 1);
  const uint16_t infinity = e == PA_ELEMENT_FLOAT16 ? 0x7C00 : 0x7F80;
  const double low = element_at(e, (const char *)&half);
  const double high = above == infinity ? (e == PA_ELEMENT_FLOAT16 ? 0x1p16 : 0x1p128)
                                        : element_at(e, (const char *)&above);
  const float middle = (float)((low + high) / 2);
  const float three[] = {nextafterf(middle, 0), middle, nextafterf(middle, HUGE_VALF)};
  for (int i = 0; i < NEAR_HALF; ++i) {
    const uint32_t bits = (uint32_t)(uniform() * 0x7F800000);
    float x;
    if (i < 3) x = three[i];
    else memcpy(&x, &bits, sizeof x);
    to[i] = below(2) ? x : -x;
  }
}

#endif
