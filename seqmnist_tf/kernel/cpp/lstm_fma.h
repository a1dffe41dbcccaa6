// Products by fused multiply-adds on vectors of floats.

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

class Forward {
 public:
  static size_t size(const Problem& problem, int rows) { return round_up(size_t(rows) * problem.units, 16); }

  Forward(const Problem& problem, int rows, const float* packed, float* h, float* scratch)
      : problem_(problem),
        H_(problem.units),
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
        put_states(z, problem_, w, b, x + first * stride, size_t(first) * H_ + p * W, next_, c, kept);
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
  const Problem& problem_;
  const int H_, F_, rows_;
  const float* packed_;
  float *h_, *next_;
};

class Chunk : public Samples {
 public:
  static int steps(int rows) { return rows < kSamples ? kSamples / rows : 1; }
  static size_t size(const Problem& problem, int rows) { return Samples::size(problem, rows, steps(rows) * rows); }

  Chunk(const Problem& problem, int rows, const float* packed, float* scratch)
      : Samples(problem, rows, steps(rows) * rows, scratch),
        ut_(packed + 4 * size_t(H_) * (F_ + 1 + H_)) {}

  // dx = dz w^T, of the step that put() was called for.
  void multiply_features() { multiply_step(ut_ + 4 * size_t(H_) * H_, dx_, round_up(F_, W)); }

  void step(float* dh) {
    multiply_step(ut_, dh, H_);
    used_ += rows_;
  }

  void accumulate(float* sums) {
    for (int p = 0; p < H_ / W; ++p)
      add_products(0, H_ + F_ + 1, dz_ + size_t(p) * capacity_ * kPanel, sums + p * width_ * kPanel);
    used_ = 0;
  }

 private:
  static constexpr int kSamples = 100;  // rows x steps: dz of a panel and its left operands stay in the first cache

  const float* ut_;
};
