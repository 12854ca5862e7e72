/* The vector type `vf` and its operations, on the compiler's own vector types.
 *
 * One text for every instruction set: isa/<name>.c chooses PA_VEC_BYTES (16, 32, 64) and
 * PA_REAL_BITS (32, 64); everything else is the compiler's `a + b` on vectors. The few
 * intrinsics below are there because C has no word for them: a fused multiply-add that is fused
 * on purpose (the build forbids the compiler to fuse on its own, so that results agree across
 * compilers), and a maximum with a stated answer for NaN.
 *
 * Intrinsics may stand in this file, in cpu.c and in isa/amx.c, nowhere else.
 */
#ifndef PA_VEC_H
#define PA_VEC_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#if defined(PA_SIMDE) /* the same few lines through SIMDe, for machines without the hardware */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#define PA_HAVE_AVX512 1
#define PA_HAVE_AVX2_FMA 1
#elif defined(__x86_64__)
#include <immintrin.h>
#if defined(__AVX512F__)
#define PA_HAVE_AVX512 1
#endif
#if defined(__AVX2__) && defined(__FMA__)
#define PA_HAVE_AVX2_FMA 1
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#define PA_HAVE_NEON 1
#endif

#if PA_REAL_BITS == 32
typedef float real;
typedef int32_t real_int;
#define REAL_MAX FLT_MAX
#elif PA_REAL_BITS == 64
typedef double real;
typedef int64_t real_int;
#define REAL_MAX DBL_MAX
#else
#error "PA_REAL_BITS must be 32 or 64"
#endif

/* LANES numbers of type `real`. A macro, because the preprocessor chooses shuffles by it. */
#define LANES (PA_VEC_BYTES * 8 / PA_REAL_BITS)

typedef real vf __attribute__((vector_size(PA_VEC_BYTES)));
typedef real_int vi __attribute__((vector_size(PA_VEC_BYTES)));

/* What lies at any byte address: users' arrays may be misaligned, and that is no error. */
typedef real real_any __attribute__((aligned(1), may_alias));
typedef vf vf_any __attribute__((aligned(1), may_alias));

#define PA_INLINE static inline __attribute__((always_inline))

PA_INLINE vf vf_load(const void *p) { return *(const vf_any *)p; }
PA_INLINE void vf_store(void *p, vf x) { *(vf_any *)p = x; }

/* The first `count` numbers, zeros behind them; what lies further on is not touched. */
PA_INLINE vf vf_load_first(const void *p, ptrdiff_t count) {
#if PA_VEC_BYTES == 64 && PA_REAL_BITS == 32 && defined(PA_HAVE_AVX512)
  return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#elif PA_VEC_BYTES == 64 && PA_REAL_BITS == 64 && defined(PA_HAVE_AVX512)
  return (vf)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), p);
#elif PA_VEC_BYTES == 32 && PA_REAL_BITS == 32 && defined(PA_HAVE_AVX2_FMA)
  const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return (vf)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), places));
#elif PA_VEC_BYTES == 32 && PA_REAL_BITS == 64 && defined(PA_HAVE_AVX2_FMA)
  const __m256i places = _mm256_setr_epi64x(0, 1, 2, 3);
  return (vf)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), places));
#else
  vf x = {0};
  for (ptrdiff_t l = 0; l < count; ++l) x[l] = ((const real_any *)p)[l];
  return x;
#endif
}

PA_INLINE vf vf_set1(real x) {
#if LANES == 2
  return (vf){x, x};
#elif LANES == 4
  return (vf){x, x, x, x};
#elif LANES == 8
  return (vf){x, x, x, x, x, x, x, x};
#elif LANES == 16
  return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#else
#error "no vf_set1 for this number of lanes"
#endif
}

PA_INLINE vf vf_set1_at(const char *p) { return vf_set1(*(const real_any *)p); }

/* LANES contiguous floats as `vf`, and back: compilers take conversions of whole vectors apart. */
#if PA_REAL_BITS == 32
PA_INLINE vf vf_load_singles(const void *p) { return vf_load(p); }
PA_INLINE void vf_store_singles(void *p, vf x) { vf_store(p, x); }
#elif PA_VEC_BYTES == 64 && defined(PA_HAVE_AVX512) && !defined(PA_SIMDE)
PA_INLINE vf vf_load_singles(const void *p) { return (vf)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }
PA_INLINE void vf_store_singles(void *p, vf x) { _mm256_storeu_ps(p, _mm512_cvtpd_ps((__m512d)x)); }
#elif PA_VEC_BYTES == 32 && defined(PA_HAVE_AVX2_FMA)
PA_INLINE vf vf_load_singles(const void *p) { return (vf)_mm256_cvtps_pd(_mm_loadu_ps(p)); }
PA_INLINE void vf_store_singles(void *p, vf x) { _mm_storeu_ps(p, _mm256_cvtpd_ps((__m256d)x)); }
#else
typedef float singles __attribute__((vector_size(LANES * sizeof(float))));
typedef singles singles_any __attribute__((aligned(1), may_alias));
PA_INLINE vf vf_load_singles(const void *p) {
  return __builtin_convertvector(*(const singles_any *)p, vf);
}
PA_INLINE void vf_store_singles(void *p, vf x) {
  *(singles_any *)p = __builtin_convertvector(x, singles);
}
#endif

