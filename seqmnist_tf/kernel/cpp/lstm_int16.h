// Products of 16-bit integers (AVX-512 VNNI), for training in lower precision. Operands are scaled and rounded: the
// largest in a row of a left operand becomes 2^12, and that of all rows where these are samples; the largest in a
// column of a right one becomes 2^12 - 1 at least and 2^15 at most.
//
// VPDPWSSD adds to each of 16 sums of 32 bits the products of two pairs. Up to kTerms products are summed as integers,
// which cannot overflow: a left operand is at most kLeft, and a column's terms together at most kRight. These sums are
// exact; they are added up as floats. Features, biases and the elementwise part are in float as elsewhere.

typedef __m512i I;                                  // 16 pairs of 16 bits
typedef int Sums __attribute__((vector_size(64)));  // not __m512i, which may be an alias: GCC 12 keeps it in memory
constexpr int kTerms = 128;                         // rows of a right operand that are summed as integers
constexpr float kLeft = 1 << 12;                    // what 1 becomes in a left operand
constexpr float kRight = (1 << 19) - kTerms;
constexpr float kTiny = 1e-28f;  // smaller ones are rounded relative to it

inline int pairs(int n) { return (n + 1) / 2; }
LSTM_INLINE V absolute(V v) { return _mm512_abs_ps(v); }
LSTM_INLINE I integers(V v) { return _mm512_cvtps_epi32(v); }
LSTM_INLINE V floats(Sums v) { return _mm512_cvtepi32_ps((I)v); }
LSTM_INLINE I pair(V first, V second) {  // of two rows
  return _mm512_mask_blend_epi16(0xaaaaaaaa, integers(first), _mm512_slli_epi32(integers(second), 16));
}
LSTM_INLINE void put_halves(float* to, V v) {  // of one row: 16 numbers, or 8 pairs
  _mm256_store_si256((__m256i*)to, _mm512_cvtepi32_epi16(integers(v)));
}

// Round 16 columns, row(k) for each of their rows, to pairs at out, `stride` vectors from pair to pair. Returns what
// their products with a left operand are to be multiplied by: NaN for a column that is not finite.
template <class Row>
LSTM_INLINE V round_columns(int rows, const Row& row, float* out, int stride) {
  V largest = set(kTiny), most = set(kTiny), zero = set(0);  // or NaN
  for (int first = 0; first < rows; first += kTerms) {
    V sum = set(0);
    for (int k = first; k < rows && k < first + kTerms; ++k) {
      const V v = absolute(row(k));
      largest = _mm512_max_ps(v, largest);
      sum = fma(v, set(1.0f / kTerms), sum);  // lest it overflows
      zero = fma(v, set(0), zero);
    }
    most = _mm512_max_ps(sum, most);
  }
  const V scale = _mm512_min_ps(set(32767.0f) / largest, set(kRight / kTerms) / most);
  for (int k = 0; k < rows; k += 2, out += stride * W)
    _mm512_store_si512(out, pair(row(k) * scale, k + 1 < rows ? row(k + 1) * scale : set(0)));
  return set(1) / (scale * set(kLeft)) + zero;
}

// The larger of magnitudes, as bits, in whose order NaN comes last.
LSTM_INLINE void enlarge(I& largest, V v) { largest = _mm512_max_epi32(largest, _mm512_castps_si512(absolute(v))); }
LSTM_INLINE float largest_of(I largest) {
  const int bits = _mm512_reduce_max_epi32(largest);
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return std::isnan(value) ? value : std::max(value, kTiny);
}

// Round a row of n floats, panel(i) for each 16 of them, to pairs: the largest becomes kLeft. Returns what its products
// are to be multiplied by: NaN for a row that is not finite.
template <class Panel>
LSTM_INLINE float round_row(int n, const Panel& panel, float* out) {
  I largest = _mm512_setzero_si512();
  for (int i = 0; i < n; i += W) enlarge(largest, panel(i));
  const float value = largest_of(largest);
  const V scale = set(kLeft / value);
  for (int i = 0; i < n; i += W) put_halves(out + i / 2, panel(i) * scale);
  return value + 0 * value;
}

// Add to acc (R x N vectors) the product of a left operand (R x k pairs) and a right one (k pairs x N vectors).
template <int R, int N>
LSTM_INLINE void multiply(Sums (&acc)[R][N], const float* left, size_t row_stride, size_t k_stride, const float* right,
                          int k) {
  for (int i = 0; i < k; ++i, left += k_stride, right += N * W) {
    I a[R];
    LSTM_UNROLL
    for (int r = 0; r < R; ++r) a[r] = _mm512_castps_si512(set(left[r * row_stride]));
    LSTM_UNROLL
    for (int j = 0; j < N; ++j) {
      const I b = _mm512_load_si512(right + j * W);
      LSTM_UNROLL
      for (int r = 0; r < R; ++r) acc[r][j] = (Sums)_mm512_dpwssd_epi32((I)acc[r][j], a[r], b);
    }
  }
}

