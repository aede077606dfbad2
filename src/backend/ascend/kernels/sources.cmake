# The kernels, for the twin (..) and for CANN's toolkit (../toolkit).
set(RIDGE_ASCEND_KERNEL_SOURCES
  add.cc
  attention.cc
  combine_experts.cc
  embed.cc
  embed_quantized.cc
  gated_activation.cc
  halve_rows.cc
  linear.cc
  linear_few_rows.cc
  linear_quantized.cc
  quantize_rows.cc
  rms_norm.cc
  rope_store_kv.cc
  route.cc
  sample_rows.cc
  scale_products.cc
  scale_rows.cc
  sort_experts.cc
  top_k.cc)
list(TRANSFORM RIDGE_ASCEND_KERNEL_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
