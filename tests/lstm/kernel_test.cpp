// The kernel against an LSTM in double precision, without Python, so that sanitizers and emulators can watch it.
//
//     g++ -std=c++17 -O2 -pthread kernel_test.cpp -o kernel_test && ./kernel_test [quick]
//
// With -DLSTM_EMULATE_AMX, tile instructions are emulated where there are none (AVX-512 with bfloat16 is still needed).
// Prints a line for each instruction set that this machine has and exits with 1 if a result is wrong.

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#ifdef LSTM_EMULATE_AMX
#include "amx_emulation.h"
#endif
#include "../../seqmnist_tf/lstm/cpp/lstm.cpp"

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

struct Case {
  int batch, steps, units, shared;  // shared: steps at which all rows have the same pixel
  Floats x, w, u, b, dh;
};

struct Result {
  Floats h, dx, dw, du, db;
};

constexpr int kMargin = 64;  // floats behind a result, which must stay as they are
constexpr float kMark = 12345.0f;

Floats guarded_floats(size_t n) {
  Floats v(n + kMargin, kMark);
  return v;
}

bool intact(const Floats& v) {
  return std::all_of(v.end() - kMargin, v.end(), [](float x) { return x == kMark; });
}

Case make_case(int batch, int steps, int units, int shared, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Case c{batch,
         steps,
         units,
         shared,
         Floats(batch * steps),
         Floats(4 * units),
         Floats(4 * units * units),
         Floats(4 * units),
         Floats(batch * units)};
  for (auto* v : {&c.x, &c.dh})
    for (float& value : *v) value = normal(random);
  for (float& value : c.u) value = normal(random) / std::sqrt(float(units));
  for (auto* v : {&c.w, &c.b})
    for (float& value : *v) value = 0.5f * normal(random);
  for (int row = 0; row < batch; ++row)  // one row leaves the shared pixels earlier than the next
    for (int t = 0; t < shared - row % 5 * (shared / 8); ++t) c.x[row * steps + t] = -0.4f;
  return c;
}

// All results in double, in the order h, dx, dw, du, db.
std::vector<Doubles> reference(const Case& c) {
  const int B = c.batch, T = c.steps, H = c.units;
  Doubles h_last(B * H), dx(B * T), dw(4 * H), du(4 * H * H), db(4 * H);
  for (int row = 0; row < B; ++row) {
    std::vector<Doubles> hs(T + 1, Doubles(H)), cs(T + 1, Doubles(H)), zs(T, Doubles(4 * H));
    for (int t = 0; t < T; ++t) {
      for (int j = 0; j < 4 * H; ++j) {
        double z = double(c.x[row * T + t]) * c.w[j] + c.b[j];
        for (int k = 0; k < H; ++k) z += hs[t][k] * c.u[k * 4 * H + j];
        zs[t][j] = j / H == 2 ? std::tanh(z) : 1 / (1 + std::exp(-z));
      }
      for (int j = 0; j < H; ++j) {
        cs[t + 1][j] = zs[t][H + j] * cs[t][j] + zs[t][j] * zs[t][2 * H + j];
        hs[t + 1][j] = zs[t][3 * H + j] * std::tanh(cs[t + 1][j]);
      }
    }
    Doubles dh(H), dc(H), dz(4 * H);
    for (int j = 0; j < H; ++j) h_last[row * H + j] = hs[T][j], dh[j] = c.dh[row * H + j];
    for (int t = T - 1; t >= 0; --t) {
      for (int j = 0; j < H; ++j) {
        const double i = zs[t][j], f = zs[t][H + j], g = zs[t][2 * H + j], o = zs[t][3 * H + j];
        const double tc = std::tanh(cs[t + 1][j]);
        dc[j] += dh[j] * o * (1 - tc * tc);
        dz[j] = dc[j] * g * i * (1 - i);
        dz[H + j] = dc[j] * cs[t][j] * f * (1 - f);
        dz[2 * H + j] = dc[j] * i * (1 - g * g);
        dz[3 * H + j] = dh[j] * tc * o * (1 - o);
        dc[j] *= f;
      }
      std::fill(dh.begin(), dh.end(), 0.0);
      for (int j = 0; j < 4 * H; ++j) {
        dw[j] += c.x[row * T + t] * dz[j];
        db[j] += dz[j];
        dx[row * T + t] += c.w[j] * dz[j];
        for (int k = 0; k < H; ++k) du[k * 4 * H + j] += hs[t][k] * dz[j], dh[k] += c.u[k * 4 * H + j] * dz[j];
      }
    }
  }
  return {h_last, dx, dw, du, db};
}