// u in panels of pairs, each panel behind the multipliers of its columns; then u transposed, likewise, in panels of up
// to 4 vectors; then w transposed, in floats.
inline size_t operand_size(int rows, int columns) { return size_t(pairs(rows) + 1) * columns; }
size_t operands_size(const Problem& problem) {
  const size_t H = problem.units, F = problem.features;
  return operand_size(H, 4 * H) + operand_size(4 * H, H) + (F > 1 ? 4 * H * round_up(F, W) : 0);
}

void pack_operands(const Problem& problem, const float* w, const float* u, bool backward, float* out) {
  const int H = problem.units, F = problem.features;
  if (!backward) {
    for (int p = 0; p < H / W; ++p, out += operand_size(H, kPanel))
      for (int gate = 0; gate < 4; ++gate) {
        const auto row = [&](int k) { return load_any(u + size_t(k) * 4 * H + gate * H + p * W); };
        store(out + gate * W, round_columns(H, row, out + kPanel + gate * W, 4));
      }
    return;
  }
  out += operand_size(H, 4 * H);
  const Buffer transposed = allocate(size_t(4) * H * W);
  for (int first = 0; first < H; first += W) {
    const int panel = first / kPanel * kPanel, vectors = std::min(H - panel, kPanel) / W, j = (first - panel) / W;
    float* to = transposed.get();
    for (int p = 0; p < H / W; ++p)
      for (int gate = 0; gate < 4; ++gate)
        for (int lane = 0; lane < W; ++lane)
          for (int column = 0; column < W; ++column)
            *to++ = u[size_t(first + column) * 4 * H + gate * H + p * W + lane];
    float* at = out + operand_size(4 * H, panel);
    const auto row = [&](int k) { return load(transposed.get() + k * W); };
    store(at + j * W, round_columns(4 * H, row, at + (vectors + j) * W, vectors));
  }
  if (F > 1) pack_transpose(H, F, w, out + operand_size(4 * H, H));
}

class Forward {
 public:
  static size_t size(const Problem& problem, int rows) {
    return round_up(size_t(rows) * problem.units / 2, 16) + round_up(rows, 16);
  }

  Forward(const Problem& problem, int rows, const float* packed, float* h, float* scratch)
      : problem_(problem),
        H_(problem.units),
        F_(problem.features),
        rows_(rows),
        packed_(packed),
        h_(h),
        left_(scratch),
        multipliers_(left_ + round_up(size_t(rows) * H_ / 2, 16)) {
    round_states();
  }

  const float* h() const { return h_; }

  void step(const float* x, float* c, float* kept) {
    const size_t stride = row_of_features(F_);
    for (int p = 0; p < H_ / W; ++p) {
      const float* w = packed_ + size_t(p) * F_ * kPanel;
      const float* b = packed_ + 4 * size_t(H_) * F_ + p * kPanel;
      const float* multipliers = packed_ + 4 * size_t(H_) * (F_ + 1) + p * operand_size(H_, kPanel);
      for_tiles(rows_, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        V z[R][4];
        clear(z);
        for (int k = 0; k < H_; k += kTerms) {
          Sums acc[R][4];
          clear(acc);
          multiply(acc, left_ + (first * H_ + k) / 2, H_ / 2, 1, multipliers + (1 + k / 2) * kPanel,
                   std::min(H_ - k, kTerms) / 2);
          LSTM_UNROLL
          for (int r = 0; r < R; ++r) LSTM_UNROLL
          for (int gate = 0; gate < 4; ++gate) z[r][gate] += floats(acc[r][gate]);
        }
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate) z[r][gate] *= load(multipliers + gate * W) * set(multipliers_[first + r]);
        put_states(z, problem_, w, b, x + first * stride, size_t(first) * H_ + p * W, h_, c, kept);
      });
    }
    round_states();
  }

  void finish(float*) {}

 private:
  void round_states() {
    for (int r = 0; r < rows_; ++r)
      multipliers_[r] = round_row(H_, [&](int i) { return load(h_ + r * H_ + i); }, left_ + r * H_ / 2);
  }

  const Problem& problem_;
  const int H_, F_, rows_;
  const float* packed_;
  float *h_, *left_, *multipliers_;
};

class Chunk : public Samples {
 public:
  static int steps(int rows) { return rows < kTerms ? kTerms / rows : 1; }
  static size_t size(const Problem& problem, int rows) {  // for fewer rows too
    const size_t H = problem.units, samples = std::max(rows, kTerms);
    return Samples::size(problem, rows, samples) + rows * 2 * H + round_up(rows, 16) + pairs(samples) * (H + kPanel);
  }

