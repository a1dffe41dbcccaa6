// The kernel against an LSTM in double precision, without Python, so that sanitizers and emulators can watch it.
//
//     g++ -std=c++17 -O2 -pthread kernel_test.cpp -o kernel_test && ./kernel_test [quick [CASES]]
//
// CASES is a file of programs for the machine, with what TensorFlow computes for them (tests/kernel/machine_cases.py).
// With -DLSTM_EMULATE_AMX, tiles and bfloat16 are emulated, on every processor that has AVX-512.
// Prints a line for each instruction set that this machine has and exits with 1 if a result is wrong, or if there is
// none.

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#ifdef LSTM_EMULATE_AMX
#include "amx_emulation.h"
#endif
#include "../../seqmnist_tf/kernel/cpp/lstm.cpp"
#include "../../seqmnist_tf/kernel/cpp/machine.cpp"

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

struct Case {
  int batch, steps, features, units;
  bool all_steps;
  Floats x, w, u, b, dh;

  size_t outputs() const { return size_t(batch) * (all_steps ? steps : 1) * units; }
};

struct Result {
  Floats h, dx, dw, du, db;
};

#if defined(__x86_64__)
constexpr uint64_t kModeFlags = 0x3f;  // of MXCSR: they say what has happened, and stay
#else
constexpr uint64_t kModeFlags = 0;
#endif
constexpr int kMargin = 64;  // floats behind a result, which must stay as they are
constexpr float kMark = 12345.0f;

Floats guarded_floats(size_t n) {
  Floats v(n + kMargin, kMark);
  return v;
}

bool intact(const Floats& v) {
  return std::all_of(v.end() - kMargin, v.end(), [](float x) { return x == kMark; });
}

// shared: steps at which all rows have the same features.
Case make_case(int batch, int steps, int features, int units, bool all_steps, int shared, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Case c{batch, steps, features, units, all_steps, {}, {}, {}, {}, {}};
  c.x.resize(batch * steps * features), c.dh.resize(c.outputs());
  c.w.resize(4 * units * features), c.u.resize(4 * units * units), c.b.resize(4 * units);
  for (auto* v : {&c.x, &c.dh})
    for (float& value : *v) value = normal(random);
  for (float& value : c.u) value = normal(random) / std::sqrt(float(units));
  for (auto* v : {&c.w, &c.b})
    for (float& value : *v) value = 0.5f * normal(random);
  for (float& value : c.w) value /= std::sqrt(float(features));
  for (int row = 0; row < batch; ++row)  // one row leaves the shared features earlier than the next
    for (int t = 0; t < shared - row % 5 * (shared / 8); ++t)
      for (int f = 0; f < features; ++f) c.x[(row * steps + t) * features + f] = -0.4f + 0.1f * f;
  return c;
}

// Features of 0 to 255, as unscaled pixels are.
Case make_unscaled_case(int batch, int steps, int features, int units, unsigned seed) {
  Case c = make_case(batch, steps, features, units, false, 0, seed);
  std::mt19937 random(seed);
  for (float& value : c.x) value = random() % 256;
  for (float& value : c.w) value /= 64;
  return c;
}

// All results in double, in the order h, dx, dw, du, db.
std::vector<Doubles> reference(const Case& c) {
  const int B = c.batch, T = c.steps, F = c.features, H = c.units;
  Doubles h(c.outputs()), dx(B * T * F), dw(F * 4 * H), du(4 * H * H), db(4 * H);
  for (int row = 0; row < B; ++row) {
    std::vector<Doubles> hs(T + 1, Doubles(H)), cs(T + 1, Doubles(H)), zs(T, Doubles(4 * H));
    for (int t = 0; t < T; ++t) {
      for (int j = 0; j < 4 * H; ++j) {
        double z = c.b[j];
        for (int f = 0; f < F; ++f) z += double(c.x[(row * T + t) * F + f]) * c.w[f * 4 * H + j];
        for (int k = 0; k < H; ++k) z += hs[t][k] * c.u[k * 4 * H + j];
        zs[t][j] = j / H == 2 ? std::tanh(z) : 1 / (1 + std::exp(-z));
      }
      for (int j = 0; j < H; ++j) {
        cs[t + 1][j] = zs[t][H + j] * cs[t][j] + zs[t][j] * zs[t][2 * H + j];
        hs[t + 1][j] = zs[t][3 * H + j] * std::tanh(cs[t + 1][j]);
      }
    }
    Doubles dh(H), dc(H), dz(4 * H);
    for (int t = T - 1; t >= 0; --t) {
      const int output = ((c.all_steps ? row * T + t : row) * H);
      for (int j = 0; j < H && (c.all_steps || t == T - 1); ++j) {
        h[output + j] = hs[t + 1][j];
        dh[j] += c.dh[output + j];
      }
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
        db[j] += dz[j];
        for (int f = 0; f < F; ++f) {
          dw[f * 4 * H + j] += c.x[(row * T + t) * F + f] * dz[j];
          dx[(row * T + t) * F + f] += c.w[f * 4 * H + j] * dz[j];
        }
        for (int k = 0; k < H; ++k) du[k * 4 * H + j] += hs[t][k] * dz[j], dh[k] += c.u[k * 4 * H + j] * dz[j];
      }
    }
  }
  return {h, dx, dw, du, db};
}

