// Vectors of LSTM_WIDTH floats: AVX-512 (16), AVX2 with FMA (8), NEON (4). For lstm_simd.h and machine_simd.h, each in
// the namespace of an instruction set.

#if LSTM_WIDTH == 16

typedef __m512 V;
constexpr int kTileRows = 6;  // 6 x 4 accumulators, 6 left operands and a right one: 31 of 32 registers
LSTM_INLINE V load(const float* p) { return _mm512_load_ps(p); }
LSTM_INLINE void store(float* p, V v) { _mm512_store_ps(p, v); }
LSTM_INLINE V load_any(const float* p) { return _mm512_loadu_ps(p); }  // not aligned
LSTM_INLINE void store_any(float* p, V v) { _mm512_storeu_ps(p, v); }
LSTM_INLINE void stream(float* p, V v) { _mm512_stream_ps(p, v); }
LSTM_INLINE V set(float v) { return _mm512_set1_ps(v); }
LSTM_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
LSTM_INLINE V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
LSTM_INLINE V clamp(V v, float limit) {                                  // NaN stays NaN
  return _mm512_max_ps(set(-limit), _mm512_min_ps(set(limit), v));
}
LSTM_INLINE V nearest(V v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
LSTM_INLINE V scale(V v, V n) { return _mm512_scalef_ps(v, n); }  // v 2^n
LSTM_INLINE V reciprocal(V v) {                                   // one Newton step: 2^-14 to 2^-24
  V r = _mm512_rcp14_ps(v);
  return fma(fnma(v, r, set(1)), r, r);
}
LSTM_INLINE float sum(V v) { return _mm512_reduce_add_ps(v); }
LSTM_INLINE V magnitude(V v, float limit) { return _mm512_min_ps(set(limit), _mm512_abs_ps(v)); }
LSTM_INLINE V mirror(V x, V s) { return _mm512_mask_sub_ps(s, _mm512_cmp_ps_mask(x, set(0), _CMP_GT_OQ), set(1), s); }

#elif LSTM_WIDTH == 8

typedef __m256 V;
constexpr int kTileRows = 3;  // 3 x 4 accumulators, 3 left operands and a right one: all 16 registers
LSTM_INLINE V load(const float* p) { return _mm256_load_ps(p); }
LSTM_INLINE void store(float* p, V v) { _mm256_store_ps(p, v); }
LSTM_INLINE V load_any(const float* p) { return _mm256_loadu_ps(p); }
LSTM_INLINE void store_any(float* p, V v) { _mm256_storeu_ps(p, v); }
LSTM_INLINE void stream(float* p, V v) { _mm256_stream_ps(p, v); }
LSTM_INLINE V set(float v) { return _mm256_set1_ps(v); }
LSTM_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
LSTM_INLINE V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
LSTM_INLINE V clamp(V v, float limit) { return _mm256_max_ps(set(-limit), _mm256_min_ps(set(limit), v)); }
LSTM_INLINE V nearest(V v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
LSTM_INLINE V scale(V v, V n) {  // n in -126 ... 127
  __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return v * _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
LSTM_INLINE V reciprocal(V v) { return set(1) / v; }
LSTM_INLINE V magnitude(V v, float limit) { return _mm256_min_ps(set(limit), _mm256_andnot_ps(set(-0.0f), v)); }
LSTM_INLINE V mirror(V x, V s) { return _mm256_blendv_ps(s, set(1) - s, _mm256_cmp_ps(x, set(0), _CMP_GT_OQ)); }
LSTM_INLINE float sum(V v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

#else

typedef float32x4_t V;
constexpr int kTileRows = 6;  // as with 512 bits: there are 32 registers
LSTM_INLINE V load(const float* p) { return vld1q_f32(p); }
LSTM_INLINE void store(float* p, V v) { vst1q_f32(p, v); }
LSTM_INLINE V load_any(const float* p) { return vld1q_f32(p); }
LSTM_INLINE void store_any(float* p, V v) { vst1q_f32(p, v); }
LSTM_INLINE void stream(float* p, V v) { vst1q_f32(p, v); }
LSTM_INLINE V set(float v) { return vdupq_n_f32(v); }
LSTM_INLINE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
LSTM_INLINE V fnma(V a, V b, V c) { return vfmsq_f32(c, a, b); }
LSTM_INLINE V clamp(V v, float limit) { return vmaxq_f32(set(-limit), vminq_f32(set(limit), v)); }
LSTM_INLINE V nearest(V v) { return vrndnq_f32(v); }
LSTM_INLINE V scale(V v, V n) {  // n in -126 ... 127
  return v * vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
LSTM_INLINE V reciprocal(V v) { return vdivq_f32(set(1), v); }
LSTM_INLINE V magnitude(V v, float limit) { return vminq_f32(set(limit), vabsq_f32(v)); }
LSTM_INLINE V mirror(V x, V s) { return vbslq_f32(vcgtq_f32(x, set(0)), set(1) - s, s); }
LSTM_INLINE float sum(V v) { return vaddvq_f32(v); }

#endif
