#include "backend/ascend/kernel_test.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "backend/reference/ops.h"

namespace ridge::backend::ascend {

namespace {

using RowKernels = KernelTest;

reference::Rows32 rows_of(std::vector<float>& values, int rows, int columns) {
  return {values.data(), rows, columns, columns};
}

// Below, at and beyond blocks of 32 bytes and repeats of 256; the last two are models' own.
constexpr uint32_t widths[] = {1, 7, 16, 31, 64, 100, 576, 4096};
constexpr uint32_t row_counts[] = {1, 3, 50, 131};

TEST_P(RowKernels, RmsNorm) {
  for (const ActivationType type : activation_types) {
    for (const uint32_t columns : widths) {
      for (const uint32_t rows : row_counts) {
        if (columns > 1000 && rows > 3) continue;
        const std::string what = suffix(type) + " " + std::to_string(rows) + " x " +
                                 std::to_string(columns);
        SCOPED_TRACE(what);
        std::vector<float> x = rounded(type, random_floats(random, size_t{rows} * columns));
        const std::vector<float> weight = random_floats(random, columns);
        std::vector<float> wanted(x.size());
        reference::rms_norm(rows_of(x, rows, columns), weight, 1e-5f,
                            rows_of(wanted, rows, columns));

        DeviceMemory device;
        const uint64_t out = device.reserve(x.size() * element_bytes(type));
        const auto plan = plan_rms_norm(
            soc(), {{rows, columns, element_bytes(type)}, columns, 0, columns, 1e-5f, false});
        launch(device, "ridge_rms_norm_" + suffix(type), plan.block_dim, device.store(type, x),
               device.store(weight), out, device.store_tiling(plan.tiling));
        expect_close(device.load(type, out, x.size()), wanted, columns, tolerance(type), what);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(RowKernels, AddRmsNormUpdatesTheResidual) {
  for (const ActivationType type : activation_types) {
    for (const uint32_t columns : widths) {
      const uint32_t rows = columns > 1000 ? 3 : 61;
      const std::string what = suffix(type) + " " + std::to_string(columns);
      SCOPED_TRACE(what);
      std::vector<float> x = rounded(type, random_floats(random, size_t{rows} * columns));
      std::vector<float> residual = rounded(type, random_floats(random, x.size()));
      const std::vector<float> weight = random_floats(random, columns);

      DeviceMemory device;
      const uint64_t out = device.reserve(x.size() * element_bytes(type));
      const uint64_t residual_address = device.store(type, residual);
      const auto plan = plan_rms_norm(
          soc(), {{rows, columns, element_bytes(type)}, columns, columns, columns, 1e-6f, true});
      launch(device, "ridge_add_rms_norm_" + suffix(type), plan.block_dim, device.store(type, x),
             residual_address, device.store(weight), out, device.store_tiling(plan.tiling));

      reference::add(rows_of(residual, rows, columns), rows_of(x, rows, columns),
                     rows_of(residual, rows, columns));
      residual = rounded(type, residual);
      // One rounding of an exact sum: not one bit may differ.
      EXPECT_EQ(device.load(type, residual_address, x.size()), residual) << what;
      std::vector<float> wanted(x.size());
      reference::rms_norm(rows_of(residual, rows, columns), weight, 1e-6f,
                          rows_of(wanted, rows, columns));
      expect_close(device.load(type, out, x.size()), wanted, columns, tolerance(type), what);
      if (HasFailure()) return;
    }
  }
}

TEST_P(RowKernels, RmsNormOfASliceOfWiderRows) {
  const uint32_t rows = 50, columns = 100, stride = 117;
  std::vector<float> x = rounded(ActivationType::f16, random_floats(random, rows * stride));
  const std::vector<float> weight = random_floats(random, columns);
  std::vector<float> wanted(rows * columns);
  reference::rms_norm({x.data() + 5, int(rows), int(columns), int(stride)}, weight, 1e-5f,
                      rows_of(wanted, rows, columns));
  DeviceMemory device;
  const uint64_t out = device.reserve(wanted.size() * 2);
  const auto plan = plan_rms_norm(soc(), {{rows, columns, 2}, stride, 0, columns, 1e-5f, false});
  launch(device, "ridge_rms_norm_f16", plan.block_dim,
         device.store(ActivationType::f16, x) + 5 * 2, device.store(weight), out,
         device.store_tiling(plan.tiling));
  expect_close(device.load(ActivationType::f16, out, wanted.size()), wanted, columns,
               tolerance(ActivationType::f16), "slice");
}

TEST_P(RowKernels, GatedActivation) {
  const std::pair<GatedActivationTiling::Kind, Activation> kinds[] = {
      {GatedActivationTiling::silu, Activation::silu},
      {GatedActivationTiling::gelu_tanh, Activation::gelu_tanh},
      {GatedActivationTiling::swiglu_oai, Activation::swiglu_oai}};
  for (const ActivationType type : activation_types) {
    for (const auto& [kind, reference_kind] : kinds) {
      for (const uint32_t columns : widths) {
        for (const uint32_t groups : {1u, 2u}) {
          const uint32_t rows = columns > 1000 ? 2 : kind == GatedActivationTiling::silu ? 53 : 5;
          const std::string what = suffix(type) + " kind " + std::to_string(kind) + " " +
                                   std::to_string(columns) + " x " + std::to_string(groups);
          SCOPED_TRACE(what);
          const uint32_t wide = groups * 2 * columns, narrow = groups * columns;
          std::vector<float> x = random_floats(random, size_t{rows} * wide, 3.0f);
          // Large enough to saturate the exponential on both sides and to meet the clamps.
          for (size_t i = 0; i < x.size(); i += 7) x[i] *= 13;
          x = rounded(type, x);
          std::vector<float> wanted(size_t{rows} * narrow);
          reference::gated_activation(rows_of(x, rows, wide), reference_kind, int(groups),
                                      rows_of(wanted, rows, narrow));
          DeviceMemory device;
          const uint64_t out = device.reserve(wanted.size() * element_bytes(type));
          const auto plan = plan_gated_activation(
              soc(), {{rows, columns, element_bytes(type)}, groups, wide, narrow, kind});
          launch(device, "ridge_gated_activation_" + suffix(type), plan.block_dim,
                 device.store(type, x), out, device.store_tiling(plan.tiling));
          expect_close(device.load(type, out, wanted.size()), wanted, narrow, tolerance(type),
                       what);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_P(RowKernels, AddsRows) {
  for (const ActivationType type : activation_types) {
    for (const uint32_t columns : {1u, 7u, 31u, 100u, 4096u, 13000u}) {
      const uint32_t rows = columns > 1000 ? 2 : 61, stride = columns + 5;
      SCOPED_TRACE(suffix(type) + " " + std::to_string(columns));
      std::vector<float> a = rounded(type, random_floats(random, size_t{rows} * stride));
      std::vector<float> b = rounded(type, random_floats(random, size_t{rows} * columns));
      DeviceMemory device;
      const uint64_t out = device.reserve(size_t{rows} * columns * element_bytes(type));
      const auto plan =
          plan_add(soc(), {{rows, columns, element_bytes(type)}, stride, columns, columns});
      launch(device, "ridge_add_" + suffix(type), plan.block_dim, device.store(type, a),
             device.store(type, b), out, device.store_tiling(plan.tiling));
      std::vector<float> wanted(size_t{rows} * columns);
      reference::add({a.data(), int(rows), int(columns), int(stride)}, rows_of(b, rows, columns),
                     rows_of(wanted, rows, columns));
      EXPECT_EQ(device.load(type, out, wanted.size()), rounded(type, wanted));
      if (HasFailure()) return;
    }
  }
}

TEST_P(RowKernels, ScaleRows) {
  const std::pair<ActivationType, ActivationType> types[] = {
      {ActivationType::f32, ActivationType::f32}, {ActivationType::f32, ActivationType::f16},
      {ActivationType::f32, ActivationType::bf16}, {ActivationType::f16, ActivationType::f32},
      {ActivationType::bf16, ActivationType::f32}};
  for (const auto& [from, to] : types) {
    for (const auto& [rows, columns] :
         {std::pair{1u, 1u}, {61u, 7u}, {3u, 100u}, {1u, 9000u}, {200u, 576u}}) {
      for (const bool more : {false, true}) {
        const uint32_t x_stride = columns + 5, out_stride = columns + 3;
        SCOPED_TRACE(suffix(from) + " to " + suffix(to) + " " + std::to_string(rows) + " x " +
                     std::to_string(columns) + (more ? " scales and bias" : ""));
        const std::vector<float> x =
            rounded(from, random_floats(random, size_t{rows} * x_stride));
        const std::vector<float> scales = random_floats(random, rows);
        const std::vector<float> bias = random_floats(random, columns);
        const float factor = more ? 0.5f : -1.7f;
        DeviceMemory device;
        const std::vector<float> before(size_t{rows} * out_stride, 9.0f);
        const uint64_t out = device.store(to, before);
        const auto plan =
            plan_scale_rows(soc(), {rows, columns, element_bytes(from), element_bytes(to),
                                    x_stride, out_stride, factor, more, more});
        launch(device, "ridge_scale_rows_" + suffix(from) + "_" + suffix(to), plan.block_dim,
               device.store(from, x), device.store(scales), device.store(bias), out,
               device.store_tiling(plan.tiling));
        std::vector<float> wanted = before;
        for (uint32_t r = 0; r < rows; ++r) {
          for (uint32_t c = 0; c < columns; ++c) {
            float value = x[r * x_stride + c];
            if (more) value *= scales[r];
            value *= factor;
            if (more) value += bias[c];
            wanted[r * out_stride + c] = rounded(to, value);
          }
        }
        EXPECT_EQ(device.load(to, out, wanted.size()), wanted);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_P(RowKernels, HalveRows) {
  for (const uint32_t columns : {1u, 7u, 100u, 576u, 20000u}) {
    const uint32_t rows = columns > 1000 ? 3 : 61;
    const uint32_t x_stride = columns + 5, out_stride = (columns + 15) / 16 * 16;
    SCOPED_TRACE(columns);
    std::vector<float> x = random_floats(random, size_t{rows} * x_stride);
    // Of sizes far beyond what a half holds, both ways, and nothing at all.
    const float sizes[] = {1e30f, 1e-30f, 0.0f};
    for (uint32_t r = 0; r < 3; ++r) {
      for (uint32_t c = 0; c < columns; ++c) x[r * x_stride + c] *= sizes[r];
    }
    DeviceMemory device;
    const uint64_t out = device.reserve(size_t{rows} * out_stride * 2);
    const uint64_t scales_address = device.reserve(rows * 4);
    const auto plan = plan_halve_rows(soc(), rows, columns, x_stride, out_stride);
    launch(device, "ridge_halve_rows", plan.block_dim, device.store(x), out, scales_address,
           device.store_tiling(plan.tiling));
    const std::vector<float> scales = device.load<float>(scales_address, rows);
    const std::vector<float> halves = device.load(ActivationType::f16, out, rows * out_stride);
    for (uint32_t r = 0; r < rows; ++r) {
      const float* row = x.data() + size_t{r} * x_stride;
      float largest = 0;
      for (uint32_t c = 0; c < columns; ++c) largest = std::max(largest, std::fabs(row[c]));
      EXPECT_NEAR(scales[r], largest / 16384, 1e-6 * largest / 16384 + 1.2e-38f) << r;
      for (uint32_t c = 0; c < columns; ++c) {
        const float value = halves[size_t{r} * out_stride + c] * scales[r];
        // Half a unit in the last place, or of the smallest halves.
        ASSERT_NEAR(value, row[c], std::fabs(row[c]) * 0x1.1p-11 + largest * 0x1p-38) << r << "," << c;
      }
    }
    for (uint32_t r = 0; r < rows; ++r) {
      for (uint32_t c = columns; c < out_stride; ++c) EXPECT_EQ(halves[size_t{r} * out_stride + c], 0);
    }
    if (HasFailure()) return;
  }
}

TEST_P(RowKernels, ScaleRowsWithZerosBehindThem) {
  for (const uint32_t columns : {1u, 8u, 20u, 129u}) {
    SCOPED_TRACE(columns);
    const uint32_t rows = 190, stride = columns + 3, padding = 16 - columns % 16;
    const uint32_t out_columns = columns + padding;
    const std::vector<float> x = random_floats(random, size_t{rows} * stride);
    DeviceMemory device;
    const uint64_t out = device.reserve(size_t{rows} * out_columns * 2);
    const auto plan = plan_scale_rows(soc(), {.rows = rows,
                                              .columns = columns,
                                              .x_bytes = 4,
                                              .out_bytes = 2,
                                              .x_stride = stride,
                                              .out_stride = out_columns,
                                              .padding = padding});
    const uint64_t address = device.store(x);
    launch(device, "ridge_scale_rows_f32_f16", plan.block_dim, address, address, address, out,
           device.store_tiling(plan.tiling));
    std::vector<float> wanted;
    for (uint32_t r = 0; r < rows; ++r) {
      for (uint32_t c = 0; c < columns; ++c) {
        wanted.push_back(rounded(ActivationType::f16, x[size_t{r} * stride + c]));
      }
      wanted.resize(wanted.size() + padding);
    }
    EXPECT_EQ(device.load(ActivationType::f16, out, wanted.size()), wanted);
    if (HasFailure()) return;
  }
}

TEST_P(RowKernels, EmbedCopiesRows) {
  // 20000 are a part of the table's rows.
  for (const auto& [columns, table_columns] :
       {std::pair{3u, 3u}, {16u, 16u}, {576u, 576u}, {20000u, 20007u}}) {
    const uint32_t vocabulary = 37, tokens = 70;
    std::vector<uint16_t> table(vocabulary * table_columns);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<uint16_t>(i * 7919);
    std::vector<int32_t> ids(tokens);
    for (uint32_t t = 0; t < tokens; ++t) ids[t] = int32_t(t * t % vocabulary);
    DeviceMemory device;
    const uint64_t out = device.reserve(tokens * columns * 2);
    const auto plan = plan_embed(soc(), {tokens, columns * 2, table_columns * 2, columns * 2});
    launch(device, "ridge_embed", plan.block_dim, device.store(ids), device.store(table), out,
           device.store_tiling(plan.tiling));
    const std::vector<uint16_t> got = device.load<uint16_t>(out, tokens * columns);
    for (uint32_t t = 0; t < tokens; ++t) {
      for (uint32_t c = 0; c < columns; ++c) {
        ASSERT_EQ(got[t * columns + c], table[ids[t] * table_columns + c]) << t << ", " << c;
      }
    }
  }
}

TEST_P(RowKernels, QuantizeRows) {
  for (const ActivationType type : activation_types) {
    std::vector<uint32_t> all(std::begin(widths), std::end(widths));
    // A core does not hold these whole: the 7B's down projection has the first.
    all.insert(all.end(), {18944, 30001});
    for (const uint32_t columns : all) {
      const uint32_t rows = columns > 1000 ? 3 : 61;
      const std::string what = suffix(type) + " " + std::to_string(columns);
      SCOPED_TRACE(what);
      std::vector<float> x = rounded(type, random_floats(random, size_t{rows} * columns));
      std::fill_n(x.begin() + 2 * columns, columns, 0.0f);  // a row without a scale
      // The largest of a wide row in its first piece, and in its last.
      x[columns / 9] = 9;
      x[2 * columns - 1] = -9;
      std::vector<int8_t> wanted(x.size());
      std::vector<float> scales(rows);
      reference::quantize_rows(rows_of(x, rows, columns),
                               {wanted.data(), int(rows), int(columns), int(columns)},
                               rows_of(scales, rows, 1));
      DeviceMemory device;
      const uint64_t codes_address = device.reserve(x.size());
      const uint64_t scales_address = device.reserve(rows * 4);
      const auto plan =
          plan_quantize_rows(soc(), {rows, columns, element_bytes(type)}, columns, columns);
      launch(device, "ridge_quantize_rows_" + suffix(type), plan.block_dim, device.store(type, x),
             codes_address, scales_address, device.store_tiling(plan.tiling));
      // The same float32 divisions and roundings: not one bit may differ.
      EXPECT_EQ(device.load<float>(scales_address, rows), scales);
      EXPECT_EQ(device.load<int8_t>(codes_address, x.size()), wanted);
      if (HasFailure()) return;
    }
  }
}

TEST_P(RowKernels, RopeStoresKeysAndValuesInThePagedCache) {
  constexpr uint32_t tokens = 9, heads = 3, kv_heads = 2, block_tokens = 4, blocks = 8;
  const auto cache_of = [](uint32_t head_dim) { return blocks * block_tokens * kv_heads * head_dim; };
  using enum ActivationType;
  for (const auto& [type, cached] : {std::pair{f16, f16}, {bf16, bf16}, {f32, f32}, {f32, f16},
                                     {f32, bf16}}) {
    const std::string kernel = type == cached ? suffix(type) : suffix(type) + "_" + suffix(cached);
    for (const RopePairs pairs : {RopePairs::neox, RopePairs::interleaved}) {
      for (const uint32_t head_dim : {4u, 64u, 80u, 128u}) {
        for (const uint32_t rotary_dim : {head_dim, head_dim / 2}) {
          // As with MLA's latent, values may be wider than keys.
          const uint32_t value_dim = head_dim == 64 ? 3 * head_dim : head_dim;
          const std::string what = kernel + " " + std::to_string(head_dim) + " " +
                                   std::to_string(rotary_dim);
          SCOPED_TRACE(what);
          RopeTable table{.magnitude = 1.25f, .pairs = pairs};
          for (uint32_t i = 0; i < rotary_dim / 2; ++i) {
            table.inverse_frequencies.push_back(std::pow(10000.0f, -2.0f * i / rotary_dim));
          }
          // q, k and v as slices of one row.
          const uint32_t stride = (heads + kv_heads) * head_dim + kv_heads * value_dim;
          std::vector<float> x = rounded(type, random_floats(random, tokens * stride));
          std::vector<int32_t> positions(tokens), slots(tokens);
          for (uint32_t t = 0; t < tokens; ++t) {
            positions[t] = int32_t(t * t % 50);
            slots[t] = int32_t(t * 7 % (blocks * block_tokens));
          }
          DeviceMemory device;
          const uint64_t q = device.store(type, x);
          const uint64_t k = q + heads * head_dim * element_bytes(type);
          const uint64_t v = k + kv_heads * head_dim * element_bytes(type);
          std::vector<int32_t> all_positions(50);
          std::iota(all_positions.begin(), all_positions.end(), 0);
          std::vector<float> rotations(all_positions.size() * 2 * rotary_dim);
          fill_rotations(table, all_positions, rotations);
          const std::vector<float> no_keys(cache_of(head_dim)), no_values(cache_of(value_dim));
          const uint64_t k_cache = device.store(cached, no_keys);
          const uint64_t v_cache = device.store(cached, no_values);
          const uint32_t key_row = kv_heads * head_dim, value_row = kv_heads * value_dim;
          const auto plan = plan_rope_store_kv(soc(), {.tokens = tokens,
                                                       .heads = heads,
                                                       .kv_heads = kv_heads,
                                                       .head_dim = head_dim,
                                                       .value_dim = value_dim,
                                                       .rotary_dim = rotary_dim,
                                                       .element_bytes = element_bytes(type),
                                                       .q_stride = stride,
                                                       .k_stride = stride,
                                                       .v_stride = stride,
                                                       .stores = true,
                                                       .block_tokens = block_tokens,
                                                       .k_block_stride = block_tokens * key_row,
                                                       .k_token_stride = key_row,
                                                       .v_block_stride = block_tokens * value_row,
                                                       .v_token_stride = value_row});
          launch(device, "ridge_rope_store_kv_" + kernel, plan.block_dim, q, k, v,
                 device.store(positions), device.store(slots), device.store(rotations),
                 device.store(rope_partners(table)), k_cache, v_cache,
                 device.store_tiling(plan.tiling));

          std::vector<float> wanted = x;
          const reference::Rows32 rotated = {wanted.data(), int(tokens),
                                             int((heads + kv_heads) * head_dim), int(stride)};
          reference::rope(rotated, positions, int(head_dim), table);
          const std::vector<float> got = device.load(type, q, x.size());
          expect_close(got, wanted, stride, tolerance(type), what);
          // The cache holds what the row holds, as its type, and nothing elsewhere.
          const std::vector<float> stored = rounded(cached, got);
          std::vector<float> keys = no_keys, values = no_values;
          for (uint32_t t = 0; t < tokens; ++t) {
            const float* row = stored.data() + t * stride + heads * head_dim;
            std::copy_n(row, key_row, keys.begin() + slots[t] * key_row);
            std::copy_n(row + key_row, value_row, values.begin() + slots[t] * value_row);
          }
          EXPECT_EQ(device.load(cached, k_cache, keys.size()), keys) << what;
          EXPECT_EQ(device.load(cached, v_cache, values.size()), values) << what;
          if (HasFailure()) return;
        }
      }
    }
  }
}

// Few different values, so that many are equal; some masked out.
std::vector<float> logits_with_ties(std::mt19937& random, size_t count) {
  std::vector<float> logits = random_floats(random, count, 3.0f);
  for (float& value : logits) {
    value = value < -5 ? -INFINITY : std::round(value * 8) / 8;
  }
  return logits;
}

TEST_P(RowKernels, TopKAndTheGreedyChoice) {
  struct Case {
    uint32_t rows, columns, k;
  };
  for (const ActivationType type : activation_types) {
    for (const Case& c : {Case{1, 1, 1}, Case{3, 100, 20}, Case{60, 37, 5}, Case{2, 20000, 40}}) {
      const std::string what = suffix(type) + " " + std::to_string(c.k) + " of " +
                               std::to_string(c.columns);
      SCOPED_TRACE(what);
      std::vector<float> logits = logits_with_ties(random, size_t{c.rows} * c.columns);
      // A row that is masked but for less than k.
      if (c.rows > 1) std::fill_n(logits.begin() + 3, c.columns - 3, -INFINITY);
      std::vector<float> wanted(size_t{c.rows} * c.k);
      std::vector<int32_t> wanted_ids(wanted.size()), greedy(c.rows);
      const reference::Rows32 rows = rows_of(logits, int(c.rows), int(c.columns));
      reference::top_k(rows, rows_of(wanted, int(c.rows), int(c.k)),
                       {wanted_ids.data(), int(c.rows), int(c.k), int(c.k)});
      reference::sample(rows, {greedy.data(), int(c.rows), 1, 1});

      DeviceMemory device;
      const uint64_t address = device.store(type, logits);
      const uint64_t values = device.reserve(wanted.size() * element_bytes(type));
      const uint64_t ids = device.reserve(wanted.size() * 4);
      const auto plan =
          plan_top_k(soc(), {{c.rows, c.columns, element_bytes(type)}, c.k, c.columns});
      launch(device, "ridge_top_k_" + suffix(type), plan.block_dim, address, values, ids,
             device.store_tiling(plan.tiling));
      EXPECT_EQ(device.load(type, values, wanted.size()), wanted) << what;
      EXPECT_EQ(device.load<int32_t>(ids, wanted.size()), wanted_ids) << what;

      const uint64_t choice = device.reserve(c.rows * 4);
      const auto one =
          plan_top_k(soc(), {{c.rows, c.columns, element_bytes(type)}, 1, c.columns});
      launch(device, "ridge_sample_" + suffix(type), one.block_dim, address, choice,
             device.store_tiling(one.tiling));
      EXPECT_EQ(device.load<int32_t>(choice, c.rows), greedy) << what;
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_FOR_SETTINGS(RowKernels);

}  // namespace

}  // namespace ridge::backend::ascend
