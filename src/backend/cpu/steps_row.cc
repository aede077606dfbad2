#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "backend/cpu/steps.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// A step whose work is one function for each row.
template <typename Fn>
class RowStep final : public Step {
 public:
  RowStep(Rows rows, std::vector<Value> values, Fn fn)
      : rows_(rows), values_(std::move(values)), fn_(std::move(fn)) {}

  std::vector<Value> values() const override { return values_; }
  void run(Run& run, int member) override {
    split_rows(run.rows(rows_), run.members, member, [&](int row) { fn_(run, row); });
  }

 private:
  Rows rows_;
  std::vector<Value> values_;
  Fn fn_;
};

template <typename Fn>
std::unique_ptr<Step> make_row_step(Rows rows, std::vector<Value> values, Fn fn) {
  return std::make_unique<RowStep<Fn>>(rows, std::move(values), std::move(fn));
}

float* row_of(const Run& run, Value value, int row) {
  return run.arena.at(value) + row * run.arena.stride(value);
}
int32_t* ids_of(const Run& run, Value value, int row) {
  return run.arena.ids_at(value) + row * run.arena.stride(value);
}

class RopeAnglesStep final : public Step {
 public:
  explicit RopeAnglesStep(RopeTables tables) : tables_(std::move(tables)) {}
  std::vector<Value> values() const override { return {}; }
  void run(Run& run, int member) override {
    split_rows(run.shape.tokens, run.members, member, [&](int token) {
      for (auto& table : tables_) table->compute(token, run.inputs.positions[token]);
    });
  }
  bool runs_into_next() const override { return true; }  // nothing reads angles before a linear

 private:
  RopeTables tables_;
};

class CopyBlocksStep final : public Step {
 public:
  explicit CopyBlocksStep(CpuKvCache* cache) : cache_(cache) {}
  std::vector<Value> values() const override { return {}; }
  void run(Run& run, int member) override {
    if (member != 0) return;  // pairs may depend on each other, so they are copied in order
    for (int i = 0; i < run.shape.block_copies; ++i) {
      cache_->copy_block(run.inputs.block_copies[2 * i], run.inputs.block_copies[2 * i + 1]);
    }
  }

 private:
  CpuKvCache* cache_;
};

}  // namespace

void RopeAngles::compute(int token, int position) {
  float* to = values_.data() + static_cast<size_t>(token) * rotary_dim();
  for (float frequency : table_.inverse_frequencies) {
    // The angle is rounded to float32 first, as transformers does.
    const float angle = static_cast<float>(position) * frequency;
    *to++ = std::cos(angle) * table_.magnitude;
    *to++ = std::sin(angle) * table_.magnitude;
  }
}

std::unique_ptr<Step> make_rope_angles_step(RopeTables tables) {
  return std::make_unique<RopeAnglesStep>(std::move(tables));
}

std::unique_ptr<Step> make_embed_step(const Embed& op) {
  const auto* table = static_cast<const CpuWeight*>(op.table);
  return make_row_step(Rows::tokens, {op.out}, [table, out = op.out](const Run& run, int row) {
    table->gather(run.inputs.token_ids[row], row_of(run, out, row));
  });
}

std::unique_ptr<Step> make_rms_norm_step(const RmsNorm& op, Rows rows) {
  const auto* weight = static_cast<const CpuWeight*>(op.weight);
  return make_row_step(rows, {op.x, op.out}, [op, weight](const Run& run, int row) {
    for (int64_t first = 0; first < op.x.columns; first += weight->columns()) {
      run.kernels.rms_norm(row_of(run, op.x, row) + first, weight->values(), op.eps,
                           weight->columns(), row_of(run, op.out, row) + first);
    }
  });
}

std::unique_ptr<Step> make_add_rms_norm_step(const AddRmsNorm& op, Rows rows) {
  const auto* weight = static_cast<const CpuWeight*>(op.weight);
  return make_row_step(rows, {op.x, op.residual, op.out}, [op, weight](const Run& run, int row) {
    float* residual = row_of(run, op.residual, row);
    run.kernels.add(residual, row_of(run, op.x, row), op.x.columns, residual);
    run.kernels.rms_norm(residual, weight->values(), op.eps, op.x.columns,
                         row_of(run, op.out, row));
  });
}

