// The machine for recurrent cells: runs the program of a step over all steps of a batch, forward and backward. A plain
// C interface without dependencies; `seqmnist_tf.kernel.machine` calls it.
//
// Blocks, threads and the steps that rows share are the LSTM's (blocks.h). A block's rows go through a step's groups of
// operations together: products for all rows, elementwise operations for a strip of them at a time, so that what they
// hand on stays in the nearest cache. The gradients of weights are sums over rows and steps of products: the program
// names their operands, which are kept for some steps and multiplied at once.

#include "machine.h"
#include "machine_program.h"
#include "blocks.h"
#include "platform.h"

namespace machine {

using lstm::aligned;
using lstm::allocate;
using lstm::Block;
using lstm::Buffer;
using lstm::FlushDenormals;
using lstm::Given;
using lstm::Int;
using lstm::kBlockRows;
using lstm::kMaxLanes;
using lstm::make_plan;
using lstm::parallel;
using lstm::Plan;
using lstm::Segment;
using lstm::sum_over_chain;

#define LSTM_FUNCTIONS "machine_simd.h"
#include "each_isa.h"
#undef LSTM_FUNCTIONS

namespace {

// ---- what both passes have ----

struct Batch {
  int rows, steps;
  bool all_steps;
  const float* x;  // (rows, steps, features)
  Given given;
  const float* drawn;  // null, or (rows, width_of(drawn pieces))
};

int width_of(const std::vector<Piece>& pieces) {
  return pieces.empty() ? 0 : pieces.back().column + pieces.back().width;
}

// What fits into one block is one: the parts of a noisy batch, 25 rows each, run side by side, and fill tiles better.
Plan plan_of(const Program& program, const Batch& batch, bool shared) {
  return make_plan(batch.rows, batch.steps, program.features, batch.x, program.kept, shared, kBlockRows + 1);
}

// Weights as the program reads them.
struct Weights {
  Buffer fixed, memory;
  std::vector<const float*> packed;
};

Weights prepare(const Kernels& kernels, const Program& program, const Code& code, const float* constants,
                const float* parameters) {
  size_t size = 0;
  for (const RightOperand& p : code.packs) size += aligned(kernels.packed_size(p.k, p.n));
  Weights weights{allocate(program.fixed), allocate(size), {}};
  std::copy(constants, constants + program.fixed, weights.fixed.get());
  for (const Load& load : program.loads) {
    float* to = weights.fixed.get() + load.to;
    const float* from = parameters + load.from;
    if (load.repeat) std::fill(to, to + load.repeat, *from);
    if (!load.repeat) std::copy(from, from + load.count, to);
  }
  float* to = weights.memory.get();
  for (const RightOperand& p : code.packs) {
    kernels.pack({parameters + p.from, size_t(p.row), size_t(p.column), p.k, p.n}, to);
    weights.packed.push_back(to);
    to += aligned(kernels.packed_size(p.k, p.n));
  }
  return weights;
}

// Memory of a thread: what lies in a strip or a block, states before and after a step, samples, and what products need.
class Workspace {
 public:
  Workspace(const Kernels& kernels, const Program& program, bool backward)
      : code_(backward ? program.backward : program.forward),
        state_(aligned(program.state)),
        samples_(backward ? aligned(program.samples) : 0) {
    std::vector<Product> products;
    for (const Sum& sum : program.gradients)
      products.push_back({nullptr, nullptr, 0, 0, 0, sum.left.region < 0 ? 1 : sum.k, sum.n, nullptr});
    scratch_ = aligned(kernels.scratch_size(code_.groups, products));
  }

  size_t size() const { return aligned(code_.strip) + aligned(code_.block) + 2 * state_ + samples_ + scratch_; }

