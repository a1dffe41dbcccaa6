// Tile instructions in plain C++, so that the code that uses them is tested on every machine.

#include <cstring>
#include <immintrin.h>

struct EmulatedTile {
  int rows, bytes;
  float data[16][16];
};
static thread_local EmulatedTile emulated_tiles[8];

static inline void emulated_config(const void* p) {
  const unsigned char* config = static_cast<const unsigned char*>(p);
  for (int tile = 0; tile < 8; ++tile) {
    emulated_tiles[tile].bytes = config[16 + 2 * tile] + 256 * config[17 + 2 * tile];
    emulated_tiles[tile].rows = config[48 + tile];
    std::memset(emulated_tiles[tile].data, 0, sizeof(emulated_tiles[tile].data));
  }
}

static inline void emulated_load(EmulatedTile& tile, const void* p, size_t stride) {
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(tile.data[row], static_cast<const char*>(p) + row * stride, tile.bytes);
}

static inline void emulated_store(const EmulatedTile& tile, void* p, size_t stride) {
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(static_cast<char*>(p) + row * stride, tile.data[row], tile.bytes);
}

struct EmulatedHalves {
  float even[16][16], odd[16][16];
};

#define EMULATION_IN_FULL_SPEED __attribute__((target("avx2,fma"), optimize("O3"), no_sanitize("address", "undefined")))

EMULATION_IN_FULL_SPEED static void emulated_halves(const EmulatedTile& tile, EmulatedHalves& to) {
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 16; ++column) {
      unsigned both;
      std::memcpy(&both, &tile.data[row][column], 4);
      const unsigned even = both << 16, odd = both & 0xffff0000u;
      std::memcpy(&to.even[row][column], &even, 4);
      std::memcpy(&to.odd[row][column], &odd, 4);
    }
}

// The even and the odd halves are summed apart, and those two sums added to what is there.
EMULATION_IN_FULL_SPEED static void emulated_product(EmulatedTile& sum, const EmulatedTile& left,
                                                     const EmulatedTile& right) {
  EmulatedHalves a, b;
  emulated_halves(left, a);
  emulated_halves(right, b);
  const int pairs = left.bytes / 4, columns = sum.bytes / 4;
  for (int m = 0; m < sum.rows; ++m) {
    float even[16] = {}, odd[16] = {};
    for (int k = 0; k < pairs; ++k)
      for (int n = 0; n < 16; ++n) {
        even[n] = __builtin_fmaf(a.even[m][k], b.even[k][n], even[n]);
        odd[n] = __builtin_fmaf(a.odd[m][k], b.odd[k][n], odd[n]);
      }
    for (int n = 0; n < columns; ++n) sum.data[m][n] += even[n] + odd[n];
  }
}

#define TILE_CONFIG(p) emulated_config(p)
#define TILE_RELEASE() ((void)0)
#define TILE_ZERO(t) std::memset(emulated_tiles[t].data, 0, sizeof(emulated_tiles[t].data))
#define TILE_LOAD(t, p, stride) emulated_load(emulated_tiles[t], p, stride)
#define TILE_STORE(t, p, stride) emulated_store(emulated_tiles[t], p, stride)
#define TILE_PRODUCT(sum, left, right) \
  emulated_product(emulated_tiles[sum], emulated_tiles[left], emulated_tiles[right])

// Floats to bfloat16, rounded to the nearest, ties to even; denormals to zero.
#define EMULATION_OF_BFLOAT16 static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl")))

EMULATION_OF_BFLOAT16 __m256i emulated_bfloat16(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
  const __mmask16 tiny = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  rounded = _mm512_mask_and_epi32(rounded, tiny, bits, _mm512_set1_epi32(int(0x80000000)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

EMULATION_OF_BFLOAT16 __m512i emulated_two_bfloat16(__m512 high, __m512 low) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(emulated_bfloat16(low)), emulated_bfloat16(high), 1);
}

#define _mm512_cvtneps_pbh(v) emulated_bfloat16(v)
#define _mm512_cvtne2ps_pbh(high, low) emulated_two_bfloat16(high, low)