bool run(int isa, int threads, const Case& c, bool pixels, Result& result) {
  const int B = c.batch, T = c.steps, H = c.units;
  result = {guarded_floats(B * H), guarded_floats(B * T), guarded_floats(4 * H), guarded_floats(4 * H * H),
            guarded_floats(4 * H)};
  const size_t size = size_t(B + 1) * T * H * lstm::kKept;
  lstm::Buffer kept = lstm::allocate(size + kMargin);
  std::fill(kept.get() + size, kept.get() + size + kMargin, kMark);
  Floats alone = guarded_floats(B * H);
  const uint64_t mode = lstm::floating_mode() & ~lstm::kModeFlags;
  const int status = seqmnist_lstm_forward(isa, threads, B, T, H, c.x.data(), c.w.data(), c.u.data(), c.b.data(),
                                           alone.data(), nullptr) |
                     seqmnist_lstm_forward(isa, threads, B, T, H, c.x.data(), c.w.data(), c.u.data(), c.b.data(),
                                           result.h.data(), kept.get()) |
                     seqmnist_lstm_backward(isa, threads, B, T, H, c.x.data(), c.w.data(), c.u.data(), c.b.data(),
                                            kept.get(), c.dh.data(), pixels ? result.dx.data() : nullptr,
                                            result.dw.data(), result.du.data(), result.db.data());
  const bool same = std::memcmp(alone.data(), result.h.data(), B * H * sizeof(float)) == 0;
  const bool margins = intact(alone) && intact(result.h) && intact(result.dx) && intact(result.dw) &&
                       intact(result.du) && intact(result.db) &&
                       std::all_of(kept.get() + size, kept.get() + size + kMargin, [](float x) { return x == kMark; });
  const bool restored = (lstm::floating_mode() & ~lstm::kModeFlags) == mode;
  if (!restored) std::printf("the caller's floating-point mode is changed\n");
  if (status) std::printf("status %d\n", status);
  if (!same) std::printf("the forward pass gives something else when it keeps nothing\n");
  if (!margins) std::printf("written beyond the end\n");
  return status == 0 && same && margins && restored;
}

double error(const Floats& got, const Doubles& expected) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::isfinite(got[i]) ? std::abs(got[i] - expected[i]) : INFINITY);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

bool equal(const Result& a, const Result& b, bool pixels) {
  auto same = [](const Floats& p, const Floats& q) { return std::memcmp(p.data(), q.data(), p.size() * 4) == 0; };
  return same(a.h, b.h) && same(a.dw, b.dw) && same(a.du, b.du) && same(a.db, b.db) && (!pixels || same(a.dx, b.dx));
}

bool all_nan(const Floats& v, size_t first, size_t count) {
  return std::all_of(v.begin() + first, v.begin() + first + count, [](float x) { return std::isnan(x); });
}

// A value that is no number must reach the row's state and every gradient, and no other row's state.
bool poisons(int isa, float value) {
  Case c = make_case(9, 12, 32, 4, 5);
  c.x[3 * 12 + 7] = value;
  Result result;
  if (!run(isa, 2, c, false, result)) return false;
  if (!all_nan(result.h, 3 * 32, 32) || !all_nan(result.du, 0, 4 * 32 * 32) || !all_nan(result.dw, 0, 4 * 32))
    return false;
  for (int row = 0; row < 9; ++row)
    if (row != 3 && std::isnan(result.h[row * 32])) return false;
  c = make_case(9, 12, 32, 4, 5);
  c.u[17] = value;
  return run(isa, 2, c, false, result) && all_nan(result.h, 0, 9 * 32) && all_nan(result.db, 0, 4 * 32);
}

}  // namespace

int main(int argc, char**) {
  const bool quick = argc > 1;
  const char* names[] = {"avx2", "avx512", "amx", "neon"};
  const Case cases[] = {make_case(1, 9, 128, 0, 1),  make_case(7, 20, 16, 6, 2),     make_case(33, 30, 48, 16, 3),
                        make_case(8, 24, 64, 24, 6), make_case(100, 40, 128, 20, 4), make_case(257, 25, 80, 8, 7),
                        make_case(1100, 3, 16, 2, 8)};
  bool right = true;
  for (int isa = 0; isa < 4; ++isa) {
    if (!seqmnist_lstm_supported(isa)) {
      std::printf("%s: not on this machine\n", names[isa]);
      continue;
    }
    double worst = 0;
    for (const Case& c : cases) {
      if (quick && c.batch > 50) continue;
      const std::vector<Doubles> expected = reference(c);
      for (const bool pixels : {false, true}) {
        Result result, again;
        right &= run(isa, 2, c, pixels, result);
        const Floats* got[] = {&result.h, &result.dx, &result.dw, &result.du, &result.db};
        for (int i = 0; i < 5; ++i)
          if (i != 1 || pixels) worst = std::max(worst, error(*got[i], expected[i]));
        for (const int threads : {1, 3}) {
          right &= run(isa, threads, c, pixels, again);
          if (!equal(result, again, pixels)) std::printf("%d threads give something else\n", threads), right = false;
        }
      }
    }
    right &= worst < 2e-5;
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity})
      if (!poisons(isa, value)) std::printf("%g becomes a plausible number\n", value), right = false;
    std::printf("%s: largest relative error %.1e\n", names[isa], worst);
  }
  std::puts(right ? "right" : "WRONG");
  return !right;
}