  // Everything begins as zeros: what fills up rows to whole lines is computed with, though nobody reads the results.
  Frame frame(const Weights& weights, float* memory) const {
    std::fill(memory, memory + size(), 0.0f);
    Frame frame{};
    frame.base[kStrip] = memory;
    frame.base[kBlock] = frame.base[kStrip] + aligned(code_.strip);
    frame.base[kState] = frame.base[kBlock] + aligned(code_.block);
    frame.base[kNext] = frame.base[kState] + state_;
    frame.base[kSamples] = frame.base[kNext] + state_;
    frame.scratch = frame.base[kSamples] + samples_;
    frame.base[kFixed] = weights.fixed.get();
    frame.packed = weights.packed.data();
    return frame;
  }

 private:
  const Code& code_;
  size_t state_, samples_, scratch_;
};

// Copy a row of numbers to where its pieces lie, or back.
void scatter(const std::vector<Piece>& pieces, const Frame& frame, int row, const float* from) {
  for (const Piece& piece : pieces)
    std::copy(from + piece.column, from + piece.column + piece.width, frame.at(piece.at, row));
}
void collect(const std::vector<Piece>& pieces, const Frame& frame, int row, float* to) {
  for (const Piece& piece : pieces) {
    const float* from = frame.at(piece.at, row);
    std::copy(from, from + piece.width, to + piece.column);
  }
}
void add(const std::vector<Piece>& pieces, const Frame& frame, int row, const float* from) {
  for (const Piece& piece : pieces) {
    float* to = frame.at(piece.at, row);
    for (int j = 0; j < piece.width; ++j) to[j] += from[piece.column + j];
  }
}

void put_features(const Program& program, const std::vector<Piece>& pieces, const Batch& batch, const Segment& segment,
                  int t, const Frame& frame) {
  for (int r = 0; r < segment.rows; ++r)
    scatter(pieces, frame, r, batch.x + (size_t(segment.order[r]) * batch.steps + t) * program.features);
}

// Put what was drawn for each row where its pieces lie: there it stays for all steps.
void put_drawn(const std::vector<Piece>& pieces, const Batch& batch, const int* order, const Block& block,
               const Frame& frame) {
  const size_t width = width_of(pieces);
  for (int r = 0; r < block.rows && width; ++r) scatter(pieces, frame, r, batch.drawn + order[r] * width);
}

// ---- forward ----

// out: (rows, outputs), or (rows, steps, outputs); last: null, or (rows, states); kept: null, or the segment's.
void forward_steps(const Kernels& kernels, const Program& program, const Batch& batch, const Segment& segment,
                   Frame& frame, float* kept, float* out, float* last) {
  frame.rows = segment.rows;
  frame.keep = kept != nullptr;
  frame.kept_stride = program.kept;
  for (int t = segment.begin; t < segment.end; ++t) {
    put_features(program, program.x_forward, batch, segment, t, frame);
    frame.base[kKept] = kept;
    kernels.run(program.forward.groups, frame);
    if (kept) kept += size_t(segment.rows) * program.kept;
    for (int r = 0; r < segment.rows; ++r)
      if (batch.all_steps)
        collect(program.output, frame, r, out + (size_t(segment.order[r]) * batch.steps + t) * program.outputs);
      else if (t == batch.steps - 1)
        collect(program.output, frame, r, out + size_t(segment.order[r]) * program.outputs);
    std::swap(frame.base[kState], frame.base[kNext]);
    for (int r = 0; r < segment.rows && last; ++r)
      if (batch.given.end(segment.order[r], batch.steps) == t + 1)
        collect(program.state_pieces, frame, r, last + size_t(segment.order[r]) * program.states);
  }
  kernels.done();
}

void forward(const Kernels& kernels, int threads, const Program& program, const float* constants, const Batch& batch,
             const float* parameters, float* out, float* kept, float* last_states) {
  const float* const initial = batch.given.first;
  const Plan plan = plan_of(program, batch, program.shared && !initial);
  const Weights weights = prepare(kernels, program, program.forward, constants, parameters);
  const int blocks = plan.blocks.size(), states = program.states;
  threads = std::min(threads, blocks);
  const Workspace workspace(kernels, program, false);
  const size_t size = workspace.size();
  const Buffer memory = allocate(threads * size);
  const Buffer begins = allocate(size_t(blocks) * states);  // states of the chain where each block begins
  const int last = plan.order.back();                       // it is the last to leave the chain,
                                                            // whose states are its own until then

  FlushDenormals flush;
  Frame chain = workspace.frame(weights, memory.get());
  for (int i = 0, t = 0; i < blocks; ++i) {
    const int begin = plan.blocks[i].begin;
    if (t < begin)
      forward_steps(kernels, program, batch, {&last, 1, t, begin}, chain,
                    kept ? kept + size_t(t) * program.kept : nullptr, out, nullptr);
    collect(program.state_pieces, chain, 0, begins.get() + size_t(i) * states);
    t = begin;
  }

  parallel(threads, blocks, [&](int item, int thread) {
    const Block& block = plan.blocks[item];
    const int* order = plan.order.data() + block.first;
    Frame frame = workspace.frame(weights, memory.get() + thread * size);
    for (int r = 0; r < block.rows; ++r)
      scatter(program.state_pieces, frame, r,
              initial ? initial + size_t(order[r]) * states : begins.get() + size_t(item) * states);
    put_drawn(program.drawn_forward, batch, order, block, frame);
    forward_steps(kernels, program, batch, {order, block.rows, block.begin, batch.steps}, frame,
                  kept ? kept + block.kept : nullptr, out, last_states);
    const size_t sequence = size_t(batch.steps) * program.outputs;
    for (int r = 0; r < block.rows && batch.all_steps; ++r)
      if (order[r] != last)
        std::copy(out + last * sequence, out + last * sequence + size_t(block.begin) * program.outputs,
                  out + order[r] * sequence);
  });
}

// ---- backward ----

// Samples of some steps, and the products that they go into.
class Samples {
 public:
  Samples(const Kernels& kernels, const Program& program, const Segment& segment, Frame& frame, float* sums)
      : kernels_(kernels),
        program_(program),
        frame_(frame),
        sums_(sums),
        rows_(segment.rows),
        steps_(std::max(1, kSampleRows / segment.rows)) {
    next();
  }

