// Tile instructions in plain C++, so that the code that uses them is tested on every machine.

#include <cstring>

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

static inline float emulated_half(const EmulatedTile& tile, int row, int column) {
  unsigned short half;
  std::memcpy(&half, reinterpret_cast<const char*>(tile.data[row]) + 2 * column, 2);
  unsigned bits = unsigned(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// The even and the odd halves are summed apart, and those two sums added to what is there.
static inline void emulated_product(EmulatedTile& sum, const EmulatedTile& left, const EmulatedTile& right) {
  for (int m = 0; m < sum.rows; ++m)
    for (int n = 0; n < sum.bytes / 4; ++n) {
      float even = 0, odd = 0;
      for (int k = 0; k < left.bytes / 4; ++k) {
        even = __builtin_fmaf(emulated_half(left, m, 2 * k), emulated_half(right, k, 2 * n), even);
        odd = __builtin_fmaf(emulated_half(left, m, 2 * k + 1), emulated_half(right, k, 2 * n + 1), odd);
      }
      sum.data[m][n] += even + odd;
    }
}

#define TILE_CONFIG(p) emulated_config(p)
#define TILE_RELEASE() ((void)0)
#define TILE_ZERO(t) std::memset(emulated_tiles[t].data, 0, sizeof(emulated_tiles[t].data))
#define TILE_LOAD(t, p, stride) emulated_load(emulated_tiles[t], p, stride)
#define TILE_STORE(t, p, stride) emulated_store(emulated_tiles[t], p, stride)
#define TILE_PRODUCT(sum, left, right) \
  emulated_product(emulated_tiles[sum], emulated_tiles[left], emulated_tiles[right])