  Chunk(const Problem& problem, int rows, const float* packed, float* scratch)
      : Samples(problem, rows, steps(rows) * rows, scratch),
        ut_(packed + 4 * size_t(H_) * (F_ + 1) + operand_size(H_, 4 * H_)),
        row_(dx_ + rows * round_up(F_, W)),
        multipliers_(row_ + size_t(rows) * 2 * H_),
        left_pairs_(multipliers_ + round_up(rows, 16)),
        right_pairs_(left_pairs_ + size_t(pairs(capacity_)) * H_) {}

  // dx = dz w^T, of the step that put() was called for.
  void multiply_features() { multiply_step(ut_ + operand_size(4 * H_, H_), dx_, round_up(F_, W)); }

  void step(float* dh) {
    for (int r = 0; r < rows_; ++r)
      multipliers_[r] =
          round_row(4 * H_, [&](int i) { return load(dz(r, i / kPanel) + i % kPanel); }, row_ + size_t(r) * 2 * H_);
    for_vectors(H_, [&](auto count, int first) {
      multiply_columns<decltype(count)::value>(ut_ + operand_size(4 * H_, first), dh + first);
    });
    used_ += rows_;
  }

  void accumulate(float* sums) {
    const int k = pairs(used_);
    I largest = _mm512_setzero_si512();
    for (int i = 0; i < used_; ++i)
      for (int j = 0; j < H_; j += W) enlarge(largest, load(left_ + i * width_ + j));
    const float multiplier = largest_of(largest);
    const V scale = set(kLeft / multiplier);
    for (int i = 0; i < k; ++i) {
      const float *even = left_ + 2 * i * width_, *odd = even + width_;
      for (int j = 0; j < H_; j += W) {
        const V second = 2 * i + 1 < used_ ? load(odd + j) : set(0);
        _mm512_store_si512(left_pairs_ + i * H_ + j, pair(load(even + j) * scale, second * scale));
      }
    }
    for (int p = 0; p < H_ / W; ++p) {
      const float* from = dz_ + size_t(p) * capacity_ * kPanel;
      float* panel = sums + p * width_ * kPanel;
      V multipliers[4];
      round_samples(from, multiplier, multipliers);
      for_tiles(H_, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        Sums acc[R][4];
        clear(acc);
        multiply(acc, left_pairs_ + first, 1, H_, right_pairs_, k);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) LSTM_UNROLL
        for (int gate = 0; gate < 4; ++gate) {
          float* sum = panel + (first + r) * kPanel + gate * W;
          store(sum, fma(floats(acc[r][gate]), multipliers[gate], load(sum)));
        }
      });
      add_products(H_, F_ + 1, from, panel);
    }
    used_ = 0;
  }

 private:
  // A panel of all samples' dz as a right operand. There are kTerms at most, so that the largest of a column may become
  // nearly kLeft.
  void round_samples(const float* from, float multiplier, V (&multipliers)[4]) {
    I largest[4];
    V scale[4];
    LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) largest[gate] = _mm512_castps_si512(set(kTiny));
    for (int i = 0; i < used_; ++i) LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) enlarge(largest[gate], load(from + i * kPanel + gate * W));
    LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate) {
      const V value = _mm512_castsi512_ps(largest[gate]);
      scale[gate] = set(kLeft - 1) / value;
      multipliers[gate] = fma(set(0), value, set(multiplier) / (scale[gate] * set(kLeft)));
    }
    float* to = right_pairs_;
    for (int i = 0; i < used_; i += 2, from += 2 * kPanel) LSTM_UNROLL
    for (int gate = 0; gate < 4; ++gate, to += W) {
      const V second = i + 1 < used_ ? load(from + kPanel + gate * W) : set(0);
      _mm512_store_si512(to, pair(load(from + gate * W) * scale[gate], second * scale[gate]));
    }
  }

  // Set columns of out (rows x H) to the product of a step's dz and a panel of u transposed.
  template <int N>
  void multiply_columns(const float* multipliers, float* out) {
    for (int k = 0; k < 4 * H_; k += kTerms)
      for_tiles(rows_, [&](auto count, int first) {
        constexpr int R = decltype(count)::value;
        Sums acc[R][N];
        clear(acc);
        multiply(acc, row_ + size_t(first) * 2 * H_ + k / 2, 2 * size_t(H_), 1, multipliers + (1 + k / 2) * N * W,
                 std::min(4 * H_ - k, kTerms) / 2);
        LSTM_UNROLL
        for (int r = 0; r < R; ++r) {
          const V multiplier = set(multipliers_[first + r]);
          LSTM_UNROLL
          for (int j = 0; j < N; ++j) {
            float* sum = out + (first + r) * H_ + j * W;
            const V more = floats(acc[r][j]) * load(multipliers + j * W) * multiplier;
            store(sum, k ? load(sum) + more : more);
          }
        }
      });
  }

  const float* ut_;
  float *row_, *multipliers_, *left_pairs_, *right_pairs_;
};
