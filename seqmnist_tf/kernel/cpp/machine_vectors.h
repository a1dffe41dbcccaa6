// What machine_simd.h needs of vectors besides lstm_vectors.h: comparisons, which give 1 or 0, and logarithms.

#if LSTM_WIDTH == 16

// v 2^n, n < 128: 0 where that is no normal float.
LSTM_INLINE V scale_down(V v, V n) { return _mm512_scalef_ps(v, n); }
LSTM_INLINE V square_root(V v) { return _mm512_sqrt_ps(v); }
LSTM_INLINE V absolute(V v) { return _mm512_abs_ps(v); }
LSTM_INLINE V whole(V v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
LSTM_INLINE V one_if(__mmask16 mask) { return _mm512_maskz_mov_ps(mask, set(1)); }
LSTM_INLINE V greater(V a, V b) { return one_if(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)); }
LSTM_INLINE V greater_equal(V a, V b) { return one_if(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ)); }
LSTM_INLINE V equal(V a, V b) { return one_if(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)); }
LSTM_INLINE V select(V condition, V a, V b) {  // NaN counts as true, as every number but 0 does
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(condition, set(0), _CMP_NEQ_UQ), b, a);
}
// NaN where one of both is: the instruction returns the second operand then.
LSTM_INLINE V larger(V a, V b) {
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
LSTM_INLINE V smaller(V a, V b) {
  return _mm512_mask_mov_ps(_mm512_min_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}

#elif LSTM_WIDTH == 8

LSTM_INLINE V scale_down(V v, V n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return v * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_max_epi32(exponent, _mm256_setzero_si256()), 23));
}
LSTM_INLINE V square_root(V v) { return _mm256_sqrt_ps(v); }
LSTM_INLINE V absolute(V v) { return _mm256_andnot_ps(set(-0.0f), v); }
LSTM_INLINE V whole(V v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
LSTM_INLINE V greater(V a, V b) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ), set(1)); }
LSTM_INLINE V greater_equal(V a, V b) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), set(1)); }
LSTM_INLINE V equal(V a, V b) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), set(1)); }
LSTM_INLINE V select(V condition, V a, V b) {
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(condition, set(0), _CMP_NEQ_UQ));
}
LSTM_INLINE V larger(V a, V b) { return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
LSTM_INLINE V smaller(V a, V b) { return _mm256_blendv_ps(_mm256_min_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }

#else

LSTM_INLINE V scale_down(V v, V n) {
  const int32x4_t exponent = vmaxq_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), vdupq_n_s32(0));
  return v * vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}
LSTM_INLINE V square_root(V v) { return vsqrtq_f32(v); }
LSTM_INLINE V absolute(V v) { return vabsq_f32(v); }
LSTM_INLINE V whole(V v) { return vrndmq_f32(v); }
LSTM_INLINE V one_if(uint32x4_t mask) { return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(set(1)))); }
LSTM_INLINE V greater(V a, V b) { return one_if(vcgtq_f32(a, b)); }
LSTM_INLINE V greater_equal(V a, V b) { return one_if(vcgeq_f32(a, b)); }
LSTM_INLINE V equal(V a, V b) { return one_if(vceqq_f32(a, b)); }
LSTM_INLINE V select(V condition, V a, V b) { return vbslq_f32(vceqq_f32(condition, set(0)), b, a); }
LSTM_INLINE V larger(V a, V b) { return vmaxq_f32(a, b); }
LSTM_INLINE V smaller(V a, V b) { return vminq_f32(a, b); }

#endif

typedef int32_t Integers __attribute__((vector_size(4 * W)));
typedef float Floats __attribute__((vector_size(4 * W)));

// v 2^n where the result may be infinite or vanish: n in two halves.
LSTM_INLINE V scale_far(V v, V n) {
  const V half = nearest(n * set(0.5f));
  return scale(scale(v, half), n - half);
}

// log2 e as two floats: x log2 e - n is exact to the last bit then, also where it nearly vanishes.
constexpr float kLog2ERest = 1.92596303e-8f;

template <int N>
LSTM_INLINE void exponential(V (&x)[N]) {
  V n[N], p[N];
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) {
    x[j] = larger(set(-104), smaller(x[j], set(89)));  // beyond, e^x is 0 or infinite
    n[j] = nearest(x[j] * set(kLog2E));
    p[j] = fma(x[j], set(kLog2ERest), fma(x[j], set(kLog2E), set(0) - n[j]));
  }
  exp2_minus_1(p);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) x[j] = scale_far(set(1) + p[j], n[j]);
}

// As vector_math.h's sigmoid, whose bits published LSTMs need; this one keeps the last bit of its argument's reduction,
// and is 0 at minus infinity.
template <int N>
LSTM_INLINE void logistic(V (&x)[N]) {
  V n[N], p[N];
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) {
    const V t = magnitude(x[j], 104.0f);
    n[j] = nearest(t * set(-kLog2E));
    p[j] = fma(t, set(-kLog2ERest), fma(t, set(-kLog2E), set(0) - n[j]));
  }
  exp2_minus_1(p);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = scale_down(set(1) + p[j], n[j]);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = p[j] * reciprocal(set(1) + p[j]);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) x[j] = mirror(x[j], p[j]);
}

LSTM_INLINE V exponential_minus_1(V x) {
  const V near = larger(set(-87), smaller(x, set(88)));
  const V n = nearest(near * set(kLog2E));
  V p[1] = {fma(near, set(kLog2ERest), fma(near, set(kLog2E), set(0) - n))};
  exp2_minus_1(p);
  const V s = scale(set(1), n);
  V far[1] = {x};
  exponential(far);
  return select(greater(x, set(87)), far[0], fma(s, p[0], s - set(1)));
}

// Cephes's logf: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and a polynomial in m - 1.
LSTM_INLINE V logarithm(V x) {
  const Integers bits = (Integers)x;
  V e = (V) __builtin_convertvector((bits >> 23) - 126, Floats);
  V m = (V)((bits & 0x007fffff) | 0x3f000000);
  const V low = greater(set(0.70710678f), m);
  e -= low;
  m = fma(m, low, m - set(1));
  constexpr float kCoefficients[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                     -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                     2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  V p = set(kCoefficients[0]);
  LSTM_UNROLL
  for (int i = 1; i < 9; ++i) p = fma(p, m, set(kCoefficients[i]));
  const V z = m * m;
  p = fma(p * m, z, e * set(-2.12194440e-4f));
  p = fnma(z, set(0.5f), p);
  V result = fma(e, set(0.693359375f), m + p);
  const float infinity = __builtin_inff();
  result = select(equal(x, set(infinity)), x, result);
  result = select(equal(x, set(0)), set(-infinity), result);
  result = select(greater(set(0), x), set(__builtin_nanf("")), result);
  return select(equal(x, x), result, x);
}

LSTM_INLINE V logarithm_of_1_plus(V x) {
  const V u = set(1) + x, rounded = u - set(1);
  const V log = logarithm(u);
  // What was lost in u: log(1 + x) = log(u) x / (u - 1).
  const V result = select(equal(rounded, set(0)), x, log * (x / rounded));
  return select(equal(u, set(__builtin_inff())), u, result);
}