/* LANES contiguous 16-bit whole numbers, widened, and back: as above. */
#if PA_REAL_BITS == 32 && PA_VEC_BYTES == 64 && defined(PA_HAVE_AVX512) && !defined(PA_SIMDE)
#define PA_HAVE_WIDENING 1
PA_INLINE vi vi_load_halves(const void *p) {
  return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
PA_INLINE void vi_store_halves(void *p, vi x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)x));
}
#elif PA_REAL_BITS == 32 && PA_VEC_BYTES == 32 && defined(__AVX2__)
#define PA_HAVE_WIDENING 1
PA_INLINE vi vi_load_halves(const void *p) {
  return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
PA_INLINE void vi_store_halves(void *p, vi x) {
  const __m256i packed = _mm256_packus_epi32((__m256i)x, (__m256i)x); /* twice, by halves */
  _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 8)));
}
#endif

/* LANES contiguous signed bytes as `vf`, where there are instructions for it. */
#if PA_REAL_BITS == 32 && PA_VEC_BYTES == 64 && defined(PA_HAVE_AVX512) && !defined(PA_SIMDE)
#define PA_HAVE_BYTES 1
PA_INLINE vf vf_load_bytes(const void *p) {
  return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
#elif PA_REAL_BITS == 32 && PA_VEC_BYTES == 32 && defined(__AVX2__)
#define PA_HAVE_BYTES 1
PA_INLINE vf vf_load_bytes(const void *p) {
  return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
#endif

/* LANES contiguous halves as `vf`, and back, where there are instructions for it. */
#if PA_REAL_BITS == 32 && PA_VEC_BYTES == 64 && defined(PA_HAVE_AVX512) && !defined(PA_SIMDE)
#define PA_HAVE_FLOAT16 1
PA_INLINE vf vf_load_float16(const void *p) {
  return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
PA_INLINE void vf_store_float16(void *p, vf x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}
#elif PA_REAL_BITS == 32 && PA_VEC_BYTES == 32 && defined(__F16C__)
#define PA_HAVE_FLOAT16 1
PA_INLINE vf vf_load_float16(const void *p) {
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
PA_INLINE void vf_store_float16(void *p, vf x) {
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
}
#endif

/* Stores to memory without bringing it into the caches first, where the machine can; `p` is aligned
 * to PA_STREAM_ALIGN, as NumPy's arrays are. `vf_stream_end` before another thread may look. */
enum { PA_STREAM_ALIGN = 16 };
PA_INLINE void stream_bytes(char *p, const char *x, size_t bytes) {
#if defined(__x86_64__)
  size_t at = 0;
#pragma GCC unroll 4
  for (; at + sizeof(__m128i) <= bytes; at += sizeof(__m128i))
    _mm_stream_si128((__m128i *)(void *)(p + at),
                     _mm_loadu_si128((const __m128i *)(const void *)(x + at)));
#pragma GCC unroll 4
  for (; at < bytes; at += sizeof(long long)) {
    long long rest;
    __builtin_memcpy(&rest, x + at, sizeof rest);
    _mm_stream_si64((long long *)(void *)(p + at), rest);
  }
#else
  __builtin_memcpy(p, x, bytes);
#endif
}
PA_INLINE void vf_stream_end(void) {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/* mask lanes are all ones or all zeros */
PA_INLINE vf vf_select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* a * b + c, rounded once where the hardware can; twice in the plain build, which has no FMA */
PA_INLINE vf vf_fma(vf a, vf b, vf c) {
#if PA_VEC_BYTES == 64 && PA_REAL_BITS == 32 && defined(PA_HAVE_AVX512)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif PA_VEC_BYTES == 64 && PA_REAL_BITS == 64 && defined(PA_HAVE_AVX512)
  return (vf)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif PA_VEC_BYTES == 32 && PA_REAL_BITS == 32 && defined(PA_HAVE_AVX2_FMA)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif PA_VEC_BYTES == 32 && PA_REAL_BITS == 64 && defined(PA_HAVE_AVX2_FMA)
  return (vf)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif PA_VEC_BYTES == 16 && PA_REAL_BITS == 32 && defined(PA_HAVE_NEON)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif PA_VEC_BYTES == 16 && PA_REAL_BITS == 64 && defined(PA_HAVE_NEON)
  return (vf)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

/* a > b ? a : b, hence b wherever either is NaN: the second operand decides what NaN does. */
PA_INLINE vf vf_max(vf a, vf b) {
#if PA_VEC_BYTES == 64 && PA_REAL_BITS == 32 && defined(PA_HAVE_AVX512)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif PA_VEC_BYTES == 64 && PA_REAL_BITS == 64 && defined(PA_HAVE_AVX512)
  return (vf)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif PA_VEC_BYTES == 32 && PA_REAL_BITS == 32 && defined(PA_HAVE_AVX2_FMA)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif PA_VEC_BYTES == 32 && PA_REAL_BITS == 64 && defined(PA_HAVE_AVX2_FMA)
  return (vf)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return vf_select((vi)(a > b), a, b);
#endif
}

/* Whether all (some) lanes of a mask are set. */
PA_INLINE int vi_all(vi mask) {
#if PA_VEC_BYTES == 64 && defined(PA_HAVE_AVX512)
  return _mm512_movepi32_mask((__m512i)mask) == 0xFFFF;
#elif PA_VEC_BYTES == 32 && defined(PA_HAVE_AVX2_FMA)
  return _mm256_movemask_epi8((__m256i)mask) == -1;
#else
  int all = 1;
  for (int l = 0; l < LANES; ++l) all &= mask[l] != 0;
  return all;
#endif
}
PA_INLINE int vi_some(vi mask) { return !vi_all(~mask); }

/* Bit k of the result: whether byte k of 8, or of 64, is not 0. */
PA_INLINE uint64_t bits_of_8(const char *at) {
  uint64_t x;
  __builtin_memcpy(&x, at, sizeof x);
  const uint64_t low = 0x7F7F7F7F7F7F7F7FU;
  const uint64_t ones = ((((x & low) + low) | x) >> 7) & 0x0101010101010101U;
  return ones * 0x0102040810204080U >> 56; /* byte k times 2**(56 - 7k) lands at bit 56 + k */
}
PA_INLINE uint64_t bits_of_64(const char *at) {
#if PA_VEC_BYTES == 64 && defined(PA_HAVE_AVX512)
  const __m512i x = _mm512_loadu_si512((const void *)at);
  return (uint64_t)_mm512_test_epi8_mask(x, x);
#elif PA_VEC_BYTES == 32 && defined(PA_HAVE_AVX2_FMA)
  uint64_t zeros = 0;
  for (int i = 0; i < 2; ++i) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(at + 32 * i));
    const int half = _mm256_movemask_epi8(_mm256_cmpeq_epi8(x, _mm256_setzero_si256()));
    zeros |= (uint64_t)(uint32_t)half << 32 * i;
  }
  return ~zeros;
#else
  uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= bits_of_8(at + 8 * i) << 8 * i;
  return bits;
#endif
}

/* Interleave the low (high) halves: zip_low(a, b) = a0 b0 a1 b1 ...
 * And apart again: even(a, b) = a0 a2 ... b0 b2 ... */
#if LANES == 2
#define PA_ZIP_LOW 0, 2
#define PA_ZIP_HIGH 1, 3
#define PA_EVEN 0, 2
#define PA_ODD 1, 3
#elif LANES == 4
#define PA_ZIP_LOW 0, 4, 1, 5
#define PA_ZIP_HIGH 2, 6, 3, 7
#define PA_EVEN 0, 2, 4, 6
#define PA_ODD 1, 3, 5, 7
#elif LANES == 8
#define PA_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define PA_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define PA_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define PA_ODD 1, 3, 5, 7, 9, 11, 13, 15
#elif LANES == 16
#define PA_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define PA_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define PA_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define PA_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#endif

#if defined(__clang__) || __GNUC__ >= 12
#define PA_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PA_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

PA_INLINE vf vf_zip_low(vf a, vf b) { return PA_SHUFFLE(a, b, PA_ZIP_LOW); }
PA_INLINE vf vf_zip_high(vf a, vf b) { return PA_SHUFFLE(a, b, PA_ZIP_HIGH); }
PA_INLINE vf vf_even(vf a, vf b) { return PA_SHUFFLE(a, b, PA_EVEN); }
PA_INLINE vf vf_odd(vf a, vf b) { return PA_SHUFFLE(a, b, PA_ODD); }

#endif
