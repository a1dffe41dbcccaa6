// What all products on vectors share: tiles of rows, the product of two matrices of floats, its transposed operand.

// Add to acc (R x N vectors) the product of a (R x k) and b (k x N vectors).
template <int R, int N>
LSTM_INLINE void multiply(V (&acc)[R][N], const float* a, size_t row_stride, size_t k_stride, const float* b, int k) {
  for (int i = 0; i < k; ++i, a += k_stride, b += N * W) {
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

// Call body(Int<R>(), first) for tiles of at most kTileRows rows, all of nearly the same size, that cover `rows`.
template <int R, class Body>
LSTM_INLINE void dispatch(int rows, int first, const Body& body) {
  if constexpr (R > 0) {
    if (rows == R) return body(Int<R>(), first);
    dispatch<R - 1>(rows, first, body);
  }
}
template <class Body>
LSTM_INLINE void for_tiles(int rows, const Body& body) {
  const int tiles = (rows + kTileRows - 1) / kTileRows;
  for (int i = 0, first = 0; i < tiles; ++i) {
    const int count = rows / tiles + (i < rows % tiles);
    dispatch<kTileRows>(count, first, body);
    first += count;
  }
}

// The transpose of a matrix (rows x 4 H), in panels of up to 4 vectors of its columns, as many as m has rows and zeros
// up to whole vectors; its 4 H rows are in the order of the gates' panels.
float* pack_transpose(int H, int rows, const float* m, float* out) {
  const int columns = round_up(rows, W);
  for (int first = 0; first < columns; first += 4 * W) {
    const int width = columns - first < 4 * W ? columns - first : 4 * W;
    for (int p = 0; p < H / W; ++p)
      for (int gate = 0; gate < 4; ++gate)
        for (int lane = 0; lane < W; ++lane)
          for (int j = first; j < first + width; ++j)
            *out++ = j < rows ? m[size_t(j) * 4 * H + gate * H + p * W + lane] : 0;
  }
  return out;
}

template <int N>
void multiply_columns(int H, int rows, const float* dz, size_t panel_stride, const float* right, float* out,
                      int stride) {
  for_tiles(rows, [&](auto count, int first) {
    constexpr int R = decltype(count)::value;
    V acc[R][N];
    clear(acc);
    for (int p = 0; p < H / W; ++p)
      multiply(acc, dz + p * panel_stride + first * kPanel, kPanel, 1, right + size_t(p) * kPanel * N * W, kPanel);
    LSTM_UNROLL
    for (int r = 0; r < R; ++r) LSTM_UNROLL
    for (int j = 0; j < N; ++j) store(out + (first + r) * stride + j * W, acc[r][j]);
  });
}

// Call body(Int<N>(), first) for groups of up to 4 vectors that cover `columns`.
template <class Body>
LSTM_INLINE void for_vectors(int columns, const Body& body) {
  for (int first = 0; first < columns; first += 4 * W) {
    const int vectors = columns - first < 4 * W ? (columns - first) / W : 4;
    if (vectors == 4) body(Int<4>(), first);
    if (vectors == 3) body(Int<3>(), first);
    if (vectors == 2) body(Int<2>(), first);
    if (vectors == 1) body(Int<1>(), first);
  }
}

// Set out (rows x columns) to the product of a step's dz, in panels of kPanel columns, and a transpose as
// pack_transpose() lays it out.
void multiply_transpose(int H, int rows, const float* dz, size_t panel_stride, const float* right, float* out,
                        int columns) {
  for_vectors(columns, [&](auto count, int first) {
    constexpr int N = decltype(count)::value;
    multiply_columns<N>(H, rows, dz, panel_stride, right + size_t(4) * H * first, out + first, columns);
  });
}
