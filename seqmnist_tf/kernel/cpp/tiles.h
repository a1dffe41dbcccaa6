// Products on AMX tiles, for lstm_amx.h and machine_amx.h. Each float is split into a high and a low bfloat16, x = hi +
// lo + O(2^-17 x), and a product of floats becomes three of bfloat16, hi hi + lo hi + hi lo, summed in float; four
// where the right operand is weights.
//
// A tile is 16 rows of 64 bytes. TDPBF16PS adds to a tile of floats (m x 16) the product of a left tile (m x 32
// bfloat16) and a right one, whose row j holds rows 2 j and 2 j + 1 of a matrix (32 x 16), interleaved.

typedef __m512i Halves;                 // 32 bfloat16
constexpr int kTile = 256;              // floats, or pairs of bfloat16, of a whole tile
constexpr int kWeight = 3 * 4 * kTile;  // 32 x 64 weights in three parts

LSTM_INLINE Halves narrow(V low, V high) { return (Halves)_mm512_cvtne2ps_pbh(high, low); }  // low comes first
LSTM_INLINE V head(V v) {  // the high part as a float, rounded as narrow() does
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v)), 16));
}
LSTM_INLINE V tail(V v) { return v - head(v); }
LSTM_INLINE void save(float* p, Halves v) { _mm512_store_si512(p, v); }
LSTM_INLINE Halves read(const float* p) { return _mm512_load_si512(p); }

