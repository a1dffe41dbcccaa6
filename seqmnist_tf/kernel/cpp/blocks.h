// How a batch is computed: in blocks of rows, which share what their rows have in common. For lstm.cpp and machine.cpp.

#pragma once

#include "platform.h"

namespace lstm {

// Rows of a block, at most. The decomposition of a batch into blocks follows from its size alone: results do not
// depend on the number of threads.
constexpr int kBlockRows = 25;

// Sums of gradients that a batch has, at most; a block adds to one of them.
constexpr int kMaxLanes = 32;

struct Block {
  int first, rows;  // in the order of the plan
  int begin;        // the step at which the first of its rows leaves the chain
  size_t kept;      // where its kept values begin
};

// A run of consecutive steps of some rows.
struct Segment {
  const int* order;  // the rows' indices in the batch
  int rows;
  int begin, end;  // steps [begin, end)
};

// How a batch is computed: a function of its features alone.
struct Plan {
  std::vector<int> order;
  std::vector<Block> blocks;  // in the order in which they leave the chain
};

// x: (batch, steps, features); record: floats that a row keeps at a step; shared: whether rows may share states;
// even_from: batches of as many rows have an even number of blocks, for two threads.
inline Plan make_plan(int batch, int steps, int features, const float* x, size_t record, bool shared, int even_from) {
  std::vector<int> leaves(batch);
  for (int row = 0; row < batch && shared; ++row) {
    const float* own = x + size_t(row) * steps * features;
    // By bits: 1 / x tells -0 from 0.
    while (leaves[row] < steps - 1 && !std::memcmp(x, own, features * sizeof(float))) ++leaves[row], own += features;
  }
  Plan plan;
  plan.order.resize(batch);
  for (int row = 0; row < batch; ++row) plan.order[row] = row;
  std::stable_sort(plan.order.begin(), plan.order.end(), [&](int a, int b) { return leaves[a] < leaves[b]; });
  int count = (batch + kBlockRows - 1) / kBlockRows;
  if (batch >= even_from) count = (count + 1) / 2 * 2;
  for (int i = 0, first = 0; i < count; ++i) {
    Block block{first, batch / count + (i < batch % count), leaves[plan.order[first]], 0};
    plan.blocks.push_back(block);
    first += block.rows;
  }
  size_t kept = size_t(plan.blocks.back().begin) * record;  // the chain's come first
  for (Block& block : plan.blocks) {
    block.kept = kept;
    kept += size_t(block.rows) * (steps - block.begin) * record;
  }
  return plan;
}

// What a caller gives of each row besides its features. Rows then share no states.
struct Given {
  const float* first;  // null for zeros, or the states before the first step, (batch, states)
  const int* ends;     // null, or how many steps of each row count; the states after them are its last ones

  int end(int row, int steps) const { return ends ? ends[row] : steps; }

  // The steps, in order, at which rows of a block have their last states, and the last step.
  std::vector<int> stops(const int* order, const Block& block, int steps) const {
    std::vector<int> found{steps};
    for (int r = 0; r < block.rows && ends; ++r) found.push_back(ends[order[r]]);
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }
};

// Gradients (steps, width) of the chain's outputs: at each step, the sum over the rows that share them. upstream:
// (batch, steps, width).
inline Buffer sum_over_chain(const Plan& plan, int steps, size_t width, const float* upstream) {
  const size_t sequence = steps * width, size = plan.blocks.back().begin * width;
  Buffer sums = allocate(size);
  std::fill(sums.get(), sums.get() + size, 0.0f);
  for (const Block& block : plan.blocks)
    for (int r = 0; r < block.rows; ++r) {
      const float* from = upstream + plan.order[block.first + r] * sequence;
      for (size_t i = 0; i < block.begin * width; ++i) sums.get()[i] += from[i];
    }
  return sums;
}

}  // namespace lstm
