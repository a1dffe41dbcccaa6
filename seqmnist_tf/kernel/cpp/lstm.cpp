// LSTM, forward and backward, on x86-64 and ARM64 CPUs: Keras's weights, Keras's order of gates, float. A plain C
// interface without dependencies; `seqmnist_tf.kernel.native` calls it.
//
// The rows of a batch are independent: threads take blocks of rows through all steps without waiting for each other.
// Rows that begin with the same run of features (the background above a digit) share its states: one row, the "chain",
// is computed for all of them, forward and backward, and a block begins where the first of its rows leaves the chain.

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
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "lstm.h"

#define LSTM_INLINE inline __attribute__((always_inline))
#ifdef __clang__
#define LSTM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LSTM_UNROLL _Pragma("GCC unroll 16")
#endif

namespace lstm {

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

#define LSTM_IN_OUT(v) "+v"(v)

// Each include compiles the functions for one instruction set; clang ignores the pragmas of GCC.
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif
#define LSTM_ISA avx2
#define LSTM_WIDTH 8
#define LSTM_AMX 0
#include "lstm_simd.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#endif
#define LSTM_ISA avx512
#define LSTM_WIDTH 16
#define LSTM_AMX 0
#include "lstm_simd.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#pragma GCC pop_options

#ifndef LSTM_NO_AMX  // setup.py defines it for assemblers that do not know the tile instructions

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

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), \
                             apply_to = function)
#endif
#define LSTM_ISA amx
#define LSTM_WIDTH 16
#define LSTM_AMX 1
#include "lstm_simd.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#pragma GCC pop_options

#endif  // LSTM_NO_AMX

#else  // all ARM64 CPUs have NEON: nothing is chosen at run time

#define LSTM_IN_OUT(v) "+w"(v)
#define LSTM_ISA neon
#define LSTM_WIDTH 4
#define LSTM_AMX 0
#include "lstm_simd.h"

#endif

