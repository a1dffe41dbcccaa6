// The LSTM's products on AMX tiles (tiles.h), for lstm_simd.h where the processor has AMX.

// Tiles in a row of the forward pass's left operand: h, and more than one feature.
inline int forward_tiles(const Problem& problem) {
  return tiles32(problem.units + (problem.features > 1 ? row_of_features(problem.features) : 0));
}

// u, and w below it, in panels: their rows, padded to whole tiles, by the 64 columns of a panel; then u and w
// transposed.
size_t operands_size(const Problem& problem) {
  const int H = problem.units, F = problem.features;
  const size_t transposes = size_t(panels64(H) + (F > 1 ? panels64(F) : 0)) * (H / 8);
  return kWeight * (size_t(H / W) * forward_tiles(problem) + transposes);
}

// The transpose of a matrix (rows x 4 H), in panels of 64 of its columns, padded with zeros; its 4 H rows are in the
// order of the gates' panels.
float* pack_transpose(int H, int rows, const float* m, float* out) {
  for (int first = 0; first < rows; first += 64) {
    const auto value = [&](int k, int column) {
      const int gate = k % kPanel / W, unit = k / kPanel * W + k % W;
      return first + column < rows ? m[size_t(first + column) * 4 * H + gate * H + unit] : 0;
    };
    out = pack_right(H / 8, value, out);
  }
  return out;
}

void pack_operands(const Problem& problem, const float* w, const float* u, bool backward, float* out) {
  const int H = problem.units, F = problem.features, tiles = forward_tiles(problem);
  if (!backward) {
    for (int p = 0; p < H / W; ++p) {
      const auto value = [&](int k, int column) {
        const int of = column / W * H + p * W + column % W;
        if (k < H) return u[size_t(k) * 4 * H + of];
        return F > 1 && k < H + F ? w[size_t(k - H) * 4 * H + of] : 0;
      };
      out = pack_right(tiles, value, out);
    }
    return;
  }
  out = pack_transpose(H, H, u, out + size_t(H / W) * tiles * kWeight);
  if (F > 1) pack_transpose(H, F, w, out);
}

// Features come whole, in two parts that are columns of their own, on both sides of the 1: where one is the same all
// over, as the background's pixel, what two parts leave of it would add up.
inline size_t extra_columns(int features) { return round_up(2 * features + 1, 16); }

class Forward {
 public:
  static size_t size(const Problem& problem, int rows) {
    return size_t(Rows(rows, 1).padded()) * (forward_tiles(problem) * 64 + 2 * kPanel);
  }

  Forward(const Problem& problem, int rows, const float* packed, float* h, float* scratch)
      : H_(problem.units),
        F_(problem.features),
        k_(forward_tiles(problem)),
        tiles_(rows, k_),
        rows_(rows),
        packed_(packed),
        h_(h),
        left_(scratch),
        z_(scratch + 4 * low()) {
    for (size_t i = 0; i < 4 * low(); ++i) left_[i] = 0;
    next_ = left_ + 2 * low();
    for (int r = 0; r < rows; ++r)
      for (int p = 0; p < H_ / W; ++p) put_left(left_, r, p, load(h + r * H_ + p * W));
    configure(tiles_.height);
  }

  const float* h() const { return h_; }

  void step(const float* x, float* c, float* kept) {
    if (F_ > 1) put_features(x);
    const Left left{left_, low(), size_t(tiles_.height) * 16, tiles_.second};
    const int calls = calls_between(k_, 3, left), panels = H_ / W;
    int p = 0, r = rows_, due = 0;
    const auto between = [&] {  // states of the panel before, while tiles multiply for panel p
      for (due += rows_; r < rows_ && r * calls < due; ++r) put_state(r, p - 1, x, c, kept);
    };
    for (; p < panels; ++p, r = due = 0) {
      const float* u = packed_ + 4 * size_t(H_) * (F_ + 1) + size_t(p) * k_ * kWeight;
      multiply<3>(k_, left, u, {z(p), kPanel, size_t(tiles_.height) * kPanel}, false, between);
    }
    for (; r < rows_; ++r) put_state(r, panels - 1, x, c, kept);
    float* swap = left_;
    left_ = next_, next_ = swap;
  }

