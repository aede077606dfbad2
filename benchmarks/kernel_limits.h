#pragma once

#include <string>

#include "backend/cpu/kernels.h"
#include "backend/precision.h"

namespace ridge::benchmarks {

// What a linear's speed is measured against: memory, and each instruction that its kernels use.
struct Limits {
  double bytes_per_second = 0;
  double f32 = 0, i8 = 0, tile_i8 = 0, tile_bf16 = 0;  // flops a second; 0 where there is none
};

Limits measure_limits(const backend::cpu::KernelTable& kernels, int threads);

// "memory 30.1 GB/s; f32 230, i8 930 Gop/s".
std::string to_string(const Limits& limits);

// The instruction's peak for so many rows, over the times that it multiplies each product.
double peak_of(const Limits& limits, const backend::cpu::KernelTable& kernels, DType dtype,
               backend::Precision precision, int rows);

}  // namespace ridge::benchmarks