  // Steps run backward, and so do samples: those of the step now are the first in memory.
  void next() { frame_.sample = (steps_ - 1 - used_) * rows_; }

  void take(bool last) {
    ++used_;
    if (used_ == steps_ || last) add();
    next();
  }

 private:
  void add() {
    static const float kOne = 1;
    products_.clear();
    for (const Sum& sum : program_.gradients) {
      Product product{&kOne, frame_.at(sum.right, 0), 0, frame_.stride(sum.right), used_ * rows_, 1,
                      sum.n, sums_ + sum.sums};
      if (sum.left.region >= 0)
        product.left = frame_.at(sum.left, 0), product.left_stride = frame_.stride(sum.left), product.k = sum.k;
      products_.push_back(product);
    }
    kernels_.add_products(products_, frame_.scratch);
    used_ = 0;
  }

  const Kernels& kernels_;
  const Program& program_;
  Frame& frame_;
  float* const sums_;
  const int rows_, steps_;
  int used_ = 0;
  std::vector<Product> products_;
};

// Gradients of outputs: that of row i of the batch at step t begins at base + i * row_stride + t * step_stride, at the
// last step only or at all. Null where there are none.
struct Upstream {
  const float* base;
  size_t row_stride, step_stride;
  bool all;
};

// kept: of the segment's first step; shared: its rows have one sequence of kept values; dlast: null, or gradients of
// the last states, (batch, states); dx: null, or (batch, steps, features).
void backward_steps(const Kernels& kernels, const Program& program, const Batch& batch, const Segment& segment,
                    Frame& frame, const float* kept, bool shared, const Upstream& upstream, const float* dlast,
                    float* sums, float* dx) {
  const size_t record = size_t(shared ? 1 : segment.rows) * program.kept;
  frame.rows = segment.rows;
  frame.features = dx != nullptr;
  frame.kept_stride = shared ? 0 : program.kept;
  const std::vector<float> zeros(program.outputs);
  Samples samples(kernels, program, segment, frame, sums);
  for (int t = segment.end - 1; t >= segment.begin; --t) {
    put_features(program, program.x_backward, batch, segment, t, frame);
    frame.base[kKept] = const_cast<float*>(kept) + (t - segment.begin) * record;
    const bool given = upstream.base && (upstream.all || t == batch.steps - 1);
    for (int r = 0; r < segment.rows; ++r) {
      if (dlast && batch.given.end(segment.order[r], batch.steps) == t + 1)
        add(program.state_pieces, frame, r, dlast + size_t(segment.order[r]) * program.states);
      const float* from =
          given ? upstream.base + segment.order[r] * upstream.row_stride + t * upstream.step_stride : nullptr;
      if (!program.output_is_state)
        scatter(program.upstream, frame, r, given ? from : zeros.data());
      else if (given)
        add(program.upstream, frame, r, from);
    }
    frame.ahead_lines = t > segment.begin ? record / 16 : 0;
    if (frame.ahead_lines) frame.ahead = frame.base[kKept] - record;
    kernels.run(program.backward.groups, frame);
    for (int r = 0; r < segment.rows && dx; ++r)
      collect(program.dx, frame, r, dx + (size_t(segment.order[r]) * batch.steps + t) * program.features);
    samples.take(t == segment.begin);
    std::swap(frame.base[kState], frame.base[kNext]);
  }
  kernels.done();
}

// upstream: gradients of what forward() wrote to out; dx, initial: null, or gradients of the features and of the states
// before the first step.
void backward(const Kernels& kernels, int threads, const Program& program, const float* constants, const Batch& batch,
              const float* parameters, const float* kept, const float* upstream, const float* dlast, float* dx,
              float* dparameters, float* dinitial) {
  const Plan plan = plan_of(program, batch, program.shared && !dinitial);
  const Weights weights = prepare(kernels, program, program.backward, constants, parameters);
  const int blocks = plan.blocks.size(), lanes = std::min(blocks, kMaxLanes), states = program.states;
  threads = std::min(threads, lanes);
  const Workspace workspace(kernels, program, true);
  const size_t size = workspace.size(), sums = aligned(program.sums);
  const Buffer memory = allocate(threads * size);
  const Buffer gradients = allocate((lanes + 1) * sums);
  std::fill(gradients.get(), gradients.get() + (lanes + 1) * sums, 0.0f);
  const Buffer ends = allocate(size_t(blocks) * states);  // of each block where it begins, summed over its rows
  std::fill(ends.get(), ends.get() + size_t(blocks) * states, 0.0f);
  const size_t width = program.outputs;
  const Upstream given =
      batch.all_steps ? Upstream{upstream, batch.steps * width, width, true} : Upstream{upstream, width, 0, false};

  parallel(threads, lanes, [&](int lane, int thread) {
    std::vector<float> row(states);
    for (int item = lane; item < blocks; item += lanes) {
      const Block& block = plan.blocks[item];
      const int* order = plan.order.data() + block.first;
      float* to = gradients.get() + lane * sums;
      Frame frame = workspace.frame(weights, memory.get() + thread * size);
      put_drawn(program.drawn_backward, batch, order, block, frame);
      backward_steps(kernels, program, batch, {order, block.rows, block.begin, batch.steps}, frame, kept + block.kept,
                     false, given, dlast, to, dx);
      if (dx && block.begin)  // gradients of features differ from row to row
                              // where their states do not
        backward_steps(kernels, program, batch, {order, block.rows, 0, block.begin}, frame, kept, true, given, nullptr,
                       to, dx);
      float* end = ends.get() + size_t(item) * states;
      for (int r = 0; r < block.rows; ++r) {
        collect(program.state_pieces, frame, r, row.data());
        for (int j = 0; j < states; ++j) end[j] += row[j];
        if (dinitial) std::copy(row.begin(), row.end(), dinitial + size_t(order[r]) * states);
      }
    }
  });

  FlushDenormals flush;
  if (!dx && plan.blocks.back().begin) {
    const Buffer shared = batch.all_steps ? sum_over_chain(plan, batch.steps, width, upstream) : nullptr;
    Frame frame = workspace.frame(weights, memory.get());
    for (int i = blocks - 1; i >= 0; --i) {
      const int begin = i ? plan.blocks[i - 1].begin : 0, end = plan.blocks[i].begin;
      add(program.state_pieces, frame, 0, ends.get() + size_t(i) * states);
      if (begin < end)
        backward_steps(kernels, program, batch, {&plan.order.back(), 1, begin, end}, frame,
                       kept + size_t(begin) * program.kept, false, {shared.get(), 0, width, true}, nullptr,
                       gradients.get() + lanes * sums, nullptr);
    }
  }
  std::fill(dparameters, dparameters + program.parameters, 0.0f);
  for (int lane = 0; lane <= lanes; ++lane)
    for (const Sum& sum : program.gradients) {
      const float* from = gradients.get() + lane * sums + sum.sums;
      for (int i = 0; i < sum.k; ++i)
        for (int j = 0; j < sum.n; ++j)
          dparameters[sum.parameter + size_t(i) * sum.stride + j] += from[i * aligned(sum.n) + j];
    }
}

}  // namespace
}  // namespace machine

