// Exponential functions on vectors. For lstm_simd.h and machine_simd.h, behind lstm_vectors.h.

// 2^f - 1 for |f| <= 1/2. Minimax polynomial by Remez's exchange on (2^f - 1) / f: relative error below 1.1e-8, and
// 2.2e-8 with its coefficients rounded to float.
//
// Of N vectors side by side: each one's steps wait for each other, and a processor looks only so far ahead for others.
template <int N>
LSTM_INLINE void exp2_minus_1(V (&f)[N]) {
  constexpr float kCoefficients[] = {1.54035126187e-4f, 1.33907354754e-3f, 9.61823749418e-3f,
                                     5.55035743365e-2f, 2.40226497950e-1f, 6.93147187927e-1f};
  V p[N];
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = set(kCoefficients[0]);
  LSTM_UNROLL
  for (int i = 1; i < 6; ++i) LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = fma(p[j], f[j], set(kCoefficients[i]));
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) f[j] = p[j] * f[j];
}

constexpr float kLog2E = 1.44269504f;

// s = e / (1 + e), e = 2^t, t = -|x| log2 e; that, or for positive x 1 - s, rounded once
template <int N>
LSTM_INLINE void sigmoid(V (&x)[N]) {
  V n[N], p[N];
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = magnitude(x[j], 87.0f);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) n[j] = nearest(p[j] * set(-kLog2E));
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = fma(p[j], set(-kLog2E), set(0) - n[j]);
  exp2_minus_1(p);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = scale(set(1) + p[j], n[j]);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) p[j] = p[j] * reciprocal(set(1) + p[j]);
  LSTM_UNROLL
  for (int j = 0; j < N; ++j) x[j] = mirror(x[j], p[j]);
}

LSTM_INLINE V tanh(V x) {  // m / (m + 2), m = e^2x - 1: exact in relative terms near 0 too
  x = clamp(x, 9.02f);     // where tanh is 1 in float
  V n = nearest(x * set(2 * kLog2E));
  V p[1] = {fma(x, set(2 * kLog2E), set(0) - n)};
  exp2_minus_1(p);
  V s = scale(set(1), n);
  V m = fma(s, p[0], s - set(1));
  return m * reciprocal(m + set(2));
}