namespace {

constexpr int kMaxLanes = 32;

// In the order of the numbers that callers give: avx2, avx512, amx, neon.
#if defined(__x86_64__)

#ifdef LSTM_NO_AMX
constexpr const Kernels* kAmx = nullptr;
#else
const Kernels* const kAmx = &amx::kernels;
#endif

const Kernels* const kIsas[] = {&avx2::kernels, &avx512::kernels, kAmx, nullptr};

// Tiles are there, and the system lets this process use them: it asks, for their state is large.
bool tiles_allowed() {
#if defined(LSTM_EMULATE_AMX)
  return true;
#elif !defined(__linux__)
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

bool supported(int isa) {
  if (isa == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == 1)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == 2) return kAmx != nullptr && supported(1) && __builtin_cpu_supports("avx512bf16") && tiles_allowed();
  return false;
}

// Vanishing gradients are denormal numbers, which would take several times as long: they are flushed to zero.
constexpr uint64_t kFlush = 0x8040;  // of MXCSR

uint64_t floating_mode() { return _mm_getcsr(); }

void set_floating_mode(uint64_t mode) { _mm_setcsr(unsigned(mode)); }

#else

const Kernels* const kIsas[] = {nullptr, nullptr, nullptr, &neon::kernels};

bool supported(int isa) { return isa == 3; }

constexpr uint64_t kFlush = uint64_t(1) << 24;  // of FPCR

uint64_t floating_mode() {
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}

void set_floating_mode(uint64_t mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }

#endif

size_t aligned(size_t floats) { return (floats + 15) / 16 * 16; }

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

struct Block {
  int first, rows;  // in the order of the plan
  int begin;        // the step at which the first of its rows leaves the chain
  size_t kept;      // where its kept values begin
};

// How a batch is computed: a function of its features alone.
struct Plan {
  std::vector<int> order;
  std::vector<Block> blocks;  // in the order in which they leave the chain
};

Plan make_plan(const Problem& problem) {
  const int batch = problem.batch, steps = problem.steps, features = problem.features;
  std::vector<int> leaves(batch);
  for (int row = 0; row < batch; ++row) {
    const float* x = problem.x + size_t(row) * steps * features;
    while (leaves[row] < steps - 1 && std::equal(problem.x, problem.x + features, x)) ++leaves[row], x += features;
  }
  Plan plan;
  plan.order.resize(batch);
  for (int row = 0; row < batch; ++row) plan.order[row] = row;
  std::stable_sort(plan.order.begin(), plan.order.end(), [&](int a, int b) { return leaves[a] < leaves[b]; });
  int count = (batch + kBlockRows - 1) / kBlockRows;
  if (batch >= 8) count = (count + 1) / 2 * 2;
  for (int i = 0, first = 0; i < count; ++i) {
    Block block{first, batch / count + (i < batch % count), leaves[plan.order[first]], 0};
    plan.blocks.push_back(block);
    first += block.rows;
  }
  size_t kept = size_t(plan.blocks.back().begin) * problem.units * kKept;  // the chain's come first
  for (Block& block : plan.blocks) {
    block.kept = kept;
    kept += size_t(block.rows) * (steps - block.begin) * problem.units * kKept;
  }
  return plan;
}

// Weights that are not finite make every result NaN, through the bias.
Buffer pack(const Kernels& kernels, const Problem& problem, const float* w, const float* u, const float* b,
            bool backward) {
  const size_t gates = 4 * size_t(problem.units);
  Buffer packed = allocate(kernels.packed_size(problem));
  float poison = 0;
  for (size_t i = 0; i < gates; ++i) poison += 0 * b[i];
  for (size_t i = 0; i < gates * problem.features; ++i) poison += 0 * w[i];
  for (size_t i = 0; i < gates * problem.units; ++i) poison += 0 * u[i];
  std::vector<float> bias(b, b + gates);
  for (float& value : bias) value += poison;
  kernels.pack(problem, w, u, bias.data(), backward, packed.get());
  return packed;
}

// h_out: the last states (batch, units), or those of all steps (batch, steps, units).
void forward(const Kernels& kernels, int threads, const Problem& problem, bool all_steps, const float* w,
             const float* u, const float* b, float* h_out, float* kept) {
  const int H = problem.units;
  const Plan plan = make_plan(problem);
  const Buffer packed = pack(kernels, problem, w, u, b, false);
  const int blocks = plan.blocks.size();
  threads = std::min(threads, blocks);
  const size_t states = aligned(size_t(kBlockRows) * H);
  const size_t scratch = aligned(kernels.forward_scratch(problem, kBlockRows));
  float* const all = all_steps ? h_out : nullptr;
  const size_t sequence = size_t(problem.steps) * H;
  const int last = plan.order.back();  // it is the last to leave the chain, whose states are its own until then
  Buffer memory = allocate(threads * (2 * states + scratch));
  Buffer begins = allocate((blocks + 1) * 2 * size_t(H));  // h and c of the chain where each block begins
  FlushDenormals flush;

  float* state = begins.get();
  std::fill(state, state + 2 * H, 0.0f);
  for (int i = 0, t = 0; i < blocks; ++i) {
    const Block& block = plan.blocks[i];
    float* own = begins.get() + (i + 1) * 2 * size_t(H);
    std::copy(state, state + 2 * H, own);
    kernels.forward(problem, {&last, 1, t, block.begin}, packed.get(), own, own + H,
                    kept ? kept + size_t(t) * H * kKept : nullptr, all, memory.get());
    t = block.begin;
    state = own;
  }

  parallel(threads, blocks, [&](int item, int thread) {
    const Block& block = plan.blocks[item];
    const float* begin = begins.get() + (item + 1) * 2 * size_t(H);
    float* h = memory.get() + thread * (2 * states + scratch);
    float* c = h + states;
    for (int r = 0; r < block.rows; ++r) {
      std::copy(begin, begin + H, h + size_t(r) * H);
      std::copy(begin + H, begin + 2 * H, c + size_t(r) * H);
    }
    const int* order = plan.order.data() + block.first;
    kernels.forward(problem, {order, block.rows, block.begin, problem.steps}, packed.get(), h, c,
                    kept ? kept + block.kept : nullptr, all, c + states);
    for (int r = 0; r < block.rows; ++r)
      if (!all)
        std::copy(h + size_t(r) * H, h + size_t(r + 1) * H, h_out + size_t(order[r]) * H);
      else if (order[r] != last)
        std::copy(all + last * sequence, all + last * sequence + size_t(block.begin) * H, all + order[r] * sequence);
  });
}

// Gradients (steps, units) of the chain's states: at each step, the sum over the rows that share them.
Buffer sum_over_chain(const Problem& problem, const Plan& plan, const float* dh) {
  const size_t H = problem.units, sequence = problem.steps * H;
  const size_t steps = plan.blocks.back().begin;
  Buffer sums = allocate(steps * H);
  std::fill(sums.get(), sums.get() + steps * H, 0.0f);
  for (const Block& block : plan.blocks)
    for (int r = 0; r < block.rows; ++r) {
      const float* from = dh + plan.order[block.first + r] * sequence;
      for (size_t i = 0; i < block.begin * H; ++i) sums.get()[i] += from[i];
    }
  return sums;
}

// dh_out: gradients of what forward() wrote to h_out.
void backward(const Kernels& kernels, int threads, const Problem& problem, bool all_steps, const float* w,
              const float* u, const float* b, const float* kept, const float* dh_out, float* dx, float* dw, float* du,
              float* db) {
  const int H = problem.units;
  const Plan plan = make_plan(problem);
  const Buffer packed = pack(kernels, problem, w, u, b, true);
  const int blocks = plan.blocks.size(), lanes = std::min(blocks, kMaxLanes);
  threads = std::min(threads, lanes);
  const size_t states = aligned(size_t(kBlockRows) * H), row = size_t(H) * kKept;
  const size_t scratch = aligned(kernels.backward_scratch(problem, kBlockRows));
  const size_t sums = aligned(kernels.gradient_size(problem));
  Buffer memory = allocate(threads * (2 * states + scratch));
  Buffer gradients = allocate((lanes + 1) * sums);
  std::fill(gradients.get(), gradients.get() + (lanes + 1) * sums, 0.0f);
  Buffer ends = allocate(blocks * 2 * size_t(H));  // dh and dc of each block where it begins, summed over its rows
  Buffer zeros = allocate(row);
  std::fill(zeros.get(), zeros.get() + row, 0.0f);
  const Kept start{zeros.get(), -1, 0, 0};
  const Kept chain{kept, 0, row, 0};
  auto before = [&](int t) { return t > 0 ? Kept{kept + (t - 1) * row, t - 1, 0, 0} : start; };
  const Upstream upstream{all_steps ? dh_out : nullptr, size_t(problem.steps) * H};

  parallel(threads, lanes, [&](int lane, int thread) {
    float* dh = memory.get() + thread * (2 * states + scratch);
    float* dc = dh + states;
    for (int item = lane; item < blocks; item += lanes) {
      const Block& block = plan.blocks[item];
      const int* order = plan.order.data() + block.first;
      const Kept own{kept + block.kept, block.begin, block.rows * row, row};
      std::fill(dh, dh + size_t(block.rows) * H, 0.0f);
      std::fill(dc, dc + size_t(block.rows) * H, 0.0f);
      for (int r = 0; r < block.rows && !all_steps; ++r)
        std::copy(dh_out + size_t(order[r]) * H, dh_out + size_t(order[r] + 1) * H, dh + size_t(r) * H);
      float* to = gradients.get() + lane * sums;
      kernels.backward(problem, {order, block.rows, block.begin, problem.steps}, packed.get(), own, before(block.begin),
                       upstream, dh, dc, to, dx, dc + states);
      if (dx && block.begin)  // gradients of features differ from row to row where their states do not
        kernels.backward(problem, {order, block.rows, 0, block.begin}, packed.get(), chain, start, upstream, dh, dc, to,
                         dx, dc + states);
      float* end = ends.get() + item * 2 * size_t(H);
      std::fill(end, end + 2 * H, 0.0f);
      for (int r = 0; r < block.rows; ++r)
        for (int j = 0; j < H; ++j) end[j] += dh[size_t(r) * H + j], end[H + j] += dc[size_t(r) * H + j];
    }
  });

  FlushDenormals flush;
  if (!dx) {
    const Buffer shared = all_steps ? sum_over_chain(problem, plan, dh_out) : nullptr;
    float *dh = memory.get(), *dc = dh + states;
    std::fill(dh, dc + H, 0.0f);
    for (int i = blocks - 1; i >= 0; --i) {
      const int begin = i ? plan.blocks[i - 1].begin : 0, end = plan.blocks[i].begin;
      for (int j = 0; j < H; ++j) dh[j] += ends.get()[i * 2 * H + j], dc[j] += ends.get()[i * 2 * H + H + j];
      if (begin < end)
        kernels.backward(problem, {&plan.order.back(), 1, begin, end}, packed.get(), chain, before(begin),
                         {shared.get(), 0}, dh, dc, gradients.get() + lanes * sums, nullptr, dc + states);
    }
  }
  std::fill(dw, dw + 4 * size_t(H) * problem.features, 0.0f);
  std::fill(du, du + 4 * size_t(H) * H, 0.0f);
  std::fill(db, db + 4 * H, 0.0f);
  for (int lane = 0; lane <= lanes; ++lane) kernels.unpack(problem, gradients.get() + lane * sums, dw, du, db);
}

// Operations a second of all threads together, in products that need no memory.
double peak(const Kernels& kernels, int threads) {
  constexpr int kRounds = 10000;
  constexpr double kSeconds = 0.1;
  std::vector<double> operations(threads);
  parallel(threads, threads, [&](int item, int) {
    const auto start = std::chrono::steady_clock::now();
    std::chrono::duration<double> spent{};
    double done = 0;
    while (spent.count() < kSeconds) {
      done += kernels.spin(kRounds);
      spent = std::chrono::steady_clock::now() - start;
    }
    operations[item] = done / spent.count();
  });
  return std::accumulate(operations.begin(), operations.end(), 0.0);
}

}  // namespace
}  // namespace lstm