bool run(int isa, int threads, const Case& c, bool want_dx, Result& result) {
  const int B = c.batch, T = c.steps, F = c.features, H = c.units;
  result = {guarded_floats(c.outputs()), guarded_floats(B * T * F), guarded_floats(4 * H * F),
            guarded_floats(4 * H * H), guarded_floats(4 * H)};
  const size_t size = size_t(B + 1) * T * H * lstm::kKept;
  lstm::Buffer kept = lstm::allocate(size + kMargin);
  std::fill(kept.get() + size, kept.get() + size + kMargin, kMark);
  Floats alone = guarded_floats(c.outputs());
  const uint64_t mode = lstm::floating_mode() & ~kModeFlags;
  const int status =
      seqmnist_lstm_forward(isa, threads, B, T, F, H, c.all_steps, c.x.data(), c.w.data(), c.u.data(), c.b.data(),
                            alone.data(), nullptr, nullptr, nullptr, nullptr) |
      seqmnist_lstm_forward(isa, threads, B, T, F, H, c.all_steps, c.x.data(), c.w.data(), c.u.data(), c.b.data(),
                            result.h.data(), kept.get(), nullptr, nullptr, nullptr) |
      seqmnist_lstm_backward(isa, threads, B, T, F, H, c.all_steps, c.x.data(), c.w.data(), c.u.data(), c.b.data(),
                             kept.get(), c.dh.data(), want_dx ? result.dx.data() : nullptr, result.dw.data(),
                             result.du.data(), result.db.data(), nullptr, nullptr, nullptr, nullptr);
  const bool same = std::memcmp(alone.data(), result.h.data(), c.outputs() * sizeof(float)) == 0;
  const bool margins = intact(alone) && intact(result.h) && intact(result.dx) && intact(result.dw) &&
                       intact(result.du) && intact(result.db) &&
                       std::all_of(kept.get() + size, kept.get() + size + kMargin, [](float x) { return x == kMark; });
  const bool restored = (lstm::floating_mode() & ~kModeFlags) == mode;
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
  return largest > 0 ? worst / largest : INFINITY;  // zeros only would test nothing
}

bool equal(const Result& a, const Result& b, bool want_dx) {
  auto same = [](const Floats& p, const Floats& q) { return std::memcmp(p.data(), q.data(), p.size() * 4) == 0; };
  return same(a.h, b.h) && same(a.dw, b.dw) && same(a.du, b.du) && same(a.db, b.db) && (!want_dx || same(a.dx, b.dx));
}

bool all_nan(const Floats& v, size_t first, size_t count) {
  return std::all_of(v.begin() + first, v.begin() + first + count, [](float x) { return std::isnan(x); });
}

// A value that is no number must reach the row's states from its step on and every gradient, and no other row's state.
bool poisons(int isa, float value, int features, bool all_steps, bool want_dx) {
  const Case whole = make_case(9, 12, features, 32, all_steps, 4, 5);
  const int outputs = all_steps ? 12 : 1, step = all_steps ? 7 : 0;
  Case c = whole;
  c.x[(3 * 12 + 7) * features + features - 1] = value;
  Result result;
  if (!run(isa, 2, c, want_dx, result)) return false;
  if (want_dx && !all_nan(result.dx, 3 * 12 * features, (all_steps ? 12 : 8) * features)) return false;
  if (!all_nan(result.h, (3 * outputs + step) * 32, (outputs - step) * 32)) return false;
  if (!all_nan(result.du, 0, 4 * 32 * 32) || !all_nan(result.dw, 0, 4 * 32 * features)) return false;
  for (int row = 0; row < 9; ++row)
    for (int i = 0; i < outputs * 32; ++i)
      if (row != 3 && std::isnan(result.h[row * outputs * 32 + i])) return false;
  for (Floats Case::* weights : {&Case::w, &Case::u, &Case::b}) {
    c = whole;
    (c.*weights)[17] = value;
    if (!run(isa, 2, c, want_dx, result) || !all_nan(result.h, 0, c.outputs()) || !all_nan(result.db, 0, 4 * 32))
      return false;
  }
  return true;
}

