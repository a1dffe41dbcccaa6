// Included by lstm.cpp and machine.cpp. Includes LSTM_FUNCTIONS, a file of functions, once for each instruction set,
// with LSTM_ISA its namespace, LSTM_WIDTH the floats of a vector (4, 8 or 16) and LSTM_AMX 1 where products run on AMX
// tiles. In whose namespace it stands, that one gets the functions and the table of their kernels.

#if defined(__x86_64__)

// Clang ignores the pragmas of GCC.
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif
#define LSTM_ISA avx2
#define LSTM_WIDTH 8
#define LSTM_AMX 0
#include LSTM_FUNCTIONS
#undef LSTM_ISA
#undef LSTM_WIDTH
#undef LSTM_AMX
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
#include LSTM_FUNCTIONS
#undef LSTM_ISA
#undef LSTM_WIDTH
#undef LSTM_AMX
#ifdef __clang__
#pragma clang attribute pop
#endif
#pragma GCC pop_options

#ifndef LSTM_NO_AMX  // setup.py defines it for assemblers that do not know the tile instructions

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"))), \
                             apply_to = function)
#endif
#define LSTM_ISA amx
#define LSTM_WIDTH 16
#define LSTM_AMX 1
#include LSTM_FUNCTIONS
#undef LSTM_ISA
#undef LSTM_WIDTH
#undef LSTM_AMX
#ifdef __clang__
#pragma clang attribute pop
#endif
#pragma GCC pop_options

#endif  // LSTM_NO_AMX

#else  // all ARM64 CPUs have NEON: nothing is chosen at run time

#define LSTM_ISA neon
#define LSTM_WIDTH 4
#define LSTM_AMX 0
#include LSTM_FUNCTIONS
#undef LSTM_ISA
#undef LSTM_WIDTH
#undef LSTM_AMX

#endif

namespace {

// In the order of the numbers that callers give: avx2, avx512, amx, neon.
#if !defined(__x86_64__)
const Kernels* const kIsas[] = {nullptr, nullptr, nullptr, &neon::kernels};
#elif defined(LSTM_NO_AMX)
const Kernels* const kIsas[] = {&avx2::kernels, &avx512::kernels, nullptr, nullptr};
#else
const Kernels* const kIsas[] = {&avx2::kernels, &avx512::kernels, &amx::kernels, nullptr};
#endif

}  // namespace
