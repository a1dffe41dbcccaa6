// What lstm.cpp and machine.cpp need of the compiler, the processor and the system.

#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#define LSTM_INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define LSTM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LSTM_UNROLL _Pragma("GCC unroll 16")
#endif

// Tile instructions by number, for intrinsics of GCC before 14 do not say that they read memory.
#ifndef TILE_CONFIG
#define TILE_CONFIG(p) asm volatile("ldtilecfg (%0)" ::"r"(p) : "memory")
#define TILE_RELEASE() asm volatile("tilerelease")
#define TILE_ZERO(t) asm volatile("tilezero %%tmm" #t::)
#define TILE_LOAD(t, p, stride) asm volatile("tileloadd (%0,%1,1), %%tmm" #t::"r"(p), "r"(size_t(stride)) : "memory")
#define TILE_STORE(t, p, stride) \
  asm volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(p), "r"(size_t(stride)) : "memory")
#define TILE_PRODUCT(sum, left, right) asm volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sum::)
#endif

namespace lstm {

constexpr int kAvx512 = 1, kAmx = 2;  // the numbers of instruction sets that are chosen between

template <int N>
struct Int {
  static constexpr int value = N;
};

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float, Free>;

inline Buffer allocate(size_t floats) {
  void* p = nullptr;
  if (posix_memalign(&p, 64, std::max<size_t>(floats, 16) * sizeof(float))) throw std::bad_alloc();
  return Buffer(static_cast<float*>(p));
}

#if defined(__x86_64__)

// Tiles are there, and the system lets this process use them: it asks, for their state is large.
inline bool tiles_allowed() {
#if defined(LSTM_NO_AMX) || !defined(__linux__)
  return false;
#else
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#endif
}

inline bool supported(int isa) {
  if (isa == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == 1)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#ifdef LSTM_EMULATE_AMX
  if (isa == 2) return supported(1);
#endif
  if (isa == 2) return supported(1) && __builtin_cpu_supports("avx512bf16") && tiles_allowed();
  return false;
}

// Vanishing gradients are denormal numbers, which would take several times as long: they are flushed to zero.
constexpr uint64_t kFlush = 0x8040;  // of MXCSR

inline uint64_t floating_mode() { return _mm_getcsr(); }

inline void set_floating_mode(uint64_t mode) { _mm_setcsr(unsigned(mode)); }

#else

inline bool supported(int isa) { return isa == 3; }

constexpr uint64_t kFlush = uint64_t(1) << 24;  // of FPCR

inline uint64_t floating_mode() {
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}

inline void set_floating_mode(uint64_t mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }

#endif

inline size_t aligned(size_t floats) { return (floats + 15) / 16 * 16; }

// Flushes denormal numbers to zero while it lives.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(floating_mode()) { set_floating_mode(saved_ | kFlush); }
  ~FlushDenormals() { set_floating_mode(saved_); }

 private:
  uint64_t saved_;
};

// Call task(item, thread) for items 0 ... count - 1, in this order, from up to `threads` threads, this one included.
template <class Task>
void parallel(int threads, int count, const Task& task) {
  std::atomic<int> next{0};
  auto work = [&](int thread) {
    FlushDenormals flush;
    for (int item; (item = next.fetch_add(1)) < count;) task(item, thread);
  };
  std::vector<std::thread> helpers;
  helpers.reserve(threads);
  try {
    for (int i = 1; i < std::min(threads, count); ++i) helpers.emplace_back(work, i);
  } catch (const std::exception&) {  // no more threads, or no memory for one: those that run do all the work
  }
  work(0);
  for (auto& helper : helpers) helper.join();
}

// Tiles take floats in parts of bfloat16: none above their largest one, and large ones, as pixels of 0 to 255, to few
// bits. AVX-512 computes where features are large.
inline bool too_large_for_tiles(const float* features, size_t count) {
  constexpr float kLarge = 8;
  return std::any_of(features, features + count, [](float x) { return std::abs(x) > kLarge; });
}

// Calls body for an instruction set that callers give by its number, and returns what the C interface returns.
template <class Body>
int guarded(int isa, const Body& body) {
  enum { kDone = 0, kNoMemory = 1, kUnsupported = 2 };
  if (isa < 0 || isa > 3 || !supported(isa)) return kUnsupported;
  try {
    body();
    return kDone;
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

}  // namespace lstm