// ---- the C interface ----

enum { kDone = 0, kNoMemory = 1, kUnsupported = 2 };

template <class Body>
static int guarded(int isa, const Body& body) {
  if (isa < 0 || isa > 3 || !lstm::supported(isa)) return kUnsupported;
  try {
    body(*lstm::kIsas[isa]);
    return kDone;
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}

#ifndef LSTM_SOURCE
#define LSTM_SOURCE ""
#endif

extern "C" {

const char* seqmnist_lstm_source() { return LSTM_SOURCE; }  // SHA-256 of the sources that this was compiled from

int seqmnist_lstm_supported(int isa) { return lstm::supported(isa); }

// 0 where it cannot be measured.
double seqmnist_lstm_peak(int isa, int threads) {
  double operations = 0;
  guarded(isa, [&](const lstm::Kernels& kernels) { operations = lstm::peak(kernels, threads); });
  return operations;
}

// Units are a multiple of 16. `kept` is null, or (batch + 1) * steps * units * kKept floats, aligned to 64 bytes, which
// the backward pass reads; other arrays need no alignment.

int seqmnist_lstm_forward(int isa, int threads, int batch, int steps, int features, int units, int all_steps,
                          const float* x, const float* w, const float* u, const float* b, float* h, float* kept) {
  return guarded(isa, [&](const lstm::Kernels& kernels) {
    lstm::forward(kernels, threads, {batch, steps, features, units, x}, all_steps, w, u, b, h, kept);
  });
}

int seqmnist_lstm_backward(int isa, int threads, int batch, int steps, int features, int units, int all_steps,
                           const float* x, const float* w, const float* u, const float* b, const float* kept,
                           const float* dh, float* dx, float* dw, float* du, float* db) {
  return guarded(isa, [&](const lstm::Kernels& kernels) {
    lstm::backward(kernels, threads, {batch, steps, features, units, x}, all_steps, w, u, b, kept, dh, dx, dw, du, db);
  });
}
}
