// What lstm.cpp, which plans and schedules, and lstm_simd.h, which computes, know of each other.

#pragma once

#include <cstddef>

#include "blocks.h"

namespace lstm {

// Floats that the forward pass keeps for the backward pass, per row, step and unit: gates i, f, g, o and state c.
constexpr int kKept = 5;

struct Problem {
  int batch, steps, features, units;
  const float* x;  // (batch, steps, features)
};

// Where a segment's gates and states are: those of row r at step t begin at base + (t - first) * step_stride + r *
// row_stride. A row stride of 0 is one sequence that all rows share. Of the states before the first step, `given` may
// be the caller's, h and c of each row of the batch, (batch, 2, units).
struct Kept {
  const float* base;
  int first;
  size_t step_stride, row_stride;
  const float* given = nullptr;
};

// Gradients of the states of all steps, from what reads them: that of row i of the batch at step t begins at base + i *
// row_stride + t * units. A row stride of 0 is one sequence of gradients; base is null where only the last state is
// read.
struct Upstream {
  const float* base;
  size_t row_stride;
};

// The functions of one instruction set. Sizes are in floats. Buffers and kept values are aligned to 64 bytes, other
// arrays of the library's callers are not. Of a problem, sizes depend on features and units only.
struct Kernels {
  size_t (*packed_size)(const Problem&);
  // For the backward pass, or for the forward pass: each reads what the other does not.
  void (*pack)(const Problem&, const float* w, const float* u, const float* b, bool backward, float* packed);

  size_t (*forward_scratch)(const Problem&, int rows);
  // h, c: (rows, units), the states before and after the segment; kept: null, or the segment's gates and states; all:
  // null, or (batch, steps, units), for the states h of all steps.
  void (*forward)(const Problem&, const Segment&, const float* packed, float* h, float* c, float* kept, float* all,
                  float* scratch);

  size_t (*backward_scratch)(const Problem&, int rows);
  size_t (*gradient_size)(const Problem&);
  // before: the kept values of the step before the segment; dh, dc: (rows, units), gradients after and before the
  // segment; sums: the weights' gradients are added to it; dx: null, or gradients (batch, steps, features).
  void (*backward)(const Problem&, const Segment&, const float* packed, const Kept& kept, const Kept& before,
                   const Upstream& upstream, float* dh, float* dc, float* sums, float* dx, float* scratch);
  void (*unpack)(const Problem&, const float* sums, float* dw, float* du, float* db);  // adds
};

}  // namespace lstm