// The op's contract has one scale a row; the linear steps' own groups of 32 are finer.
std::unique_ptr<Step> make_quantize_rows_step(const QuantizeRows& op, Rows rows) {
  return make_row_step(rows, {op.x, op.codes, op.scales}, [op](const Run& run, int row) {
    const float* x = row_of(run, op.x, row);
    float largest = 0;
    for (int i = 0; i < op.x.columns; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f;
    *row_of(run, op.scales, row) = scale;
    int8_t* codes = run.arena.codes_at(op.codes) + row * run.arena.stride(op.codes);
    for (int i = 0; i < op.x.columns; ++i) {
      codes[i] = static_cast<int8_t>(scale > 0 ? std::nearbyint(x[i] / scale) : 0.0f);
    }
  });
}

std::unique_ptr<Step> make_gated_activation_step(const GatedActivation& op, Rows rows) {
  return make_row_step(rows, {op.x, op.out}, [op](const Run& run, int row) {
    const int columns = op.out.columns / op.groups;
    const float* x = row_of(run, op.x, row);
    float* out = row_of(run, op.out, row);
    for (int g = 0; g < op.groups; ++g, x += 2 * columns, out += columns) {
      run.kernels.gated_activation(x, x + columns, op.kind, columns, out);
    }
  });
}

std::unique_ptr<Step> make_add_step(Value a, Value b, Value out, Rows rows) {
  return make_row_step(rows, {a, b, out}, [a, b, out](const Run& run, int row) {
    run.kernels.add(row_of(run, a, row), row_of(run, b, row), a.columns, row_of(run, out, row));
  });
}

std::unique_ptr<Step> make_scale_step(const Scale& op, Rows rows) {
  return make_row_step(rows, {op.x, op.out}, [op](const Run& run, int row) {
    run.kernels.scale(row_of(run, op.x, row), op.factor, op.x.columns, row_of(run, op.out, row));
  });
}

std::unique_ptr<Step> make_gather_rows_step(const GatherRows& op) {
  return make_row_step(Rows::outputs, {op.x, op.out}, [op](const Run& run, int row) {
    std::memcpy(row_of(run, op.out, row), row_of(run, op.x, run.inputs.output_rows[row]),
                op.x.columns * sizeof(float));
  });
}

std::unique_ptr<Step> make_copy_blocks_step(const CopyBlocks& op) {
  return std::make_unique<CopyBlocksStep>(static_cast<CpuKvCache*>(op.cache));
}

std::unique_ptr<Step> make_top_k_step(const TopK& op, Rows rows) {
  return make_row_step(rows, {op.logits, op.values, op.ids}, [op](const Run& run, int row) {
    const float* logits = row_of(run, op.logits, row);
    std::vector<int32_t> order(op.logits.columns);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + op.k, order.end(),
                      [logits](int32_t a, int32_t b) {
                        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
                      });
    for (int i = 0; i < op.k; ++i) {
      ids_of(run, op.ids, row)[i] = order[i];
      row_of(run, op.values, row)[i] = logits[order[i]];
    }
  });
}

std::unique_ptr<Step> make_sample_step(const Sample& op, Rows rows) {
  return make_row_step(rows, {op.logits, op.ids}, [op](const Run& run, int row) {
    const float* logits = row_of(run, op.logits, row);
    *ids_of(run, op.ids, row) =
        static_cast<int32_t>(std::max_element(logits, logits + op.logits.columns) - logits);
  });
}

std::unique_ptr<Step> make_copy_step(Value x, Value out, Rows rows) {
  return make_row_step(rows, {x, out}, [x, out](const Run& run, int row) {
    std::memcpy(row_of(run, out, row), row_of(run, x, row), x.columns * sizeof(float));
  });
}

}  // namespace ridge::backend::cpu