  void finish(float*) {}

 private:
  size_t low() const { return size_t(tiles_.padded()) * k_ * 16; }  // from high parts to low parts
  float* z(int p) const { return z_ + size_t(p % 2) * tiles_.padded() * kPanel; }

  // The next states of a panel's units in row r.
  __attribute__((noinline)) void put_state(int r, int p, const float* x, float* c, float* kept) {
    const float* w = packed_ + size_t(p) * F_ * kPanel;
    const float* b = packed_ + 4 * size_t(H_) * F_ + p * kPanel;
    const float* from = z(p) + r * kPanel;
    V z[4];
    LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) {
      const V bias = load(b + gate * W);
      z[gate] = F_ > 1 ? bias : fma(load(w + gate * W), set(x[r]), bias);
      z[gate] += load(from + gate * W);
    }
    const size_t unit = size_t(r) * H_ + p * W;
    cell(z, h_ + unit, c + unit, kept ? kept + kKept * unit : nullptr);
    put_left(next_, r, p, load(h_ + unit));
  }

  void put_left(float* left, int r, int p, V h) {  // half a row of a tile
    float* to = left + tiles_.at[r] + size_t(p / 2) * tiles_.height * 16 + p % 2 * 8;
    _mm256_store_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(h));
    _mm256_store_si256((__m256i*)(to + low()), (__m256i)_mm512_cvtneps_pbh(tail(h)));
  }

  void put_features(const float* x) {
    for (int r = 0; r < rows_; ++r)
      for (int f = 0; f < F_; f += W) put_left(left_, r, (H_ + f) / W, load(x + r * row_of_features(F_) + f));
  }

  const int H_, F_, k_;
  const Rows tiles_;
  const int rows_;
  const float* packed_;
  float *h_, *left_, *next_, *z_;
};

class Chunk {
 public:
  static size_t size(const Problem& problem, int rows) {
    const size_t H = problem.units, F = problem.features, samples = capacity(rows), padded = Rows(rows, 1).padded();
    return samples * (2 * (H + extra_columns(F)) + 4 * H) + padded * (4 * H + round_up(H, 64) + round_up(F, 64));
  }

  Chunk(const Problem& problem, int rows, const float* packed, float* scratch)
      : H_(problem.units),
        F_(problem.features),
        rows_(rows),
        capacity_(capacity(rows)),
        tiles_(rows, H_ / 8),
        width_(H_ + extra_columns(F_)),
        ut_(packed + 4 * size_t(H_) * (F_ + 1) + size_t(H_ / W) * forward_tiles(problem) * kWeight),
        left_(scratch),
        transposed_(left_ + capacity_ * width_),
        right_(transposed_ + capacity_ * width_),
        dz_(right_ + size_t(capacity_) * 4 * H_),
        dh_(dz_ + size_t(tiles_.padded()) * 4 * H_),
        dx_(dh_ + tiles_.padded() * round_up(H_, 64)) {
    std::fill(left_, dh_, 0.0f);
  }

  // The left operand of a row's weight gradients: h, x, 1, rest of x.
  float* left(int r) { return left_ + (used_ + r) * width_; }

  void put_features(float* to, const float* x) const {
    for (int f = 0; f < F_; ++f) {
      to[f] = _mm512_cvtss_f32(head(set(x[f])));
      to[F_ + 1 + f] = x[f] - to[f];
    }
    to[F_] = 1;
  }

  void put(int r, int p, const V (&dz)[4]) {
    float* to = dz_ + tiles_.at[r] + size_t(2 * p) * tiles_.height * 16;
    LSTM_UNROLL
    for (int half = 0; half < 2; ++half, to += tiles_.height * 16) {
      V a = dz[2 * half], b = dz[2 * half + 1];
      save(to, take(a, b));
      save(to + low(), narrow(a, b));
    }
  }

