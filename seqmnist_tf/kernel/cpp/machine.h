// What machine.cpp, which plans and schedules, and machine_simd.h, which computes, know of each other.
//
// The machine runs the program of a recurrent cell's step: a list of operations on blocks of rows, which
// seqmnist_tf/kernel/program.py assembles. Numbers here are those of program.py.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace machine {

enum Operation {
  kCopy,
  kSpread,  // one column to all columns
  kKeep,    // a copy past the caches, for the backward pass
  kRowSum,
  kRowMax,
  kRowMin,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMax,
  kMin,
  kGreater,
  kGreaterEqual,
  kEqual,
  kPow,
  kTanhGrad,
  kSigmoidGrad,
  kFma,   // a b + c
  kFnma,  // c - a b
  kSelect,
  kAbs,
  kSqrt,
  kExp,
  kExpm1,
  kLog,
  kLog1p,
  kTanh,
  kSigmoid,
  kSoftplus,
  kFloor,
  kRound,
  kSin,
  kCos,
  kErf,
  kAtan,
  kErfc,
  kGather,  // element i of row r: first operand [third operand [i]], or that of the second where the third is negative
};

// Where numbers lie: of a strip of rows only; of a block of rows, for one step; of all rows alike; kept by the forward
// pass; states before a step, and after it (of the backward pass, their gradients after and before it); of the last
// steps' rows, for the gradients of weights.
enum Region { kStrip, kBlock, kFixed, kKept, kState, kNext, kSamples, kRegions };

enum Condition { kAlways, kIfKept, kIfFeatures };

constexpr int kStripRows = 5;     // of a run of elementwise operations: what they
                                  // hand on stays in the nearest cache
constexpr int kSampleRows = 125;  // rows x steps that a product for the
                                  // gradients of weights sums over, about

struct Operand {
  int region;  // -1: none
  int offset;
  int stride;  // floats from row to row
};

struct Instruction {
  int operation, condition, width;
  Operand to, given[3];
};

struct Term {
  Operand left;
  int k;
  int packed;  // which of the packed right operands
};

// The sum of products and a bias.
struct Dot {
  int condition, width;
  Operand to, bias;
  std::vector<Term> terms;
};

// A run of elementwise operations, or products.
struct Group {
  std::vector<Instruction> elementwise;
  std::vector<Dot> dots;
};

// A right operand: k x n numbers of a parameter, or of its transpose.
struct Pack {
  const float* from;   // its first number
  size_t row, column;  // from a row, or a column, to the next
  int k, n;
};

// Numbers lie here while a step is computed.
struct Frame {
  float* base[kRegions];
  size_t kept_stride;  // from row to row; 0 where all rows share what was kept
  int sample;          // the first of the step's rows among the samples
  int rows;
  bool keep, features;  // which conditions hold
  const float* const* packed;
  float* scratch;      // for products
  const float* ahead;  // what the next step reads, to be fetched from memory meanwhile
  size_t ahead_lines;  // of 16 floats

  float* at(const Operand& operand, int row) const {
    const int place = row + (operand.region == kSamples ? sample : 0);
    return base[operand.region] + operand.offset + place * stride(operand);
  }
  size_t stride(const Operand& operand) const { return operand.region == kKept ? kept_stride : operand.stride; }
  bool skips(int condition) const { return (condition == kIfKept && !keep) || (condition == kIfFeatures && !features); }
};

// Of the product left^T right, (k x n), over some samples: added to sums, n padded to whole lines.
struct Product {
  const float *left, *right;
  size_t left_stride, right_stride;  // from sample to sample
  int samples, k, n;
  float* sums;
};

// The functions of one instruction set. Sizes are in floats.
struct Kernels {
  size_t (*packed_size)(int k, int n);
  void (*pack)(const Pack&, float* packed);
  size_t (*scratch_size)(const std::vector<Group>&, const std::vector<Product>&);
  void (*run)(const std::vector<Group>&, const Frame&);  // a step
  void (*add_products)(const std::vector<Product>&, float* scratch);
  void (*done)();  // after a thread's last step
};

}  // namespace machine
