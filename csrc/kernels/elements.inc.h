/* Numbers of any type as `real`, and back. LANES contiguous ones (load, store), or one (read);
 * those that lie apart go through `gather_lanes` and `scatter_lanes`. Where there is no instruction
 * for halves, the same by whole-number arithmetic on their bits. */
#ifndef PA_ELEMENTS_INC_H
#define PA_ELEMENTS_INC_H

#include <math.h>

#include "vec.h"

/* LANES contiguous numbers of each type, and one, as `real`. */
#define ANY_TYPE(name, type)                                                    \
  typedef type name##_any __attribute__((aligned(1), may_alias));               \
  typedef type name##_lanes __attribute__((vector_size(LANES * sizeof(type)))); \
  typedef name##_lanes name##_lanes_any __attribute__((aligned(1), may_alias));
ANY_TYPE(byte, int8_t)
ANY_TYPE(half, uint16_t)
ANY_TYPE(word, uint32_t)
ANY_TYPE(whole, int32_t) /* words below 2**31: signed ones are what machines compare */
ANY_TYPE(single, float)
ANY_TYPE(wide, double)
#undef ANY_TYPE

PA_INLINE single_lanes singles_of_bits(word_lanes bits) { return (single_lanes)bits; }
PA_INLINE float single_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

#if defined(PA_HAVE_WIDENING)
PA_INLINE word_lanes load_words(const char *at) { return (word_lanes)vi_load_halves(at); }
PA_INLINE void store_words(char *at, word_lanes x) { vi_store_halves(at, (vi)x); }
#else
PA_INLINE word_lanes load_words(const char *at) {
  return __builtin_convertvector(*(const half_lanes_any *)at, word_lanes);
}
PA_INLINE void store_words(char *at, word_lanes x) {
  *(half_lanes_any *)at = __builtin_convertvector(x, half_lanes);
}
#endif

PA_INLINE vf load_bfloat16(const char *at) {
  const word_lanes x = load_words(at);
  return __builtin_convertvector(singles_of_bits(x << 16), vf);
}
PA_INLINE real read_bfloat16(const char *at) {
  return (real)single_of_bits((uint32_t) * (const half_any *)at << 16);
}

/* The exponent moves from bias 15 to 127 by an exact product, which also normalises denormals. What
 * was an infinity or NaN, and is 2**16 or more then, gets the largest exponent instead. */
PA_INLINE vf load_float16(const char *at) {
#if defined(PA_HAVE_FLOAT16)
  return vf_load_float16(at);
#else
  const word_lanes x = load_words(at);
  const word_lanes size = (x & 0x7FFF) << 13, sign = (x & 0x8000) << 16;
  const word_lanes special = (word_lanes)((whole_lanes)(x & 0x7FFF) >= 0x7C00) & 0x7F800000;
  const word_lanes bits = (word_lanes)(singles_of_bits(size) * 0x1p112F) | special | sign;
  return __builtin_convertvector(singles_of_bits(bits), vf);
#endif
}
PA_INLINE real read_float16(const char *at) {
  const uint32_t x = *(const half_any *)at, special = (x & 0x7FFF) >= 0x7C00 ? 0x7F800000 : 0;
  const float size = single_of_bits((x & 0x7FFF) << 13) * 0x1p112F;
  uint32_t bits;
  __builtin_memcpy(&bits, &size, sizeof bits);
  return (real)single_of_bits(bits | special | (x & 0x8000) << 16);
}

PA_INLINE vf load_int8(const char *at) {
#if defined(PA_HAVE_BYTES)
  return vf_load_bytes(at);
#else
  return __builtin_convertvector(*(const byte_lanes_any *)at, vf);
#endif
}
PA_INLINE real read_int8(const char *at) { return (real) * (const byte_any *)at; }

PA_INLINE vf load_float32(const char *at) { return vf_load_singles(at); }
PA_INLINE real read_float32(const char *at) { return (real) * (const single_any *)at; }

/* What is finite stays finite: -1e300 is no -inf, which would hide. In vectors of the machine's
 * size: compilers take larger ones apart number by number. */
typedef double doubles __attribute__((vector_size(PA_VEC_BYTES)));
typedef int64_t double_bits __attribute__((vector_size(PA_VEC_BYTES)));
typedef doubles doubles_any __attribute__((aligned(1), may_alias));
enum { DOUBLES = PA_VEC_BYTES / (int)sizeof(double) };
typedef real narrowed __attribute__((vector_size(DOUBLES * sizeof(real))));

PA_INLINE narrowed narrow(const char *at) {
  const doubles x = *(const doubles_any *)at, least = (doubles){0} - (double)REAL_MAX;
  const double_bits low = (double_bits)(x < least) & ~(double_bits)(x == -(double)INFINITY);
  const double_bits kept = (low & (double_bits)least) | (~low & (double_bits)x);
  return __builtin_convertvector((doubles)kept, narrowed);
}
PA_INLINE vf load_float64(const char *at) {
  union {
    narrowed part[LANES / DOUBLES];
    vf all;
  } x;
#pragma GCC unroll 2
  for (int i = 0; i < LANES / DOUBLES; ++i) x.part[i] = narrow(at + i * (ptrdiff_t)sizeof(doubles));
  return x.all;
}
PA_INLINE real read_float64(const char *at) {
  const double x = *(const wide_any *)at;
  return x < -(double)REAL_MAX && x != -(double)INFINITY ? -REAL_MAX : (real)x;
}

