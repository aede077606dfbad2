#pragma once

#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/latent_expansion_kernel.h"
#include "backend/cpu/linear_kernel.h"
#include "backend/cpu/peak_kernel.h"
#include "backend/cpu/row_kernels.h"
#include "backend/cpu/store_kv_kernel.h"

// Instantiates every kernel for one kind of vector; included once by each kernels_*.cc.
namespace ridge::backend::cpu {
namespace {

template <class V>
KernelTable make_kernel_table() {
  KernelTable table{};
  table.tile_rows = V::max_tile_rows;
  fill_dot<V, DType::f32>(table);
  fill_dot<V, DType::f16>(table);
  fill_dot<V, DType::bf16>(table);
  fill_dot<V, DType::q4_0>(table);
  fill_dot<V, DType::q4_1>(table);
  fill_dot<V, DType::q5_0>(table);
  fill_dot<V, DType::q5_1>(table);
  fill_dot<V, DType::q8_0>(table);
  fill_dot<V, DType::q2_k>(table);
  fill_dot<V, DType::q3_k>(table);
  fill_dot<V, DType::q4_k>(table);
  fill_dot<V, DType::q5_k>(table);
  fill_dot<V, DType::q6_k>(table);
  fill_dot<V, DType::iq4_nl>(table);
  fill_dot<V, DType::iq4_xs>(table);
  fill_dot<V, DType::mxfp4>(table);
  table.quantize_row = &quantize_row<V>;
  table.rms_norm = &rms_norm_row<V>;
  table.gated_activation = &gated_activation_row<V>;
  table.finish_strip = &finish_strip<V>;
  table.add = &add_row<V>;
  table.scale = &scale_row<V>;
  table.rope = &rope_head<V>;
  table.store_kv = &store_kv<V>;
  for (int& rows : table.attention_rows) rows = attention_rows;
  if (V::has_word_dot) table.attention_rows[static_cast<int>(DType::f16)] = word_attention_rows;
  table.attention = &attention<V>;
  table.merge_attention = &merge_attention<V>;
  fill_latent_expansion<V>(table);
  fill_peaks<V>(table.peaks);
  return table;
}

}  // namespace
}  // namespace ridge::backend::cpu