// ---- the machine ----

struct MachineCase {
  std::vector<int64_t> numbers;
  int batch, steps, features, units, states, kept, all_steps, initial;
  Floats constants, x, parameters, start, upstream, outputs, dx, dparameters, dstart;
};

std::vector<MachineCase> read_cases(const char* path) {
  std::vector<MachineCase> cases;
  std::FILE* file = std::fopen(path, "rb");
  if (!file) return cases;
  int64_t sizes[11];
  bool whole = true;
  while (std::fread(sizes, sizeof(sizes), 1, file) == 1) {
    MachineCase c;
    c.numbers.resize(sizes[0]), c.constants.resize(sizes[1]);
    c.batch = sizes[2], c.steps = sizes[3], c.features = sizes[4], c.units = sizes[5], c.states = sizes[6];
    c.kept = sizes[8], c.all_steps = sizes[9], c.initial = sizes[10];
    const size_t x = size_t(c.batch) * c.steps * c.features, start = size_t(c.batch) * c.states;
    const size_t outputs = size_t(c.batch) * (c.all_steps ? c.steps : 1) * c.units;
    whole &= std::fread(c.numbers.data(), sizeof(int64_t), sizes[0], file) == size_t(sizes[0]);
    const std::pair<Floats*, size_t> arrays[] = {
        {&c.constants, sizes[1]}, {&c.x, x},  {&c.parameters, sizes[7]},  {&c.start, start}, {&c.upstream, outputs},
        {&c.outputs, outputs},    {&c.dx, x}, {&c.dparameters, sizes[7]}, {&c.dstart, start}};
    for (const auto& [array, size] : arrays) {
      array->resize(size);
      whole &= std::fread(array->data(), sizeof(float), size, file) == size;
    }
    cases.push_back(std::move(c));
  }
  std::fclose(file);
  if (!whole) cases.clear();
  return cases;
}

struct MachineResult {
  Floats outputs, dx, dparameters, dstart;
};

bool run_machine(int isa, int threads, const MachineCase& c, bool want_dx, MachineResult& result) {
  result = {guarded_floats(c.outputs.size()), guarded_floats(c.dx.size()), guarded_floats(c.dparameters.size()),
            guarded_floats(c.dstart.size())};
  const size_t size = size_t(c.batch + 1) * c.steps * c.kept;
  lstm::Buffer kept = lstm::allocate(size + kMargin);
  std::fill(kept.get() + size, kept.get() + size + kMargin, kMark);
  Floats alone = guarded_floats(c.outputs.size());
  const uint64_t mode = lstm::floating_mode() & ~kModeFlags;
  const float* start = c.initial ? c.start.data() : nullptr;
  for (const bool keep : {true, false})
    if (seqmnist_machine_forward(isa, threads, c.numbers.data(), c.constants.data(), c.batch, c.steps, c.all_steps,
                                 c.x.data(), c.parameters.data(), start, (keep ? result.outputs : alone).data(),
                                 keep ? kept.get() : nullptr, nullptr, nullptr, nullptr))
      return false;
  if (seqmnist_machine_backward(isa, threads, c.numbers.data(), c.constants.data(), c.batch, c.steps, c.all_steps,
                                c.x.data(), c.parameters.data(), kept.get(), c.upstream.data(),
                                want_dx ? result.dx.data() : nullptr, result.dparameters.data(),
                                c.initial ? result.dstart.data() : nullptr, nullptr, nullptr, nullptr))
    return false;
  const bool same = std::memcmp(alone.data(), result.outputs.data(), alone.size() * 4) == 0;
  const bool whole = std::all_of(kept.get() + size, kept.get() + size + kMargin, [](float v) { return v == kMark; });
  return same && whole && intact(result.outputs) && intact(result.dx) && intact(result.dparameters) &&
         intact(result.dstart) && (lstm::floating_mode() & ~kModeFlags) == mode;
}

