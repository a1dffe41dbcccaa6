// Tiles of rows, and the product of two matrices of floats on vectors. For lstm_simd.h and machine_simd.h, behind
// lstm_vectors.h.

// Add to acc (R x N vectors) the product of a (R x k) and b (k rows of N vectors, b_stride floats from one to the
// next).
template <int R, int N>
LSTM_INLINE void multiply(V (&acc)[R][N], const float* a, size_t row_stride, size_t k_stride, const float* b, int k,
                          size_t b_stride = N * W) {
  for (int i = 0; i < k; ++i, a += k_stride, b += b_stride) {
    V left[R];
    LSTM_UNROLL
    for (int r = 0; r < R; ++r) left[r] = set(a[r * row_stride]);
    LSTM_UNROLL
    for (int j = 0; j < N; ++j) {
      V right = load(b + j * W);
      LSTM_UNROLL
      for (int r = 0; r < R; ++r) acc[r][j] = fma(left[r], right, acc[r][j]);
    }
  }
}

template <class T, int R, int N>
LSTM_INLINE void clear(T (&sums)[R][N]) {
  LSTM_UNROLL
  for (int r = 0; r < R; ++r) LSTM_UNROLL
  for (int j = 0; j < N; ++j) sums[r][j] = T{};
}

// Call body(Int<R>(), first) for tiles of at most Most rows, all of nearly the same size, that cover `rows`.
template <int R, class Body>
LSTM_INLINE void dispatch(int rows, int first, const Body& body) {
  if constexpr (R > 0) {
    if (rows == R) return body(Int<R>(), first);
    dispatch<R - 1>(rows, first, body);
  }
}
template <int Most = kTileRows, class Body>
LSTM_INLINE void for_tiles(int rows, const Body& body) {
  const int tiles = (rows + Most - 1) / Most;
  for (int i = 0, first = 0; i < tiles; ++i) {
    const int count = rows / tiles + (i < rows % tiles);
    dispatch<Most>(count, first, body);
    first += count;
  }
}

// Call body(Int<N>(), first) for groups of up to Most, at most 4, vectors that cover `columns`.
template <int Most = 4, class Body>
LSTM_INLINE void for_vectors(int columns, const Body& body) {
  for (int first = 0; first < columns; first += Most * W) {
    const int vectors = columns - first < Most * W ? (columns - first) / W : Most;
    if constexpr (Most > 3)
      if (vectors == 4) body(Int<4>(), first);
    if constexpr (Most > 2)
      if (vectors == 3) body(Int<3>(), first);
    if (vectors == 2) body(Int<2>(), first);
    if (vectors == 1) body(Int<1>(), first);
  }
}
