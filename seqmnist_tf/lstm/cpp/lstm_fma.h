// Products by fused multiply-adds on vectors of floats.

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

// u in panels of H x 4 W; then u transposed in panels of up to 4 vectors of its H columns; the 4 H rows of those
// are in the order of the gates' panels.
size_t recurrent_size(int H) { return 8 * size_t(H) * H; }

void pack_recurrent(int H, const float* u, bool backward, float* out) {
  if (!backward) {
    for (int p = 0; p < H / W; ++p)
      for (int k = 0; k < H; ++k)
        for (int gate = 0; gate < 4; ++gate)
          for (int lane = 0; lane < W; ++lane) *out++ = u[size_t(k) * 4 * H + gate * H + p * W + lane];
    return;
  }
  out += 4 * size_t(H) * H;
  for (int first = 0; first < H; first += 4 * W) {
    const int width = H - first < 4 * W ? H - first : 4 * W;
    for (int p = 0; p < H / W; ++p)
      for (int gate = 0; gate < 4; ++gate)
        for (int lane = 0; lane < W; ++lane)
          for (int j = 0; j < width; ++j) *out++ = u[size_t(first + j) * 4 * H + gate * H + p * W + lane];
  }
}

class Forward {
 public:
  static size_t size(int H, int rows) { return round_up(size_t(rows) * H, 16); }

  Forward(int H, int rows, const float* packed, float* h, float* scratch)
      : H_(H),
        rows_(rows),
        packed_(packed),
        h_(h),
        next_(scratch) {}

  void step(const float* x, float* c, float* kept) {
    for (int p = 0; p < H_ / W; ++p) {
      const float* w = packed_ + p * kPanel;
      const float* u = packed_ + 8 * H_ + size_t(p) * H_ * kPanel;
      for_tiles(rows_, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        V z[R][4];  // the recurrent sum first: rounded where it is small, not where a large bias is in it
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate) z[r][gate] = set(0);
        multiply(z, h_ + first * H_, H_, 1, u, H_);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) {
          LSTM_UNROLL
          for (int gate = 0; gate < 4; ++gate)
            z[r][gate] += fma(load(w + gate * W), set(x[first + r]), load(w + 4 * H_ + gate * W));
          const size_t unit = (first + r) * H_ + p * W;
          cell(z[r], next_ + unit, c + unit, kept ? kept + kKept * unit : nullptr);
        }
      });
    }
    float* swap = h_;
    h_ = next_, next_ = swap;
  }

  void finish(float* h) {
    if (h_ != h)
      for (int i = 0; i < rows_ * H_; i += W) store(h + i, load(h_ + i));
  }

 private:
  const int H_, rows_;
  const float* packed_;
  float *h_, *next_;
};

class Chunk {
 public:
  static int steps(int rows) { return rows < kSamples ? kSamples / rows : 1; }
  static size_t size(int H, int rows) { return size_t(steps(rows)) * rows * (5 * H + kExtra); }

  Chunk(int H, int rows, const float* packed, float* scratch)
      : H_(H),
        rows_(rows),
        capacity_(steps(rows) * rows),
        packed_(packed),
        left_(scratch),
        dz_(scratch + size_t(capacity_) * (H + kExtra)) {
    for (size_t i = 0; i < size_t(capacity_) * (H + kExtra); ++i) left_[i] = 0;
  }

  // The left operand of a row's weight gradients: h, x, 1.
  float* left(int r) { return left_ + size_t(used_ + r) * (H_ + kExtra); }

  static void put_pixel(float* to, float x) { to[0] = x, to[1] = 1; }

  void put(int r, int p, const V (&dz)[4]) {
    float* to = dz_ + (size_t(p) * capacity_ + used_ + r) * kPanel;
    LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) store(to + gate * W, dz[gate]);
  }

  void step(float* dh) {
    const float* ut = packed_ + 8 * H_ + 4 * size_t(H_) * H_;
    for (int first = 0; first < H_; first += 4 * W) {
      const int vectors = H_ - first < 4 * W ? (H_ - first) / W : 4;
      if (vectors == 4) columns<4>(dh + first, ut);
      if (vectors == 3) columns<3>(dh + first, ut);
      if (vectors == 2) columns<2>(dh + first, ut);
      if (vectors == 1) columns<1>(dh + first, ut);
      ut += 4 * size_t(H_) * vectors * W;
    }
    used_ += rows_;
  }

  bool full() const { return used_ == capacity_; }

  void accumulate(float* sums) {
    for (int p = 0; p < H_ / W; ++p) {
      const float* dz = dz_ + size_t(p) * capacity_ * kPanel;
      float* panel = sums + size_t(p) * (H_ + kExtra) * kPanel;
      for_tiles(H_ + 2, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        V acc[R][4];  // summed for itself first: terms are rounded where the sum is still small
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate) acc[r][gate] = set(0);
        multiply(acc, left_ + first, 1, H_ + kExtra, dz, used_);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate) {
          float* sum = panel + (first + r) * kPanel + gate * W;
          store(sum, load(sum) + acc[r][gate]);
        }
      });
    }
    used_ = 0;
  }

 private:
  static constexpr int kSamples = 100;  // rows x steps: dz of a panel and its left operands stay in the first cache

  template <int N>
  void columns(float* dh, const float* ut) {
    for_tiles(rows_, [&](auto count, int first) {
      constexpr int R = decltype(count)::value;
      V acc[R][N];
      LSTM_UNROLL
      for (int r = 0; r < R; ++r) LSTM_UNROLL
      for (int j = 0; j < N; ++j) acc[r][j] = set(0);
      for (int p = 0; p < H_ / W; ++p)
        multiply(acc, dz_ + (size_t(p) * capacity_ + used_ + first) * kPanel, kPanel, 1,
                 ut + size_t(p) * kPanel * N * W, kPanel);
      LSTM_UNROLL
      for (int r = 0; r < R; ++r) LSTM_UNROLL
      for (int j = 0; j < N; ++j) store(dh + (first + r) * H_ + j * W, acc[r][j]);
    });
  }

  const int H_, rows_, capacity_;
  const float* packed_;
  float *left_, *dz_;
  int used_ = 0;
};
