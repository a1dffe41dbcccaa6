// The LSTM's products by fused multiply-adds on vectors of floats, for lstm_simd.h where there is no AMX.

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

// u in panels of H x 4 W; then u and w transposed.
size_t operands_size(const Problem& problem) {
  const size_t H = problem.units, F = problem.features;
  return 8 * H * H + (F > 1 ? 4 * H * round_up(F, W) : 0);
}

void pack_operands(const Problem& problem, const float* w, const float* u, bool backward, float* out) {
  const int H = problem.units, F = problem.features;
  if (!backward) return pack_panels(H, H, u, out);
  out = pack_transpose(H, H, u, out + 4 * size_t(H) * H);
  if (F > 1) pack_transpose(H, F, w, out);
}

inline size_t extra_columns(int features) { return round_up(features + 1, 16); }

class Forward {
 public:
  static size_t size(const Problem& problem, int rows) { return round_up(size_t(rows) * problem.units, 16); }

  Forward(const Problem& problem, int rows, const float* packed, float* h, float* scratch)
      : H_(problem.units),
        F_(problem.features),
        rows_(rows),
        packed_(packed),
        h_(h),
        next_(scratch) {}

  const float* h() const { return h_; }

  void step(const float* x, float* c, float* kept) {
    const size_t stride = row_of_features(F_);
    for (int p = 0; p < H_ / W; ++p) {
      const float* w = packed_ + size_t(p) * F_ * kPanel;
      const float* b = packed_ + 4 * size_t(H_) * F_ + p * kPanel;
      const float* u = packed_ + 4 * size_t(H_) * (F_ + 1) + size_t(p) * H_ * kPanel;
      for_tiles(rows_, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        V z[R][4];  // the recurrent sum first: rounded where it is small, not where a large bias is in it
        clear(z);
        multiply(z, h_ + first * H_, H_, 1, u, H_);
        if (F_ > 1) multiply(z, x + first * stride, stride, 1, w, F_);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) {
          LSTM_UNROLL
          for (int gate = 0; gate < 4; ++gate) {
            const V bias = load(b + gate * W);
            z[r][gate] += F_ > 1 ? bias : fma(load(w + gate * W), set(x[first + r]), bias);
          }
          const size_t unit = size_t(first + r) * H_ + p * W;
          cell(z[r], next_ + unit, c + unit, kept ? kept + kKept * unit : nullptr);
        }
      });
    }
    std::swap(h_, next_);
  }

  void finish(float* h) {
    if (h_ != h)
      for (int i = 0; i < rows_ * H_; i += W) store(h + i, load(h_ + i));
  }

 private:
  const int H_, F_, rows_;
  const float* packed_;
  float *h_, *next_;
};

// Samples, rows x steps: left operands of their weights' gradients, and dz in panels; then dx of one step.
class Chunk {
 public:
  static size_t size(const Problem& problem, int rows) {
    const size_t H = problem.units, F = problem.features;
    return capacity(rows) * (5 * H + extra_columns(F)) + rows * round_up(F, W);
  }

  Chunk(const Problem& problem, int rows, const float* packed, float* scratch)
      : H_(problem.units),
        F_(problem.features),
        rows_(rows),
        capacity_(capacity(rows)),
        width_(H_ + extra_columns(F_)),
        ut_(packed + 4 * size_t(H_) * (F_ + 1 + H_)),
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

  // dx = dz w^T, of the step that put() was called for.
  void multiply_features() { multiply_transpose(ut_ + 4 * size_t(H_) * H_, dx_, round_up(F_, W)); }
  const float* feature_gradients(int r) const { return dx_ + r * round_up(F_, W); }

  void step(float* dh) {
    multiply_transpose(ut_, dh, H_);
    used_ += rows_;
  }

  bool full() const { return used_ == capacity_; }

  // Add to sums, panel by panel, the products of all samples' left columns and their dz.
  void accumulate(float* sums) {
    for (int p = 0; p < H_ / W; ++p)
      for_tiles(H_ + F_ + 1, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        V acc[R][4];  // summed for itself first: terms are rounded where the sum is still small
        clear(acc);
        multiply(acc, left_ + first, 1, width_, dz_ + size_t(p) * capacity_ * kPanel, used_);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate) {
          float* sum = sums + (p * width_ + first + r) * kPanel + gate * W;
          store(sum, load(sum) + acc[r][gate]);
        }
      });
    used_ = 0;
  }

 private:
  static constexpr int kSamples = 100;  // rows x steps: dz of a panel and its left operands stay in the first cache

  static int capacity(int rows) { return rows < kSamples ? kSamples / rows * rows : rows; }

  // dz of the step that put() was called for.
  float* dz(int r, int p) const { return dz_ + (size_t(p) * capacity_ + used_ + r) * kPanel; }

  // Set out (rows x columns) to the product of a step's dz and a transpose as pack_transpose() lays it out.
  void multiply_transpose(const float* right, float* out, int columns) const {
    for_vectors(columns, [&](auto vectors, int column) {
      constexpr int N = decltype(vectors)::value;
      for_tiles(rows_, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        V acc[R][N];
        clear(acc);
        for (int p = 0; p < H_ / W; ++p)
          multiply(acc, dz(first, p), kPanel, 1, right + size_t(4) * H_ * column + size_t(p) * kPanel * N * W, kPanel);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int j = 0; j < N; ++j) store(out + (first + r) * columns + column + j * W, acc[r][j]);
      });
    });
  }

  const int H_, F_, rows_, capacity_;
  const size_t width_;  // of the left operand
  const float* ut_;
  float *left_, *dz_, *dx_;
  int used_ = 0;
};
