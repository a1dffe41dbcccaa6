// LSTM, forward and backward, on x86-64 and ARM64 CPUs: Keras's weights, Keras's order of gates, float. A plain C
// interface without dependencies; `seqmnist_tf.kernel.native` calls it.
//
// The rows of a batch are independent: threads take blocks of rows through all steps without waiting for each other.
// Rows that begin with the same run of features (the background above a digit) share its states: one row, the "chain",
// is computed for all of them, forward and backward, and a block begins where the first of its rows leaves the chain.

#include "lstm.h"
#include "blocks.h"
#include "platform.h"

namespace lstm {

#define LSTM_FUNCTIONS "lstm_simd.h"
#include "each_isa.h"
#undef LSTM_FUNCTIONS

namespace {

Plan plan_of(const Problem& problem, bool shared) {
  return make_plan(problem.batch, problem.steps, problem.features, problem.x, size_t(problem.units) * kKept, shared, 8);
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

// h_out: the last states (batch, units), or those of all steps (batch, steps, units); last: null, or (batch, 2, units),
// h and c of each row after the steps that count.
void forward(const Kernels& kernels, int threads, const Problem& problem, bool all_steps, const float* w,
             const float* u, const float* b, const Given& given, float* h_out, float* last_out, float* kept) {
  const int H = problem.units;
  const Plan plan = plan_of(problem, !given.first);
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
    const int* order = plan.order.data() + block.first;
    for (int r = 0; r < block.rows; ++r) {
      const float* own = given.first ? given.first + size_t(order[r]) * 2 * H : begin;
      std::copy(own, own + H, h + size_t(r) * H);
      std::copy(own + H, own + 2 * H, c + size_t(r) * H);
    }
    int t = block.begin;
    for (const int stop : given.stops(order, block, problem.steps)) {
      float* to = kept ? kept + block.kept + size_t(t - block.begin) * block.rows * H * kKept : nullptr;
      kernels.forward(problem, {order, block.rows, t, stop}, packed.get(), h, c, to, all, c + states);
      for (int r = 0; r < block.rows && last_out; ++r) {
        if (given.end(order[r], problem.steps) != stop) continue;
        float* row = last_out + size_t(order[r]) * 2 * H;
        std::copy(h + size_t(r) * H, h + size_t(r + 1) * H, row);
        std::copy(c + size_t(r) * H, c + size_t(r + 1) * H, row + H);
      }
      t = stop;
    }
    for (int r = 0; r < block.rows; ++r)
      if (!all)
        std::copy(h + size_t(r) * H, h + size_t(r + 1) * H, h_out + size_t(order[r]) * H);
      else if (order[r] != last)
        std::copy(all + last * sequence, all + last * sequence + size_t(block.begin) * H, all + order[r] * sequence);
  });
}

// dh_out, dlast: gradients of what forward() wrote to h_out and last_out; dfirst: null, or those of the first states.
void backward(const Kernels& kernels, int threads, const Problem& problem, bool all_steps, const float* w,
              const float* u, const float* b, const Given& given, const float* kept, const float* dh_out,
              const float* dlast, float* dx, float* dw, float* du, float* db, float* dfirst) {
  const int H = problem.units;
  const Plan plan = plan_of(problem, !given.first);
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
  const Kept start{zeros.get(), -1, 0, 0, given.first};
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
      const std::vector<int> stops = given.stops(order, block, problem.steps);
      for (int i = int(stops.size()) - 1; i >= 0; --i) {
        for (int r = 0; r < block.rows && dlast; ++r) {
          if (given.end(order[r], problem.steps) != stops[i]) continue;
          const float* row = dlast + size_t(order[r]) * 2 * H;
          for (int j = 0; j < H; ++j) dh[size_t(r) * H + j] += row[j], dc[size_t(r) * H + j] += row[H + j];
        }
        const int begin = i ? stops[i - 1] : block.begin;
        const Kept within{own.base + (begin - 1 - block.begin) * own.step_stride, begin - 1, own.step_stride, row};
        kernels.backward(problem, {order, block.rows, begin, stops[i]}, packed.get(), own, i ? within : before(begin),
                         upstream, dh, dc, to, dx, dc + states);
      }
      for (int r = 0; r < block.rows && dfirst; ++r) {
        float* row = dfirst + size_t(order[r]) * 2 * H;
        std::copy(dh + size_t(r) * H, dh + size_t(r + 1) * H, row);
        std::copy(dc + size_t(r) * H, dc + size_t(r + 1) * H, row + H);
      }
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
    const Buffer shared = all_steps ? sum_over_chain(plan, problem.steps, H, dh_out) : nullptr;
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

}  // namespace
}  // namespace lstm

// ---- the C interface ----

// Several features are split into two parts, to 16 bits; of one, what tiles multiply has no feature in it.
static const lstm::Kernels& kernels_for(int isa, const lstm::Problem& problem, const float* first) {
  const size_t count = size_t(problem.batch) * problem.steps * problem.features;
  const size_t states = first ? size_t(problem.batch) * 2 * problem.units : 0;
  const bool large =
      (problem.features > 1 && lstm::too_large_for_tiles(problem.x, count)) || lstm::too_large_for_tiles(first, states);
  return *lstm::kIsas[isa == lstm::kAmx && large ? lstm::kAvx512 : isa];
}

#ifndef LSTM_SOURCE
#define LSTM_SOURCE ""
#endif

extern "C" {

const char* seqmnist_lstm_source() { return LSTM_SOURCE; }  // SHA-256 of the sources that this was compiled from

int seqmnist_lstm_supported(int isa) { return lstm::supported(isa); }

// Units are a multiple of 16. `kept` is null, or (batch + 1) * steps * units * kKept floats, aligned to 64 bytes, which
// the backward pass reads; other arrays need no alignment. `first` is null for zeros, or states h and c (batch, 2,
// units); `ends` is null, or the steps of each row that count, at least 1; `last` is null, or gets the states after
// them.

int seqmnist_lstm_forward(int isa, int threads, int batch, int steps, int features, int units, int all_steps,
                          const float* x, const float* w, const float* u, const float* b, float* h, float* kept,
                          const float* first, const int* ends, float* last) {
  const lstm::Problem problem{batch, steps, features, units, x};
  return lstm::guarded(isa, [&]() {
    lstm::forward(kernels_for(isa, problem, first), threads, problem, all_steps, w, u, b, {first, ends}, h, last, kept);
  });
}

int seqmnist_lstm_backward(int isa, int threads, int batch, int steps, int features, int units, int all_steps,
                           const float* x, const float* w, const float* u, const float* b, const float* kept,
                           const float* dh, float* dx, float* dw, float* du, float* db, const float* first,
                           const int* ends, const float* dlast, float* dfirst) {
  const lstm::Problem problem{batch, steps, features, units, x};
  return lstm::guarded(isa, [&]() {
    lstm::backward(kernels_for(isa, problem, first), threads, problem, all_steps, w, u, b, {first, ends}, kept, dh,
                   dlast, dx, dw, du, db, dfirst);
  });
}
}