// Elements 0 ... 15 (low) or 16 ... 31 of two rows, interleaved.
LSTM_INLINE Halves interleave(Halves a, Halves b, bool low) {
  static const uint16_t kIndex[2][32] = {{0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                          8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
                                         {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                          24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  return _mm512_permutex2var_epi16(a, _mm512_loadu_si512(kIndex[!low]), b);
}

// The high parts of a, then of b, as narrow(); their low parts are left in a and b.
LSTM_INLINE Halves take(V& a, V& b) {
  const Halves high = narrow(a, b);
  const auto as_floats = [](__m256i half) { return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16); };
  a -= as_floats(_mm512_castsi512_si256(high));
  b -= as_floats(_mm512_extracti64x4_epi64(high, 1));
  return high;
}

// The same by pairs, an element of a and one of b.
LSTM_INLINE Halves take_pairs(V& a, V& b) {
  static const uint16_t kIndex[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const Halves high = _mm512_permutexvar_epi16(_mm512_loadu_si512(kIndex), narrow(a, b));
  a -= (V)_mm512_slli_epi32(high, 16);
  b -= (V)_mm512_and_si512(high, _mm512_set1_epi32(int(0xffff0000)));
  return high;
}

// Tiles 0 to 3 are sums and 4 and 5 left operands, of `rows` rows; 6 and 7 are right operands.
void configure(int rows) {
  alignas(64) uint8_t config[64] = {1};
  for (int tile = 0; tile < 8; ++tile) {
    config[16 + 2 * tile] = 64;
    config[48 + tile] = tile < 6 ? rows : 16;
  }
  TILE_CONFIG(config);
}

// Left tiles: high parts at `at`, low parts `low` floats behind them, the next 32 columns `step` behind, and the tile
// of the next rows `second` behind, where there is one.
struct Left {
  const float* at;
  size_t low, step, second;
};

// Sums of 64 columns: `stride` floats from row to row.
struct Sums {
  float* at;
  int stride;
  size_t second;
};

// Add to sums 0 to 3 the products of a left tile and four right ones.
#define LSTM_FOUR_PRODUCTS(left, right)    \
  do {                                     \
    TILE_LOAD(6, right, 64);               \
    TILE_PRODUCT(0, left, 6);              \
    TILE_LOAD(7, (right) + kTile, 64);     \
    TILE_PRODUCT(1, left, 7);              \
    TILE_LOAD(6, (right) + 2 * kTile, 64); \
    TILE_PRODUCT(2, left, 6);              \
    TILE_LOAD(7, (right) + 3 * kTile, 64); \
    TILE_PRODUCT(3, left, 7);              \
  } while (0)

// `Parts` is 2, or 3 where right tiles have a third part, which counts with the left ones' high part only. `between` is
// called after every four products, for what vectors can do while tiles multiply: neither waits for the other.
//
// One row of tiles: sums 0 to 3 are its four tiles of 16 columns. Sums take turns: each has to wait for its last
// product.
template <int Parts, class Between>
LSTM_INLINE void multiply_row(int tiles, const Left& left, const float* right, const Sums& sums, bool add,
                              const Between& between) {
  const int stride = 4 * sums.stride;
  if (add) {
    TILE_LOAD(0, sums.at, stride);
    TILE_LOAD(1, sums.at + 16, stride);
    TILE_LOAD(2, sums.at + 32, stride);
    TILE_LOAD(3, sums.at + 48, stride);
  } else {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
  }
  for (int k = 0; k < tiles; ++k, right += 4 * Parts * kTile) {
    const float* high = left.at + k * left.step;
    TILE_LOAD(4, high, 64);
    TILE_LOAD(5, high + left.low, 64);
    LSTM_FOUR_PRODUCTS(4, right);
    between();
    LSTM_FOUR_PRODUCTS(5, right);
    between();
    LSTM_FOUR_PRODUCTS(4, right + 4 * kTile);
    between();
    if (Parts < 3) continue;
    LSTM_FOUR_PRODUCTS(4, right + 8 * kTile);
    between();
  }
  TILE_STORE(0, sums.at, stride);
  TILE_STORE(1, sums.at + 16, stride);
  TILE_STORE(2, sums.at + 32, stride);
  TILE_STORE(3, sums.at + 48, stride);
}

// Two rows of tiles by two tiles of columns: sums 0 and 1 are the first row's. A right tile is loaded for both rows.
template <int Parts, class Between>
LSTM_INLINE void multiply_square(int tiles, const Left& left, const float* right, const Sums& sums, bool add,
                                 const Between& between) {
  const int stride = 4 * sums.stride;
  if (add) {
    TILE_LOAD(0, sums.at, stride);
    TILE_LOAD(1, sums.at + 16, stride);
    TILE_LOAD(2, sums.at + sums.second, stride);
    TILE_LOAD(3, sums.at + sums.second + 16, stride);
  } else {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
  }
  for (int k = 0; k < tiles; ++k, right += 4 * Parts * kTile) {
    const float *first = left.at + k * left.step, *second = first + left.second;
    TILE_LOAD(4, first, 64);
    TILE_LOAD(6, right, 64);
    TILE_PRODUCT(0, 4, 6);
    TILE_LOAD(7, right + kTile, 64);
    TILE_PRODUCT(1, 4, 7);
    TILE_LOAD(5, second, 64);
    TILE_PRODUCT(2, 5, 6);
    TILE_PRODUCT(3, 5, 7);
    between();
    TILE_LOAD(4, first + left.low, 64);
    TILE_PRODUCT(0, 4, 6);
    TILE_PRODUCT(1, 4, 7);
    TILE_LOAD(5, second + left.low, 64);
    TILE_PRODUCT(2, 5, 6);
    TILE_PRODUCT(3, 5, 7);
    between();
    TILE_LOAD(4, first, 64);
    TILE_LOAD(6, right + 4 * kTile, 64);
    TILE_PRODUCT(0, 4, 6);
    TILE_LOAD(7, right + 5 * kTile, 64);
    TILE_PRODUCT(1, 4, 7);
    TILE_LOAD(5, second, 64);
    TILE_PRODUCT(2, 5, 6);
    TILE_PRODUCT(3, 5, 7);
    between();
    if (Parts < 3) continue;
    TILE_LOAD(6, right + 8 * kTile, 64);
    TILE_PRODUCT(0, 4, 6);
    TILE_LOAD(7, right + 9 * kTile, 64);
    TILE_PRODUCT(1, 4, 7);
    TILE_PRODUCT(2, 5, 6);
    TILE_PRODUCT(3, 5, 7);
    between();
  }
  TILE_STORE(0, sums.at, stride);
  TILE_STORE(1, sums.at + 16, stride);
  TILE_STORE(2, sums.at + sums.second, stride);
  TILE_STORE(3, sums.at + sums.second + 16, stride);
}

// Set sums to (or add to them) the product of left tiles and of right ones as pack_right() lays them out.
template <int Parts, class Between>
LSTM_INLINE void multiply(int tiles, const Left& left, const float* right, const Sums& sums, bool add,
                          const Between& between) {
  if (!left.second) return multiply_row<Parts>(tiles, left, right, sums, add, between);
  multiply_square<Parts>(tiles, left, right, sums, add, between);
  multiply_square<Parts>(tiles, left, right + 2 * kTile, {sums.at + 32, sums.stride, sums.second}, add, between);
}

template <int Parts>
void multiply(int tiles, const Left& left, const float* right, const Sums& sums, bool add) {
  multiply<Parts>(tiles, left, right, sums, add, [] {});
}

// How often multiply() calls between().
inline int calls_between(int tiles, int parts, const Left& left) { return tiles * (parts + 1) * (left.second ? 2 : 1); }

// Rows of a segment, at most kBlockRows, in one or two tiles of equal height, k tiles to a row of tiles.
struct Rows {
  int tiles, height;
  size_t second = 0;          // from a left tile to that of the next rows; 0: there is none
  size_t at[kBlockRows + 1];  // where rows, and one for an even number, are in left tiles
  Rows(int rows, int k) : tiles((rows + 15) / 16), height((rows + tiles - 1) / tiles) {
    height += tiles & height & 1;  // an even number in all: rows go in pairs
    if (tiles > 1) second = size_t(k) * height * 16;
    for (int r = 0; r < padded(); ++r) at[r] = r / height * second + r % height * 16;
  }
  int padded() const { return tiles * height; }
};

inline int tiles32(int n) { return (n + 31) / 32; }

// Right tiles of weights (32 tiles x 64), whose elements are value(k, column), in three parts: for each 32 of their
// rows, the high parts of their four times 16 columns, then the low parts, then the third parts. Weights need these,
// for they are off in the same way at all steps.
template <class Value>
float* pack_right(int tiles, const Value& value, float* out) {
  for (int tile = 0; tile < tiles; ++tile, out += kWeight)
    for (int column = 0; column < 64; column += 16)
      for (int j = 0; j < 16; ++j) {
        alignas(64) float even[16], odd[16];
        for (int lane = 0; lane < 16; ++lane) {
          even[lane] = value(32 * tile + 2 * j, column + lane);
          odd[lane] = value(32 * tile + 2 * j + 1, column + lane);
        }
        V a = load(even), b = load(odd);
        float* to = out + column * 16 + j * 16;
        for (int part = 0; part < 3; ++part, to += 4 * kTile) save(to, take_pairs(a, b));
      }
  return out;
}

inline int panels64(int n) { return (n + 63) / 64; }

// Transpose 16 x 16 words.
LSTM_INLINE void transpose(Halves (&m)[16]) {
  Halves t[16];
  LSTM_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
  }
  LSTM_UNROLL
  for (int i = 0; i < 16; i += 4) {
    m[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    m[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    m[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    m[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  LSTM_UNROLL
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(m[i], m[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(m[i], m[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(m[i + 8], m[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(m[i + 8], m[i + 12], 0xdd);
  }
  LSTM_UNROLL
  for (int i = 0; i < 4; ++i) {
    m[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    m[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    m[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    m[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// 32 samples of 16 columns, `stride` floats from one to the next, as a left tile of 16 rows: its high part and, behind
// it, its low part.
inline void transpose_samples(const float* from, size_t stride, float* to) {
  Halves high[16], low[16];
  for (int j = 0; j < 16; ++j, from += 2 * stride) {
    V a = load(from), b = load(from + stride);
    high[j] = take_pairs(a, b);
    low[j] = take_pairs(a, b);
  }
  transpose(high);
  transpose(low);
  for (int j = 0; j < 16; ++j) save(to + j * 16, high[j]), save(to + kTile + j * 16, low[j]);
}
