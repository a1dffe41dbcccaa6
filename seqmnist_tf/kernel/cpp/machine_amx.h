// The machine's products on AMX tiles, for machine_simd.h where the processor has AMX. What has few columns, as a
// single feature or a bias, is left to vectors.

namespace tiles {

using vectors::add_product;

#include "tiles.h"

constexpr int kFewColumns = 16;
constexpr int kSampleTiles = 4;  // of 32 samples each: kSampleRows, or a block's rows

// Right operands in panels of 64 columns, in three parts, as pack_right() lays them out.
size_t packed_size(int k, int n) {
  return k < kFewColumns ? vectors::packed_size(k, n) : size_t(tiles32(k)) * panels64(n) * kWeight;
}

void pack(const Pack& pack, float* to) {
  if (pack.k < kFewColumns) return vectors::pack(pack, to);
  for (int first = 0; first < pack.n; first += 64)
    to = pack_right(
        tiles32(pack.k),
        [&](int k, int column) {
          const int j = first + column;
          return k < pack.k && j < pack.n ? pack.from[k * pack.row + j * pack.column] : 0;
        },
        to);
}

// Rows of 32 columns, of which those from `k` on count as zeros, as a row of left tiles: high and, `low` floats behind,
// low parts.
inline void put_left(const float* from, int k, float* to, size_t step, size_t low) {
  for (int first = 0; first < k; first += 32, from += 32, to += step) {
    const auto some = [&](int begin) {
      const int count = k - first - begin;
      return count >= 16 ? load(from + begin) : _mm512_maskz_loadu_ps(count > 0 ? (1u << count) - 1 : 0, from + begin);
    };
    V a = some(0), b = some(16);
    save(to, take(a, b));
    save(to + low, narrow(a, b));
  }
}

// Left operands of a group of products as tiles, each once.
class LeftOperands {
 public:
  LeftOperands(const Frame& frame, float* scratch) : frame_(frame), next_(scratch) {}

  static size_t size(int k) { return 2 * tiles32(k) * size_t(Rows(kBlockRows, 1).padded()) * 16; }

  Left find(const Operand& operand, int k) {
    for (const Entry& entry : entries_)
      if (entry.operand.region == operand.region && entry.operand.offset == operand.offset && entry.k == k)
        return entry.left;
    const Rows rows(frame_.rows, tiles32(k));
    const size_t low = size_t(rows.padded()) * tiles32(k) * 16, step = size_t(rows.height) * 16;
    for (int r = 0; r < frame_.rows; ++r) put_left(frame_.at(operand, r), k, next_ + rows.at[r], step, low);
    entries_.push_back({operand, k, {next_, low, step, rows.second}});
    next_ += 2 * low;
    return entries_.back().left;
  }

