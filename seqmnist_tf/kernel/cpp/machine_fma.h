// The machine's products by fused multiply-adds on vectors of floats, for machine_simd.h.

namespace vectors {

// Tiles of few vectors and many rows: a right operand is larger than the nearest cache, and is read once for a tile.
constexpr int kVectors = 2;
constexpr int kTallRows = W == 8 ? 6 : 13;  // 13 x 2 accumulators of 32 registers; with AVX2, 6 x 2 of 16

// Add to acc (R x N vectors) the product of a (R x k) and b (k x N vectors).
template <int R, int N>
LSTM_INLINE void multiply_tall(V (&acc)[R][N], const float* a, size_t row_stride, const float* b, int k) {
  for (int i = 0; i < k; ++i, ++a, b += N * W) {
    V right[N];
    LSTM_UNROLL
    for (int j = 0; j < N; ++j) right[j] = load(b + j * W);
    LSTM_UNROLL
    for (int r = 0; r < R; ++r) {
      const V left = set(a[r * row_stride]);
      LSTM_UNROLL
      for (int j = 0; j < N; ++j) acc[r][j] = fma(left, right[j], acc[r][j]);
    }
  }
}

// Right operands in panels of kVectors, as many columns as n padded to whole lines: k rows of one, then the next.
size_t packed_size(int k, int n) { return k * aligned(n); }

void pack(const Pack& pack, float* to) {
  const int columns = aligned(pack.n);
  for (int first = 0; first < columns; first += kVectors * W) {
    const int last = columns - first < kVectors * W ? columns : first + kVectors * W;
    for (int i = 0; i < pack.k; ++i)
      for (int j = first; j < last; ++j) *to++ = j < pack.n ? pack.from[i * pack.row + j * pack.column] : 0;
  }
}

// The sum of the products of terms with few columns, fewer than `most`, of what is at `base` (rows x stride floats) or
// nothing, and of the bias.
void compute(const Dot& dot, const Frame& frame, int most, const float* base, size_t stride) {
  for_vectors<kVectors>(aligned(dot.width), [&](auto vectors, int column) {
    constexpr int N = decltype(vectors)::value;
    for_tiles<kTallRows>(frame.rows, [&](auto count, int first) {
      constexpr int R = decltype(count)::value;
      V acc[R][N];
      clear(acc);
      for (const Term& term : dot.terms)
        if (term.k < most)
          multiply_tall(acc, frame.at(term.left, first), frame.stride(term.left),
                        frame.packed[term.packed] + size_t(term.k) * column, term.k);
      if (base) {
        const float* from = base + first * stride + column;
        LSTM_UNROLL
        for (int r = 0; r < R; ++r, from += stride) LSTM_UNROLL
        for (int j = 0; j < N; ++j) acc[r][j] += load(from + j * W);
      }
      if (dot.bias.region >= 0) {
        const float* bias = frame.at(dot.bias, 0) + column;
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int j = 0; j < N; ++j) acc[r][j] += load(bias + j * W);
      }
      float* to = frame.at(dot.to, first) + column;
      LSTM_UNROLL
      for (int r = 0; r < R; ++r, to += frame.stride(dot.to)) LSTM_UNROLL
      for (int j = 0; j < N; ++j) store(to + j * W, acc[r][j]);
    });
  });
}

void compute(const std::vector<Dot>& dots, const Frame& frame) {
  for (const Dot& dot : dots)
    if (!frame.skips(dot.condition)) compute(dot, frame, INT_MAX, nullptr, 0);
}

void add_product(const Product& product) {
  const int columns = aligned(product.n);
  for_vectors(columns, [&](auto vectors, int column) {
    constexpr int N = decltype(vectors)::value;
    for_tiles(product.k, [&](auto count, int first) {
      constexpr int R = decltype(count)::value;
      V acc[R][N];  // summed for itself first: terms are rounded where the sum
                    // is still small
      clear(acc);
      multiply(acc, product.left + first, 1, product.left_stride, product.right + column, product.samples,
               product.right_stride);
      LSTM_UNROLL
      for (int r = 0; r < R; ++r) LSTM_UNROLL
      for (int j = 0; j < N; ++j) {
        float* to = product.sums + size_t(first + r) * columns + column + j * W;
        store(to, load(to) + acc[r][j]);
      }
    });
  });
}

void add_products(const std::vector<Product>& products, float*) {
  for (const Product& product : products) add_product(product);
}

size_t scratch_size(const std::vector<Group>&, const std::vector<Product>&) { return 0; }

void done() {}

}  // namespace vectors