// ---- the C interface ----

namespace {

// For tiles, numbers are split into parts of bfloat16, which infinity and NaN cannot be.
const machine::Kernels& kernels_for(int isa, const machine::Program& program, int batch, int steps, const float* x,
                                    const float* parameters) {
  const auto finite = [](float v) { return std::isfinite(v); };
  if (isa == lstm::kAmx && (lstm::too_large_for_tiles(x, size_t(batch) * steps * program.features) ||
                            !std::all_of(parameters, parameters + program.parameters, finite)))
    isa = lstm::kAvx512;
  return *machine::kIsas[isa];
}

}  // namespace

extern "C" {

// The program is what program.py writes: numbers, and the floats that all rows have in common. `kept` is null, or
// (batch + 1) * steps times a row's floats, aligned to 64 bytes; `initial` is null for zeros; `ends` is null, or the
// steps of each row that count, at least 1; `last` is null, or gets the states after them; `drawn` is what the program
// reads of each row at all steps, or null.

int seqmnist_machine_forward(int isa, int threads, const int64_t* program, const float* constants, int batch, int steps,
                             int all_steps, const float* x, const float* parameters, const float* initial, float* out,
                             float* kept, const int* ends, const float* drawn, float* last) {
  return lstm::guarded(isa, [&]() {
    const machine::Program read = machine::Reader(program).program(drawn);
    const machine::Batch given{batch, steps, bool(all_steps), x, {initial, ends}, drawn};
    const machine::Kernels& kernels = kernels_for(isa, read, batch, steps, x, parameters);
    machine::forward(kernels, threads, read, constants, given, parameters, out, kept, last);
  });
}

int seqmnist_machine_backward(int isa, int threads, const int64_t* program, const float* constants, int batch,
                              int steps, int all_steps, const float* x, const float* parameters, const float* kept,
                              const float* upstream, float* dx, float* dparameters, float* dinitial, const int* ends,
                              const float* drawn, const float* dlast) {
  return lstm::guarded(isa, [&]() {
    const machine::Program read = machine::Reader(program).program(drawn);
    const machine::Batch given{batch, steps, bool(all_steps), x, {nullptr, ends}, drawn};
    const machine::Kernels& kernels = kernels_for(isa, read, batch, steps, x, parameters);
    machine::backward(kernels, threads, read, constants, given, parameters, kept, upstream, dlast, dx, dparameters,
                      dinitial);
  });
}
}
