// What goes into the products of the LSTM on vectors: transposed weights, the next states, the samples of a chunk.

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

// Set out (rows x columns) to the product of a step's dz, in panels of kPanel columns, and a transpose as
// pack_transpose() lays it out.
void multiply_transpose(int H, int rows, const float* dz, size_t panel_stride, const float* right, float* out,
                        int columns) {
  for_vectors(columns, [&](auto count, int first) {
    constexpr int N = decltype(count)::value;
    multiply_columns<N>(H, rows, dz, panel_stride, right + size_t(4) * H * first, out + first, columns);
  });
}

inline size_t extra_columns(int features) { return round_up(features + 1, 16); }

// From recurrent sums z, the next states of a panel's units in the R rows from `first` on: x, w and b are the step's
// features, the panel's weights of them and its biases; `place` is where the first row's states are in h, c and kept.
template <int R>
LSTM_INLINE void put_states(V (&z)[R][4], const Problem& problem, const float* w, const float* b, const float* x,
                            size_t place, float* h, float* c, float* kept) {
  const int H = problem.units, F = problem.features;
  const size_t stride = row_of_features(F);
  if (F > 1) multiply(z, x, stride, 1, w, F);
  LSTM_UNROLL
  for (int r = 0; r < R; ++r) {
    LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) {
      const V bias = load(b + gate * W);
      z[r][gate] += F > 1 ? bias : fma(load(w + gate * W), set(x[r]), bias);
    }
    const size_t unit = place + r * H;
    cell(z[r], h + unit, c + unit, kept ? kept + kKept * unit : nullptr);
  }
}

// Samples, rows x steps, of a chunk: left operands of their weights' gradients, and dz in panels; then dx of one step.
class Samples {
 public:
  static size_t size(const Problem& problem, int rows, int capacity) {
    const size_t H = problem.units, F = problem.features;
    return size_t(capacity) * (5 * H + extra_columns(F)) + rows * round_up(F, W);
  }

  Samples(const Problem& problem, int rows, int capacity, float* scratch)
      : H_(problem.units),
        F_(problem.features),
        rows_(rows),
        capacity_(capacity),
        width_(H_ + extra_columns(F_)),
        left_(scratch),
        dz_(left_ + capacity_ * width_),
        dx_(dz_ + size_t(capacity_) * 4 * H_) {
    std::fill(left_, dz_, 0.0f);
  }

  // The left operand of a row's weight gradients: h, x, 1.
  float* left(int r) { return left_ + (used_ + r) * width_; }

  void put_features(float* to, const float* x) const {
    for (int f = 0; f < F_; ++f) to[f] = x[f];
    to[F_] = 1;
  }

  void put(int r, int p, const V (&dz)[4]) {
    LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) store(this->dz(r, p) + gate * W, dz[gate]);
  }

  const float* feature_gradients(int r) const { return dx_ + r * round_up(F_, W); }

  bool full() const { return used_ == capacity_; }

 protected:
  // dz of the step that put() was called for.
  float* dz(int r, int p) const { return dz_ + (size_t(p) * capacity_ + used_ + r) * kPanel; }

  void multiply_step(const float* right, float* out, int columns) const {
    multiply_transpose(H_, rows_, dz(0, 0), size_t(capacity_) * kPanel, right, out, columns);
  }

  // Add to a panel of sums the products of all samples' left columns from `begin` on and their dz.
  void add_products(int begin, int columns, const float* dz, float* panel) const {
    for_tiles(columns, [&](auto count, int first) {
      constexpr int R = decltype(count)::value;
      V acc[R][4];  // summed for itself first: terms are rounded where the sum is still small
      clear(acc);
      multiply(acc, left_ + begin + first, 1, width_, dz, used_);
      LSTM_UNROLL
      for (int r = 0; r < R; ++r) LSTM_UNROLL
      for (int gate = 0; gate < 4; ++gate) {
        float* sum = panel + (begin + first + r) * kPanel + gate * W;
        store(sum, load(sum) + acc[r][gate]);
      }
    });
  }

  const int H_, F_, rows_, capacity_;
  const size_t width_;  // of the left operand
  float *left_, *dz_, *dx_;
  int used_ = 0;
};
