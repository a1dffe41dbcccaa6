// The machine's operations for one instruction set. Included by machine.cpp once for each, by way of each_isa.h.

namespace LSTM_ISA {
namespace {

constexpr int W = LSTM_WIDTH;

#include "lstm_vectors.h"
#include "vector_math.h"
#include "products.h"
#include "machine_vectors.h"

// ---- elementwise operations ----

// Where an operand's rows of a strip are.
struct Cursor {
  Cursor(const Frame& frame, const Operand& operand, int first)
      : at(frame.at(operand, operand.region == kStrip ? 0 : first)),
        stride(frame.stride(operand)) {}
  float* at;
  size_t stride;
};

// Call body(Int<N>(), pointers) for the vectors of a strip's rows: 4 side by side, for some functions' steps wait for
// each other, then one by one.
template <int Given, class Body>
LSTM_INLINE void each(const Instruction& i, const Frame& frame, int first, int rows, const Body& body) {
  const int width = (i.width + W - 1) / W * W;
  Cursor to(frame, i.to, first), a(frame, i.given[0], first), b(frame, i.given[Given > 1], first),
      c(frame, i.given[Given > 2 ? 2 : 0], first);
  for (int r = 0; r < rows; ++r) {
    int j = 0;
    for (; j + 4 * W <= width; j += 4 * W) body(Int<4>(), to.at + j, a.at + j, b.at + j, c.at + j);
    for (; j < width; j += W) body(Int<1>(), to.at + j, a.at + j, b.at + j, c.at + j);
    to.at += to.stride, a.at += a.stride, b.at += b.stride, c.at += c.stride;
  }
}

// An operation of one operand, on N vectors in place.
template <class Function>
LSTM_INLINE void unary(const Instruction& i, const Frame& frame, int first, int rows, const Function& function) {
  each<1>(i, frame, first, rows, [&](auto count, float* to, const float* a, const float*, const float*) {
    constexpr int N = decltype(count)::value;
    V x[N];
    LSTM_UNROLL
    for (int j = 0; j < N; ++j) x[j] = load(a + j * W);
    function(x);
    LSTM_UNROLL
    for (int j = 0; j < N; ++j) store(to + j * W, x[j]);
  });
}

template <class Function>
LSTM_INLINE void single(const Instruction& i, const Frame& frame, int first, int rows, const Function& function) {
  unary(i, frame, first, rows, [&](auto& x) {
    LSTM_UNROLL
    for (V& v : x) v = function(v);
  });
}

template <class Function>
LSTM_INLINE void binary(const Instruction& i, const Frame& frame, int first, int rows, const Function& function) {
  each<2>(i, frame, first, rows, [&](auto count, float* to, const float* a, const float* b, const float*) {
    LSTM_UNROLL
    for (int j = 0; j < decltype(count)::value; ++j) store(to + j * W, function(load(a + j * W), load(b + j * W)));
  });
}

template <class Function>
LSTM_INLINE void ternary(const Instruction& i, const Frame& frame, int first, int rows, const Function& function) {
  each<3>(i, frame, first, rows, [&](auto count, float* to, const float* a, const float* b, const float* c) {
    LSTM_UNROLL
    for (int j = 0; j < decltype(count)::value; ++j)
      store(to + j * W, function(load(a + j * W), load(b + j * W), load(c + j * W)));
  });
}

// Functions that are rare enough for the C library's.
template <class Function>
LSTM_INLINE V by_element(V a, V b, const Function& function) {
  alignas(64) float x[W], y[W];
  store(x, a), store(y, b);
  for (int lane = 0; lane < W; ++lane) x[lane] = function(x[lane], y[lane]);
  return load(x);
}

// One number for each row.
template <class Function>
LSTM_INLINE void across(const Instruction& i, const Frame& frame, int first, int rows, const Function& function) {
  Cursor to(frame, i.to, first), from(frame, i.given[0], first);
  for (int r = 0; r < rows; ++r) to.at[r * to.stride] = function(from.at + r * from.stride, i.width);
}

float row_sum(const float* x, int width) {
  V sums = set(0);
  int j = 0;
  for (; j + W <= width; j += W) sums += load(x + j);
  float total = sum(sums);
  for (; j < width; ++j) total += x[j];
  return total;
}

template <class Better>
float row_extreme(const float* x, int width, const Better& better) {
  float found = x[0];
  for (int j = 1; j < width; ++j)
    if (better(x[j], found) || std::isnan(x[j])) found = x[j];
  return found;
}

// A strip's rows of one operation.
void execute(const Instruction& i, const Frame& f, int first, int rows) {
  const auto unary_of = [&](const auto& function) { unary(i, f, first, rows, function); };
  const auto single_of = [&](const auto& function) { single(i, f, first, rows, function); };
  const auto binary_of = [&](const auto& function) { binary(i, f, first, rows, function); };
  const auto ternary_of = [&](const auto& function) { ternary(i, f, first, rows, function); };
  switch (i.operation) {
    case kCopy:
      return single_of([&](V a) { return a; });
    case kSpread: {
      Cursor to(f, i.to, first), from(f, i.given[0], first);
      for (int r = 0; r < rows; ++r, to.at += to.stride, from.at += from.stride)
        for (int j = 0; j < i.width; j += W) store(to.at + j, set(*from.at));
      return;
    }
    case kKeep:
      return each<1>(i, f, first, rows, [&](auto count, float* to, const float* a, const float*, const float*) {
        LSTM_UNROLL
        for (int j = 0; j < decltype(count)::value; ++j) stream(to + j * W, load(a + j * W));
      });
    case kRowSum:
      return across(i, f, first, rows, row_sum);
    case kRowMax:
      return across(i, f, first, rows, [](const float* x, int width) {
        return row_extreme(x, width, [](float a, float b) { return a > b; });
      });
    case kRowMin:
      return across(i, f, first, rows, [](const float* x, int width) {
        return row_extreme(x, width, [](float a, float b) { return a < b; });
      });
    case kAdd:
      return binary_of([&](V a, V b) { return a + b; });
    case kSub:
      return binary_of([&](V a, V b) { return a - b; });
    case kMul:
      return binary_of([&](V a, V b) { return a * b; });
    case kDiv:
      return binary_of([&](V a, V b) { return a / b; });
    case kMax:
      return binary_of([&](V a, V b) { return larger(a, b); });
    case kMin:
      return binary_of([&](V a, V b) { return smaller(a, b); });
    case kGreater:
      return binary_of([&](V a, V b) { return greater(a, b); });
    case kGreaterEqual:
      return binary_of([&](V a, V b) { return greater_equal(a, b); });
    case kEqual:
      return binary_of([&](V a, V b) { return equal(a, b); });
    case kPow:
      return binary_of([&](V a, V b) { return by_element(a, b, [](float x, float y) { return std::pow(x, y); }); });
    case kTanhGrad:
      return binary_of([&](V y, V d) { return d * fnma(y, y, set(1)); });
    case kSigmoidGrad:
      return binary_of([&](V y, V d) { return d * (y * (set(1) - y)); });
    case kFma:
      return ternary_of([&](V a, V b, V c) { return fma(a, b, c); });
    case kFnma:
      return ternary_of([&](V a, V b, V c) { return fnma(a, b, c); });
    case kSelect:
      return ternary_of([&](V condition, V a, V b) { return select(condition, a, b); });
    case kAbs:
      return single_of([&](V a) { return absolute(a); });
    case kSqrt:
      return single_of([&](V a) { return square_root(a); });
    case kExp:
      return unary_of([&](auto& x) { exponential(x); });
    case kExpm1:
      return single_of([&](V a) { return exponential_minus_1(a); });
    case kLog:
      return single_of([&](V a) { return logarithm(a); });
    case kLog1p:
      return single_of([&](V a) { return logarithm_of_1_plus(a); });
    case kTanh:
      return single_of([&](V a) { return tanh(a); });
    case kSigmoid:
      return unary_of([&](auto& x) { logistic(x); });
    case kSoftplus:
      return single_of([&](V a) {
        V x[1] = {set(0) - absolute(a)};
        exponential(x);
        return logarithm_of_1_plus(x[0]) + larger(a, set(0));
      });
    case kFloor:
      return single_of([&](V a) { return whole(a); });
    case kRound:
      return single_of([&](V a) { return nearest(a); });
    case kSin:
      return single_of([&](V a) { return by_element(a, a, [](float x, float) { return std::sin(x); }); });
    case kCos:
      return single_of([&](V a) { return by_element(a, a, [](float x, float) { return std::cos(x); }); });
    case kErf:
      return single_of([&](V a) { return by_element(a, a, [](float x, float) { return std::erf(x); }); });
    case kAtan:
      return single_of([&](V a) { return by_element(a, a, [](float x, float) { return std::atan(x); }); });
    case kErfc:
      return single_of([&](V a) { return by_element(a, a, [](float x, float) { return std::erfc(x); }); });
    case kGather: {
      Cursor to(f, i.to, first), from(f, i.given[0], first), other(f, i.given[1], first), index(f, i.given[2], first);
      for (int r = 0; r < rows; ++r) {
        for (int j = 0; j < i.width; ++j) {
          const int place = int(index.at[j]);
          to.at[j] = place < 0 ? other.at[j] : from.at[place];
        }
        to.at += to.stride, from.at += from.stride, other.at += other.stride;
      }
      return;
    }
  }
}

#include "machine_fma.h"
#if LSTM_AMX
#include "machine_amx.h"
#define LSTM_PRODUCTS tiles
#else
#define LSTM_PRODUCTS vectors
#endif

// ---- a step ----

void run(const std::vector<Group>& groups, const Frame& frame) {
  size_t left = 0, fetched = 0;  // instructions; lines of what the next step reads
  for (const Group& group : groups) left += group.elementwise.size();
  left *= (frame.rows + kStripRows - 1) / kStripRows;
  for (const Group& group : groups) {
    if (!group.dots.empty()) LSTM_PRODUCTS::compute(group.dots, frame);
    for (int first = 0; first < frame.rows; first += kStripRows) {
      const int rows = frame.rows - first < kStripRows ? frame.rows - first : kStripRows;
      for (const Instruction& i : group.elementwise) {
        const size_t end = fetched + (frame.ahead_lines - fetched) / left--;
        for (; fetched < end; ++fetched) __builtin_prefetch(frame.ahead + 16 * fetched, 0, 2);
        if (!frame.skips(i.condition)) execute(i, frame, first, rows);
      }
    }
  }
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {LSTM_PRODUCTS::packed_size,  LSTM_PRODUCTS::pack, LSTM_PRODUCTS::scratch_size, run,
                         LSTM_PRODUCTS::add_products, LSTM_PRODUCTS::done};

}  // namespace LSTM_ISA

#undef LSTM_PRODUCTS
