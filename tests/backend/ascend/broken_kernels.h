#pragma once

#include "kernel_operator.h"

// Kernels with one fault each, at the line that ends in "fault". All take 256 halves and give them
// back plus one, if they work at all; the cube ones multiply.
#define RIDGE_BROKEN_KERNELS(X)                     \
  X(whole, aiv_only)                                \
  X(removed_wait, aiv_only)                         \
  X(removed_wait_for_the_store, aiv_only)           \
  X(removed_barrier, aiv_only)                      \
  X(small_buffer, aiv_only)                         \
  X(unaligned_copy, aiv_only)                       \
  X(unaligned_operand, aiv_only)                    \
  X(unmatched_flag, aiv_only)                       \
  X(flag_set_twice, aiv_only)                       \
  X(wait_without_flag, aiv_only)                    \
  X(undefined_read, aiv_only)                       \
  X(padding_read, aiv_only)                         \
  X(beyond_allocation, aiv_only)                    \
  X(too_many_buffers, aiv_only)                     \
  X(tensor_not_freed, aiv_only)                     \
  X(no_free_buffer, aiv_only)                       \
  X(wrong_type, aiv_only)                           \
  X(overlap, aiv_only)                              \
  X(scalar_before_vector, aiv_only)                 \
  X(scalar_in_between, aiv_only)                    \
  X(scalar_store_without_flag, aiv_only)            \
  X(cache_not_cleaned, aiv_only)                    \
  X(two_cores_one_place, aiv_only)                  \
  X(other_cores, aiv_only)                          \
  X(row_as_vector, aic_only)                        \
  X(accumulate_without_barrier, aic_only)           \
  X(cores_without_flag, mix_aic_1_2)                \
  X(cross_flag_left, mix_aic_1_2)                   \
  X(cores_that_wait, mix_aic_1_2)                   \
  X(cores_with_flag, mix_aic_1_2)

#define RIDGE_DECLARE(name, cores) \
  extern "C" __global__ __aicore__ void broken_##name(GM_ADDR x, GM_ADDR out);
RIDGE_BROKEN_KERNELS(RIDGE_DECLARE)
#undef RIDGE_DECLARE
