// The program of a step as program.py writes it: a list of numbers, which machine.cpp reads.

#pragma once

#include <cstdint>
#include <vector>

#include "machine.h"

namespace machine {

// A part of a vector, and where it lies while a step is computed.
struct Piece {
  int column, width;
  Operand at;
};

// Numbers of a parameter among those that all rows have in common: one of them `repeat` times, or `count` of them.
struct Load {
  int from, count, repeat, to;
};

struct RightOperand {
  int from, row, column, k, n;
};

struct Code {
  int strip, block;  // floats
  std::vector<RightOperand> packs;
  std::vector<Group> groups;
};

// The gradient of k x n numbers of a parameter, `stride` from row to row: left^T right, or the sum of right.
struct Sum {
  Operand left, right;
  int k, n, sums, parameter, stride;
};

struct Program {
  int features, outputs, states;                // widths
  int kept;                                     // floats that a row keeps at a step
  int state, samples, fixed, sums, parameters;  // floats
  bool output_is_state, shared;
  std::vector<Piece> state_pieces, x_forward, x_backward, output, dx, upstream;
  std::vector<Piece> drawn_forward, drawn_backward;  // of what is drawn for a row, and the same at all steps
  std::vector<Load> loads;
  Code forward, backward;
  std::vector<Sum> gradients;
};

class Reader {
 public:
  explicit Reader(const int64_t* numbers) : at_(numbers) {}

  int number() { return int(*at_++); }

  Operand operand() {
    Operand result;
    result.region = number(), result.offset = number(), result.stride = number();
    return result;
  }

  template <class Item, class Read>
  void list(std::vector<Item>& items, const Read& read) {
    items.resize(number());
    for (Item& item : items) read(item);
  }

  void pieces(std::vector<Piece>& items) {
    list(items, [&](Piece& piece) { piece.column = number(), piece.width = number(), piece.at = operand(); });
  }

  void code(Code& code) {
    code.strip = number(), code.block = number();
    list(code.packs, [&](RightOperand& p) {
      p.from = number(), p.row = number(), p.column = number(), p.k = number(), p.n = number();
    });
    list(code.groups, [&](Group& group) {
      const bool dots = number();
      if (dots) return list(group.dots, [&](Dot& dot) { this->dot(dot); });
      list(group.elementwise, [&](Instruction& i) {
        i.operation = number(), i.condition = number(), i.width = number(), i.to = operand();
        for (Operand& given : i.given) given = operand();
      });
    });
  }

  Program program(bool drawn) {
    Program p;
    for (int* size :
         {&p.features, &p.outputs, &p.states, &p.kept, &p.state, &p.samples, &p.fixed, &p.sums, &p.parameters})
      *size = number();
    p.output_is_state = number(), p.shared = number();
    for (auto* list : {&p.state_pieces, &p.x_forward, &p.x_backward, &p.output, &p.dx, &p.upstream}) pieces(*list);
    list(p.loads, [&](Load& l) { l.from = number(), l.count = number(), l.repeat = number(), l.to = number(); });
    code(p.forward);
    code(p.backward);
    list(p.gradients, [&](Sum& s) {
      s.left = operand(), s.right = operand(), s.k = number(), s.n = number();
      s.sums = number(), s.parameter = number(), s.stride = number();
    });
    if (drawn) pieces(p.drawn_forward), pieces(p.drawn_backward);
    return p;
  }

 private:
  void dot(Dot& dot) {
    dot.condition = number(), dot.width = number(), dot.to = operand(), dot.bias = operand();
    list(dot.terms, [&](Term& term) { term.left = operand(), term.k = number(), term.packed = number(); });
  }

  const int64_t* at_;
};

}  // namespace machine