/* Back, rounded to nearest, ties to even. NaN stays NaN. */
PA_INLINE single_lanes singles_of(vf x) { return __builtin_convertvector(x, single_lanes); }

PA_INLINE void store_float64(char *at, vf x) {
  *(wide_lanes_any *)at = __builtin_convertvector(x, wide_lanes);
}
PA_INLINE void store_float32(char *at, vf x) { vf_store_singles(at, x); }

PA_INLINE void store_bfloat16(char *at, vf x) {
  const word_lanes bits = (word_lanes)singles_of(x);
  const word_lanes rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  const word_lanes nan = (word_lanes)((whole_lanes)(bits & 0x7FFFFFFF) > 0x7F800000);
  const word_lanes quiet = bits >> 16 | 0x40;
  store_words(at, (nan & quiet) | (~nan & rounded));
}

/* Where a half is normal its mantissa is the float's, rounded by whole-number addition, and its
 * exponent is 112 less; what rounds past the largest half gets the bits of infinity by itself.
 * Below, adding 1/2 puts the last place of a denormal half at the last bit of the float. */
PA_INLINE void store_float16(char *at, vf x) {
#if defined(PA_HAVE_FLOAT16)
  vf_store_float16(at, x);
#else
  const word_lanes bits = (word_lanes)singles_of(x), size = bits & 0x7FFFFFFF;
  const word_lanes normal = (size - (112U << 23) + 0xFFF + (size >> 13 & 1)) >> 13;
  const word_lanes shifted = (word_lanes)(singles_of_bits(size) + 0.5F);
  const word_lanes small = shifted - 0x3F000000;
  const word_lanes is_small = (word_lanes)((whole_lanes)size < 0x38800000);
  const word_lanes is_large = (word_lanes)((whole_lanes)size >= 0x47800000);
  const word_lanes is_nan = (word_lanes)((whole_lanes)size > 0x7F800000);
  word_lanes half = (is_small & small) | (~is_small & normal);
  half = (is_large & (0x7C00 | (is_nan & 0x200))) | (~is_large & half);
  store_words(at, half | (bits >> 16 & 0x8000));
#endif
}

/* The same with the type as a number, in the order of pa_element: a constant after inlining. INT8
 * is only loaded and read. */
enum { FLOAT16, BFLOAT16, FLOAT32, FLOAT64, INT8, REAL = PA_REAL_BITS == 32 ? FLOAT32 : FLOAT64 };

PA_INLINE ptrdiff_t type_bytes(int type) {
  return type == FLOAT64 ? 8 : type == FLOAT32 ? 4 : type == INT8 ? 1 : 2;
}

PA_INLINE vf load_lanes(int type, const char *at) {
  return type == REAL       ? vf_load(at)
         : type == FLOAT16  ? load_float16(at)
         : type == BFLOAT16 ? load_bfloat16(at)
         : type == FLOAT32  ? load_float32(at)
         : type == INT8     ? load_int8(at)
                            : load_float64(at);
}
PA_INLINE real read_one(int type, const char *at) {
  return type == FLOAT16    ? read_float16(at)
         : type == BFLOAT16 ? read_bfloat16(at)
         : type == FLOAT32  ? read_float32(at)
         : type == INT8     ? read_int8(at)
                            : read_float64(at);
}
PA_INLINE void store_lanes(int type, char *at, vf x) {
  if (type == FLOAT16) store_float16(at, x);
  else if (type == BFLOAT16) store_bfloat16(at, x);
  else if (type == FLOAT32) store_float32(at, x);
  else store_float64(at, x);
}

/* Past the caches, to an address aligned to PA_STREAM_ALIGN. */
PA_INLINE void stream_lanes(int type, char *at, vf x) {
  char numbers[LANES * sizeof(double)];
  store_lanes(type, numbers, x);
  stream_bytes(at, numbers, (size_t)(LANES * type_bytes(type)));
}

/* `count` <= LANES numbers that lie `step` bytes apart. */
PA_INLINE vf gather_lanes(int type, const char *at, ptrdiff_t step, ptrdiff_t count) {
  vf x = vf_set1(0);
  for (ptrdiff_t l = 0; l < count; ++l) x[l] = read_one(type, at + l * step);
  return x;
}
PA_INLINE void scatter_lanes(int type, char *at, ptrdiff_t step, ptrdiff_t count, vf x) {
  char numbers[LANES * sizeof(double)];
  const ptrdiff_t bytes = type_bytes(type);
  store_lanes(type, numbers, x);
  for (ptrdiff_t l = 0; l < count; ++l)
    __builtin_memcpy(at + l * step, numbers + l * bytes, (size_t)bytes);
}

#endif