  // dx = dz w^T, of the step that put() was called for.
  void multiply_features() {
    configure(tiles_.height);
    multiply_transpose(ut_ + size_t(panels64(H_)) * (H_ / 8) * kWeight, dx_, F_);
  }
  const float* feature_gradients(int r) const { return dx_ + r * round_up(F_, 64); }

  void step(float* dh) {
    configure(tiles_.height);
    multiply_transpose(ut_, dh_, H_);
    for (int r = 0; r < rows_; ++r)
      for (int j = 0; j < H_; j += W) store(dh + r * H_ + j, load(dh_ + r * round_up(H_, 64) + j));
    for (int r = 0; r < tiles_.padded(); r += 2) put_right(r);
    used_ += tiles_.padded();
  }

  bool full() const { return used_ + tiles_.padded() > capacity_; }

  void accumulate(float* sums) {
    const int tiles = tiles32(used_), width = width_;
    for (int sample = used_; sample < 32 * tiles; sample += 2)
      for (int p = 0; p < H_ / W; ++p)
        for (int tile = 0; tile < 8; ++tile) save(right(p, sample) + tile * kTile, _mm512_setzero_si512());
    for (int first = 0; first < width; first += 16)
      for (int k = 0; k < tiles; ++k)
        transpose_left(first, k, transposed_ + size_t(first / 16 * tiles + k) * 2 * kTile);
    configure(16);
    for (int p = 0; p < H_ / W; ++p)
      for (int first = 0; first < width; first += 32) {
        const size_t second = first + 16 < width ? size_t(tiles) * 2 * kTile : 0;
        multiply<2>(tiles, {transposed_ + size_t(first / 16 * tiles) * 2 * kTile, kTile, 2 * kTile, second},
                    right(p, 0), {sums + (size_t(p) * width + first) * kPanel, kPanel, 16 * kPanel}, true);
      }
    used_ = 0;
  }

 private:
  static constexpr int kSamples = 160;  // rows x steps: their dz of a panel, 40 KiB, stay in the first cache

  static int capacity(int rows) { return round_up(rows < kSamples ? kSamples : Rows(rows, 1).padded(), 32); }

  size_t low() const { return size_t(tiles_.padded()) * 2 * H_; }  // from high parts to low parts

  float* right(int p, int sample) {
    return right_ + (size_t(p) * (capacity_ / 32) + sample / 32) * 8 * kTile + sample % 32 * 8;
  }

  // Set out (rows x columns, padded to whole tiles and panels) to the product of a step's dz and a transpose as
  // pack_transpose() lays it out.
  void multiply_transpose(const float* right, float* out, int columns) {
    const int stride = round_up(columns, 64);
    for (int first = 0; first < columns; first += 64, right += size_t(H_ / 8) * kWeight)
      multiply<3>(H_ / 8, {dz_, low(), size_t(tiles_.height) * 16, tiles_.second}, right,
                  {out + first, stride, size_t(tiles_.height) * stride}, false);
  }

  // Two rows of dz as a row of right tiles.
  void put_right(int r) {
    const float* a = dz_ + tiles_.at[r];
    const float* b = dz_ + tiles_.at[r + 1];
    for (int p = 0; p < H_ / W; ++p) {
      float* to = right(p, used_ + r);
      for (int half = 0; half < 2; ++half, a += tiles_.height * 16, b += tiles_.height * 16, to += 2 * kTile) {
        save(to, interleave(read(a), read(b), true));
        save(to + kTile, interleave(read(a), read(b), false));
        save(to + 4 * kTile, interleave(read(a + low()), read(b + low()), true));
        save(to + 5 * kTile, interleave(read(a + low()), read(b + low()), false));
      }
    }
  }

  // 32 samples of 16 columns of the left operand as a left tile, high and low, of 16 rows.
  void transpose_left(int first, int k, float* to) { transpose_samples(left_ + 32 * k * width_ + first, width_, to); }

  const int H_, F_, rows_, capacity_;
  const Rows tiles_;
  const size_t width_;  // of the left operand
  const float* ut_;
  float *left_, *transposed_, *right_, *dz_, *dh_, *dx_;
  int used_ = 0;
};