 private:
  struct Entry {
    Operand operand;
    int k;
    Left left;
  };
  const Frame& frame_;
  float* next_;
  std::vector<Entry> entries_;
};

void compute(const std::vector<Dot>& dots, const Frame& frame) {
  const Rows rows(frame.rows, 1);
  int widest = 0;
  for (const Dot& dot : dots) widest = std::max(widest, panels64(dot.width) * 64);
  float* const sums = frame.scratch;
  LeftOperands lefts(frame, sums + size_t(widest) * rows.padded());
  configure(rows.height);
  for (const Dot& dot : dots) {
    if (frame.skips(dot.condition)) continue;
    const size_t stride = panels64(dot.width) * 64;
    bool add = false;
    for (const Term& term : dot.terms) {
      if (term.k < kFewColumns) continue;
      const Left left = lefts.find(term.left, term.k);
      const float* right = frame.packed[term.packed];
      for (int first = 0; first < dot.width; first += 64, right += tiles32(term.k) * kWeight)
        multiply<3>(tiles32(term.k), left, right, {sums + first, int(stride), size_t(rows.height) * stride}, add);
      add = true;
    }
    vectors::compute(dot, frame, kFewColumns, add ? sums : nullptr, stride);
  }
}

// Samples of a right operand in panels of 64 columns, as right tiles of two parts.
void put_right(const Product& product, float* to) {
  for (int first = 0; first < product.n; first += 64, to += kSampleTiles * 8 * kTile)
    for (int sample = 0; sample < 32 * kSampleTiles; sample += 2)
      for (int column = first; column < first + 64; column += 16) {
        float* at = to + sample / 32 * 8 * kTile + sample % 32 * 8 + (column - first) / 16 * kTile;
        const auto row = [&](int r) {
          return r < product.samples && column < product.n ? load(product.right + r * product.right_stride + column)
                                                           : set(0);
        };
        V a = row(sample), b = row(sample + 1);
        save(at, take_pairs(a, b));
        save(at + 4 * kTile, take_pairs(a, b));
      }
}

// Samples of a left operand as left tiles of 16 columns. What fills up its rows gives rows of sums that nobody reads.
void put_samples(const Product& product, float* copy, float* to) {
  for (int first = 0; first < product.k; first += 16, to += kSampleTiles * 2 * kTile)
    for (int k = 0; 32 * k < product.samples; ++k) {
      const float* from = product.left + 32 * k * product.left_stride + first;
      size_t stride = product.left_stride;
      if (32 * (k + 1) > product.samples) {  // zeros follow
        std::fill(copy, copy + 32 * 16, 0.0f);
        for (int r = 32 * k; r < product.samples; ++r, from += stride) store(copy + (r - 32 * k) * 16, load(from));
        from = copy, stride = 16;
      }
      transpose_samples(from, stride, to + k * 2 * kTile);
    }
}

inline size_t right_size(int n) { return size_t(panels64(n)) * kSampleTiles * 8 * kTile; }
inline size_t left_size(int k) { return aligned(k) / 16 * kSampleTiles * 2 * kTile; }

void add_products(const std::vector<Product>& products, float* scratch) {
  struct Entry {
    const float* from;
    float* at;
  };
  std::vector<Entry> lefts, rights;
  float *sums = scratch, *copy = sums + 32 * 64, *next = copy + 32 * 16;
  const auto find = [](const std::vector<Entry>& entries, const float* from) -> float* {
    for (const Entry& entry : entries)
      if (entry.from == from) return entry.at;
    return nullptr;
  };
  configure(16);
  for (const Product& product : products) {
    if (product.k < kFewColumns || product.samples > 32 * kSampleTiles) {
      add_product(product);
      continue;
    }
    float* left = find(lefts, product.left);
    if (!left) {
      left = next, next += left_size(product.k);
      put_samples(product, copy, left);
      lefts.push_back({product.left, left});
    }
    float* right = find(rights, product.right);
    if (!right) {
      right = next, next += right_size(product.n);
      put_right(product, right);
      rights.push_back({product.right, right});
    }
    const int columns = aligned(product.n), used = (product.samples + 31) / 32;
    for (int panel = 0; panel * 64 < product.n; ++panel)
      for (int first = 0; first < product.k; first += 32) {
        const int height = std::min(32, product.k - first), width = std::min(64, columns - panel * 64);
        float* const to = product.sums + size_t(first) * columns + panel * 64;
        const bool whole = height == 32 && width == 64;
        const size_t step = size_t(kSampleTiles) * 2 * kTile;
        multiply<2>(used, {left + first / 16 * step, kTile, 2 * kTile, height > 16 ? step : 0},
                    right + panel * 4 * step, whole ? Sums{to, columns, size_t(16) * columns} : Sums{sums, 64, 16 * 64},
                    whole);
        for (int r = 0; r < height && !whole; ++r)
          for (int j = 0; j < width; j += W) {
            float* const at = to + size_t(r) * columns + j;
            store(at, load(at) + load(sums + r * 64 + j));
          }
      }
  }
}

size_t scratch_size(const std::vector<Group>& groups, const std::vector<Product>& products) {
  size_t most = 0, widest = 0;
  for (const Group& group : groups) {
    size_t size = 0;
    for (const Dot& dot : group.dots) {
      widest = std::max<size_t>(widest, panels64(dot.width) * 64);
      for (const Term& term : dot.terms) size += LeftOperands::size(term.k);
    }
    most = std::max(most, size);
  }
  size_t samples = 32 * 64 + 32 * 16;
  for (const Product& product : products) samples += left_size(product.k) + right_size(product.n);
  return std::max(most, samples) + widest * Rows(kBlockRows, 1).padded();
}

void done() { TILE_RELEASE(); }

}  // namespace tiles