// Returns the largest error relative to the largest number of a result; infinity where something is wrong.
double machine_error(int isa, const MachineCase& c) {
  const double wrong = std::numeric_limits<double>::infinity();
  double worst = 0;
  for (const bool want_dx : {true, false}) {
    MachineResult result, again;
    if (!run_machine(isa, 2, c, want_dx, result)) return wrong;
    const std::pair<const Floats*, const Floats*> pairs[] = {{&result.outputs, &c.outputs},
                                                             {&result.dx, &c.dx},
                                                             {&result.dparameters, &c.dparameters},
                                                             {&result.dstart, &c.dstart}};
    for (int i = 0; i < 4; ++i)
      if ((i != 1 || want_dx) && (i != 3 || c.initial))
        worst = std::max(worst, error(*pairs[i].first, Doubles(pairs[i].second->begin(), pairs[i].second->end())));
    for (const int threads : {1, 3, 7}) {
      if (!run_machine(isa, threads, c, want_dx, again)) return wrong;
      const auto same = [](const Floats& p, const Floats& q) { return !std::memcmp(p.data(), q.data(), p.size() * 4); };
      if (!same(result.outputs, again.outputs) || !same(result.dx, again.dx) ||
          !same(result.dparameters, again.dparameters) || !same(result.dstart, again.dstart))
        return wrong;
    }
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr double kQuickWork = 1e7;  // batch x steps x units x units
  const bool quick = argc > 1;
  const char* names[] = {"avx2", "avx512", "amx", "neon"};
  const Case cases[] = {
      make_case(1, 9, 1, 128, false, 0, 1),     make_case(7, 20, 1, 16, false, 6, 2),
      make_case(33, 30, 1, 48, false, 16, 3),   make_case(8, 24, 1, 64, false, 24, 6),
      make_case(100, 40, 1, 128, false, 20, 4), make_case(257, 25, 1, 80, false, 8, 7),
      make_case(1100, 3, 1, 16, false, 2, 8),   make_case(33, 30, 1, 48, true, 16, 9),
      make_case(7, 20, 3, 16, false, 8, 10),    make_case(9, 20, 64, 48, false, 8, 11),
      make_case(30, 24, 17, 80, true, 16, 12),  make_case(9, 16, 130, 32, true, 0, 13),
      make_case(8, 24, 2, 64, true, 24, 14),    make_case(100, 30, 128, 128, true, 0, 15),
      make_unscaled_case(9, 20, 28, 32, 16),    make_unscaled_case(30, 12, 8, 64, 17),
  };
  bool right = true, any = false;
  for (int isa = 0; isa < 4; ++isa) {
    if (!seqmnist_lstm_supported(isa)) {
      std::printf("%s: not on this machine\n", names[isa]);
      continue;
    }
    any = true;
    double worst = 0;
    for (const Case& c : cases) {
      if (quick && double(c.batch) * c.steps * c.units * c.units > kQuickWork) continue;
      const std::vector<Doubles> expected = reference(c);
      for (const bool want_dx : {false, true}) {
        Result result, again;
        right &= run(isa, 2, c, want_dx, result);
        const Floats* got[] = {&result.h, &result.dx, &result.dw, &result.du, &result.db};
        for (int i = 0; i < 5; ++i)
          if (i != 1 || want_dx) worst = std::max(worst, error(*got[i], expected[i]));
        for (const int threads : {1, 3}) {
          right &= run(isa, threads, c, want_dx, again);
          if (!equal(result, again, want_dx)) std::printf("%d threads give something else\n", threads), right = false;
        }
      }
    }
    right &= worst < 2e-5;
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity})
      if (!poisons(isa, value, 1, false, true) || !poisons(isa, value, 5, true, false))
        std::printf("%g becomes a plausible number\n", value), right = false;
    std::printf("%s: largest relative error %.1e\n", names[isa], worst);
    if (argc > 2) {
      double machine = 0;
      const std::vector<MachineCase> cases = read_cases(argv[2]);
      for (const MachineCase& c : cases) machine = std::max(machine, machine_error(isa, c));
      right &= !cases.empty() && machine < 1e-4;
      std::printf("%s: largest relative error of the machine %.1e in %zu cases\n", names[isa], machine, cases.size());
    }
  }
  right &= any;
  std::puts(right ? "right" : "WRONG");
  return !right;
}
