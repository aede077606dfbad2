#include "format/folder_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "base/error.h"
#include "format/stored_matrix.h"
#include "tensor/dtype.h"

namespace ridge::format {

namespace {

using Matrix = std::shared_ptr<const StoredMatrix>;

// Rows that are asked of a matrix at once: some schemes read all of a cache line of columns.
constexpr int64_t rows_at_once = 64;

// The type in which matrices of several types can stand in one tensor.
DType common_dtype(const std::vector<Matrix>& matrices) {
  const DType first = matrices.front()->dtype();
  const auto all_are = [&](DType dtype) {
    return std::ranges::all_of(matrices,
                               [&](const Matrix& each) { return each->dtype() == dtype; });
  };
  if (all_are(first)) return first;
  return DType::f32;
}

// Row `row` of a tensor: which matrix has it, and where.
using RowOf = std::function<std::pair<size_t, int64_t>(int64_t row)>;

// A tensor whose rows are rows of the matrices.
GgufPart gathered(std::string name, const Shape& shape, std::vector<Matrix> matrices, DType dtype,
                  RowOf row_of, const std::shared_ptr<const FolderShards>& shards) {
  GgufPart part{.name = std::move(name), .dtype = dtype, .shape = shape};
  const size_t size = row_bytes(dtype, shape.columns());
  part.release = [shards, matrices] {
    for (const Matrix& matrix : matrices) {
      for (const FolderTensor* tensor : matrix->parts()) shards->advise(*tensor, Access::done);
    }
  };
  part.make = [shards, matrices = std::move(matrices), dtype, row_of = std::move(row_of), size](
                  int64_t first, int64_t rows, std::span<std::byte> out) {
    std::vector<int64_t> wanted;
    size_t matrix = 0;
    std::byte* to = out.data();
    const auto write = [&] {
      if (wanted.empty()) return;
      matrices[matrix]->write_as(dtype, wanted, to);
      to += wanted.size() * size;
      wanted.clear();
    };
    for (int64_t row = first; row < first + rows; ++row) {
      const auto [in, at] = row_of(row);
      if (in != matrix || static_cast<int64_t>(wanted.size()) == rows_at_once) write();
      matrix = in;
      wanted.push_back(at);
    }
    write();
  };
  return part;
}

std::string layer_name(int layer, std::string_view module) {
  return fmt::format("model.layers.{}.{}", layer, module);
}

// Whatever scheme its weight is stored in.
bool has_module(const FolderShards& shards, const std::string& name) {
  return std::ranges::any_of(shards.tensors(), [prefix = name + "."](const FolderTensor& tensor) {
    return tensor.name.starts_with(prefix);
  });
}

class FolderPlan {
 public:
  FolderPlan(std::shared_ptr<const FolderShards> shards, const FolderModel& model,
             const StoredScheme& scheme)
      : shards_(std::move(shards)), tensors_(*shards_), model_(model), scheme_(scheme) {}

  std::vector<GgufPart> run() {
    const FolderModel& m = model_;
    add_matrix("token_embd.weight", "model.embed_tokens", m.vocab_size, m.hidden);
    for (int layer = 0; layer < m.layers; ++layer) add_layer(layer);
    for (int layer = 0; layer < m.kept_guessing_layers; ++layer) add_guessing(m.layers + layer);
    add_norm("output_norm.weight", "model.norm", m.hidden);
    if (!m.has_tied_embeddings) add_matrix("output.weight", "lm_head", m.vocab_size, m.hidden);
    if (!m.rope_divisors.empty()) add_divisors();
    refuse_unused();
    return std::move(parts_);
  }

 private:
  static std::string blk(int layer, std::string_view role) {
    return fmt::format("blk.{}.{}", layer, role);
  }
  static std::string hf(int layer, std::string_view module) { return layer_name(layer, module); }

  void add_layer(int layer) {
    const FolderModel& m = model_;
    add_norm(blk(layer, "attn_norm.weight"), hf(layer, "input_layernorm"), m.hidden);
    if (m.latent) {
      add_latent_attention(layer);
    } else {
      add_attention(layer);
    }
    if (m.family == FolderFamily::gemma3) {
      add_norm(blk(layer, "post_attention_norm.weight"), hf(layer, "post_attention_layernorm"),
               m.hidden);
      add_norm(blk(layer, "ffn_norm.weight"), hf(layer, "pre_feedforward_layernorm"), m.hidden);
      add_norm(blk(layer, "post_ffw_norm.weight"), hf(layer, "post_feedforward_layernorm"),
               m.hidden);
    } else {
      const char* norm =
          m.family == FolderFamily::gpt_oss ? "post_attention_norm.weight" : "ffn_norm.weight";
      add_norm(blk(layer, norm), hf(layer, "post_attention_layernorm"), m.hidden);
    }
    if (m.family == FolderFamily::gpt_oss) {
      add_merged_experts(layer);
    } else if (m.experts && layer >= m.experts->dense_layers) {
      add_experts(layer);
    } else {
      add_gated(layer, "mlp", "", m.feed_forward);
    }
  }

  // A layer for multi-token prediction: one like the others, with what joins hidden states and
  // tokens before it, and a head behind, which may be the model's.
  void add_guessing(int layer) {
    const FolderModel& m = model_;
    add_layer(layer);
    add_norm(blk(layer, "nextn.enorm.weight"), hf(layer, "enorm"), m.hidden);
    add_norm(blk(layer, "nextn.hnorm.weight"), hf(layer, "hnorm"), m.hidden);
    add_matrix(blk(layer, "nextn.eh_proj.weight"), hf(layer, "eh_proj"), m.hidden,
               int64_t{2} * m.hidden);
    if (has_module(*shards_, hf(layer, "embed_tokens"))) {
      add_matrix(blk(layer, "nextn.embed_tokens.weight"), hf(layer, "embed_tokens"), m.vocab_size,
                 m.hidden);
    }
    if (has_module(*shards_, hf(layer, "shared_head.norm"))) {
      add_norm(blk(layer, "nextn.shared_head_norm.weight"), hf(layer, "shared_head.norm"),
               m.hidden);
    }
    if (has_module(*shards_, hf(layer, "shared_head.head"))) {
      add_matrix(blk(layer, "nextn.shared_head_head.weight"), hf(layer, "shared_head.head"),
                 m.vocab_size, m.hidden);
    }
  }

  void add_attention(int layer) {
    const FolderModel& m = model_;
    const int64_t q = int64_t{m.heads} * m.head_dim;
    const int64_t kv = int64_t{m.kv_heads} * m.head_dim;
    // GGUF's Llama turns neighbours (2i, 2i + 1) of a head, transformers' i and i + head_dim / 2.
    const bool in_pairs = m.architecture == "llama";
    add_matrix(blk(layer, "attn_q.weight"), hf(layer, "self_attn.q_proj"), q, m.hidden, in_pairs);
    add_matrix(blk(layer, "attn_k.weight"), hf(layer, "self_attn.k_proj"), kv, m.hidden, in_pairs);
    add_matrix(blk(layer, "attn_v.weight"), hf(layer, "self_attn.v_proj"), kv, m.hidden);
    if (m.family == FolderFamily::qwen2 || tensors_.contains(hf(layer, "self_attn.q_proj.bias"))) {
      add_vector(blk(layer, "attn_q.bias"), hf(layer, "self_attn.q_proj.bias"), q, 0, in_pairs);
      add_vector(blk(layer, "attn_k.bias"), hf(layer, "self_attn.k_proj.bias"), kv, 0, in_pairs);
      add_vector(blk(layer, "attn_v.bias"), hf(layer, "self_attn.v_proj.bias"), kv, 0);
    }
    if (m.family == FolderFamily::qwen3 || m.family == FolderFamily::qwen3_moe ||
        m.family == FolderFamily::gemma3) {
      add_norm(blk(layer, "attn_q_norm.weight"), hf(layer, "self_attn.q_norm"), m.head_dim);
      add_norm(blk(layer, "attn_k_norm.weight"), hf(layer, "self_attn.k_norm"), m.head_dim);
    }
    if (m.family == FolderFamily::gpt_oss) {
      add_vector(blk(layer, "attn_sinks.weight"), hf(layer, "self_attn.sinks"), m.heads, 0);
    }
    add_matrix(blk(layer, "attn_output.weight"), hf(layer, "self_attn.o_proj"), m.hidden, q);
    if (tensors_.contains(hf(layer, "self_attn.o_proj.bias"))) {
      add_vector(blk(layer, "attn_output.bias"), hf(layer, "self_attn.o_proj.bias"), m.hidden, 0);
    }
  }

  void add_latent_attention(int layer) {
    const FolderModel& m = model_;
    const FolderLatent& l = *m.latent;
    const int64_t queries = int64_t{m.heads} * (l.nope_dim + l.rope_dim);
    if (l.query_rank > 0) {
      add_matrix(blk(layer, "attn_q_a.weight"), hf(layer, "self_attn.q_a_proj"), l.query_rank,
                 m.hidden);
      add_norm(blk(layer, "attn_q_a_norm.weight"), hf(layer, "self_attn.q_a_layernorm"),
               l.query_rank);
      add_matrix(blk(layer, "attn_q_b.weight"), hf(layer, "self_attn.q_b_proj"), queries,
                 l.query_rank);
    } else {
      add_matrix(blk(layer, "attn_q.weight"), hf(layer, "self_attn.q_proj"), queries, m.hidden);
    }
    add_matrix(blk(layer, "attn_kv_a_mqa.weight"), hf(layer, "self_attn.kv_a_proj_with_mqa"),
               l.rank + l.rope_dim, m.hidden);
    add_norm(blk(layer, "attn_kv_a_norm.weight"), hf(layer, "self_attn.kv_a_layernorm"), l.rank);
    add_split(layer);
    add_matrix(blk(layer, "attn_output.weight"), hf(layer, "self_attn.o_proj"), m.hidden,
               int64_t{m.heads} * l.value_dim);
  }

  // kv_b is [heads, nope + value, rank]; its upper part is wanted turned, [heads, rank, nope].
  void add_split(int layer) {
    const FolderLatent& l = *model_.latent;
    const int64_t heads = model_.heads, nope = l.nope_dim, value = l.value_dim, rank = l.rank;
    const Matrix both =
        tensors_.matrix(hf(layer, "self_attn.kv_b_proj"), heads * (nope + value), rank, scheme_);
    // A block's scale belongs to columns, which lie in as many rows once they are turned.
    const DType dtype = is_quantized(both->dtype()) ? DType::f16 : both->dtype();
    GgufPart keys{
        .name = blk(layer, "attn_k_b.weight"), .dtype = dtype, .shape = Shape{heads, rank, nope}};
    keys.release = [shards = shards_, both] {
      for (const FolderTensor* tensor : both->parts()) shards->advise(*tensor, Access::done);
    };
    keys.make = [shards = shards_, both, dtype, nope, value, rank](int64_t first, int64_t rows,
                                                                   std::span<std::byte> out) {
      const auto element = static_cast<size_t>(traits(dtype).block_bytes);
      const size_t row_size = static_cast<size_t>(rank) * element;
      std::vector<std::byte> head(static_cast<size_t>(nope) * row_size);
      std::vector<int64_t> wanted(static_cast<size_t>(nope));
      int64_t loaded = -1;
      std::byte* to = out.data();
      for (int64_t row = first; row < first + rows; ++row) {
        if (row / rank != loaded) {
          loaded = row / rank;
          for (int64_t n = 0; n < nope; ++n) {
            wanted[static_cast<size_t>(n)] = loaded * (nope + value) + n;
          }
          both->write_as(dtype, wanted, head.data());
        }
        const std::byte* from = head.data() + static_cast<size_t>(row % rank) * element;
        for (int64_t n = 0; n < nope; ++n) {
          std::memcpy(to, from + static_cast<size_t>(n) * row_size, element);
          to += element;
        }
      }
    };
    parts_.push_back(std::move(keys));
    parts_.push_back(gathered(
        blk(layer, "attn_v_b.weight"), Shape{heads, value, rank}, {both}, both->dtype(),
        [nope, value](int64_t row) {
          return std::pair<size_t, int64_t>(0, row / value * (nope + value) + nope + row % value);
        },
        shards_));
  }

  // `ending` stands behind the names: "_shexp".
  void add_gated(int layer, const std::string& module, std::string_view ending, int64_t inner) {
    const auto role = [&](std::string_view name) {
      return blk(layer, fmt::format("ffn_{}{}.weight", name, ending));
    };
    add_matrix(role("gate"), hf(layer, module + ".gate_proj"), inner, model_.hidden);
    add_matrix(role("up"), hf(layer, module + ".up_proj"), inner, model_.hidden);
    add_matrix(role("down"), hf(layer, module + ".down_proj"), model_.hidden, inner);
  }

  void add_experts(int layer) {
    const FolderExperts& e = *model_.experts;
    const bool is_mixtral = model_.family == FolderFamily::mixtral;
    const std::string module = is_mixtral ? "block_sparse_moe" : "mlp";
    const std::string router = hf(layer, module + ".gate");
    // Small, and an error in it chooses other experts.
    add_floats(blk(layer, "ffn_gate_inp.weight"), router, e.count, model_.hidden);
    add_joined(layer, "gate", module, is_mixtral ? "w1" : "gate_proj", e.feed_forward,
               model_.hidden);
    add_joined(layer, "up", module, is_mixtral ? "w3" : "up_proj", e.feed_forward, model_.hidden);
    add_joined(layer, "down", module, is_mixtral ? "w2" : "down_proj", model_.hidden,
               e.feed_forward);
    if (model_.family == FolderFamily::deepseek_v3) {
      add_vector(blk(layer, "exp_probs_b.bias"), router + ".e_score_correction_bias", e.count, 0);
    }
    if (e.shared > 0) {
      add_gated(layer, "mlp.shared_experts", "_shexp", int64_t{e.shared} * e.feed_forward);
    }
  }

  // gpt-oss: experts in one tensor, rows of gate and up in turn, and a bias for each row.
  void add_merged_experts(int layer) {
    const int64_t experts = model_.experts->count, inner = model_.experts->feed_forward;
    const int64_t hidden = model_.hidden;
    const std::string router = hf(layer, "mlp.router");
    add_floats(blk(layer, "ffn_gate_inp.weight"), router, experts, hidden);
    add_vector(blk(layer, "ffn_gate_inp.bias"), router + ".bias", experts, 0);
    const std::string both = hf(layer, "mlp.experts.gate_up_proj");
    const std::string down = hf(layer, "mlp.experts.down_proj");
    const Matrix both_rows =
        stored_experts(tensors_, both, experts, 2 * inner, hidden, scheme_);
    add_every(blk(layer, "ffn_gate_exps"), both_rows, both + "_bias", inner, hidden, 2, 0);
    add_every(blk(layer, "ffn_up_exps"), both_rows, both + "_bias", inner, hidden, 2, 1);
    add_every(blk(layer, "ffn_down_exps"),
              stored_experts(tensors_, down, experts, hidden, inner, scheme_), down + "_bias",
              hidden, inner, 1, 0);
  }

  // Of all experts' rows every `step`th from `first` on, `rows` of each expert, and their biases.
  void add_every(const std::string& name, const Matrix& matrix, const std::string& bias,
                 int64_t rows, int64_t columns, int64_t step, int64_t first) {
    const int64_t experts = model_.experts->count;
    parts_.push_back(gathered(
        name + ".weight", Shape{experts, rows, columns}, {matrix}, matrix->dtype(),
        [step, first](int64_t row) { return std::pair<size_t, int64_t>(0, row * step + first); },
        shards_));
    const FolderTensor& biases =
        tensors_.take(bias, {"F32", "F16", "BF16"}, Shape{experts, rows * step});
    parts_.push_back({.name = name + ".bias",
                      .dtype = DType::f32,
                      .shape = Shape{experts, rows},
                      .make = [shards = shards_, &biases, rows, step, first](
                                  int64_t from, int64_t count, std::span<std::byte> out) {
                        for (int64_t i = 0; i < count * rows; ++i) {
                          const float value = float_at(biases, (from * rows + i) * step + first);
                          std::memcpy(out.data() + i * 4, &value, sizeof(value));
                        }
                      }});
  }

  void add_joined(int layer, std::string_view role, const std::string& module,
                  std::string_view linear, int64_t rows, int64_t columns) {
    std::vector<Matrix> matrices;
    for (int expert = 0; expert < model_.experts->count; ++expert) {
      const std::string name = fmt::format("{}.experts.{}.{}", module, expert, linear);
      matrices.push_back(tensors_.matrix(hf(layer, name), rows, columns, scheme_));
    }
    const Shape shape{static_cast<int64_t>(matrices.size()), rows, columns};
    const DType dtype = common_dtype(matrices);
    parts_.push_back(gathered(
        blk(layer, fmt::format("ffn_{}_exps.weight", role)), shape, std::move(matrices), dtype,
        [rows](int64_t row) {
          return std::pair<size_t, int64_t>(static_cast<size_t>(row / rows), row % rows);
        },
        shards_));
  }

  void add_matrix(std::string name, const std::string& module, int64_t rows, int64_t columns,
                  bool in_pairs = false) {
    Matrix matrix = tensors_.matrix(module, rows, columns, scheme_);
    const Shape shape{rows, columns};
    const DType dtype = matrix->dtype();
    const std::span<const std::byte> bytes = matrix->parts().front()->bytes;
    const bool is_as_stored = !is_quantized(dtype) && matrix->parts().size() == 1;
    if (is_as_stored && !in_pairs) {
      parts_.push_back({.name = std::move(name), .dtype = dtype, .shape = shape, .bytes = bytes});
      return;
    }
    const int64_t dim = in_pairs ? model_.head_dim : 1;
    parts_.push_back(gathered(
        std::move(name), shape, {std::move(matrix)}, dtype,
        [dim](int64_t row) { return std::pair<size_t, int64_t>(0, half_of(row, dim)); }, shards_));
  }

  // Where row 2i + t of a head stands when halves come one after the other; `row` where dim is 1.
  static int64_t half_of(int64_t row, int64_t dim) {
    const int64_t in_head = row % dim;
    return row - in_head + in_head % 2 * (dim / 2) + in_head / 2;
  }

  // A matrix that is kept as F32 whatever the folder has.
  void add_floats(std::string name, const std::string& module, int64_t rows, int64_t columns) {
    Matrix matrix = tensors_.matrix(module, rows, columns, scheme_);
    parts_.push_back(gathered(
        std::move(name), Shape{rows, columns}, {std::move(matrix)}, DType::f32,
        [](int64_t row) { return std::pair<size_t, int64_t>(0, row); }, shards_));
  }

  // Gemma's norms multiply by one more than what is stored.
  void add_norm(std::string name, const std::string& module, int64_t size) {
    add_vector(std::move(name), module + ".weight", size,
               model_.family == FolderFamily::gemma3 ? 1.0f : 0.0f);
  }

  void add_vector(std::string name, const std::string& from, int64_t size, float added,
                  bool in_pairs = false) {
    const FolderTensor& tensor = tensors_.take(from, {"F32", "F16", "BF16"}, Shape{size});
    GgufPart part{.name = std::move(name), .dtype = DType::f32, .shape = Shape{size}};
    const int64_t dim = in_pairs ? model_.head_dim : 1;
    if (tensor.type == "F32" && added == 0 && !in_pairs) {
      part.bytes = tensor.bytes;
    } else {
      part.make = [shards = shards_, &tensor, added, dim, size](int64_t, int64_t,
                                                                std::span<std::byte> out) {
        for (int64_t i = 0; i < size; ++i) {
          const float value = float_at(tensor, half_of(i, dim)) + added;
          std::memcpy(out.data() + i * 4, &value, sizeof(value));
        }
      };
    }
    parts_.push_back(std::move(part));
  }

  void add_divisors() {
    const std::vector<float>& divisors = model_.rope_divisors;
    parts_.push_back({.name = "rope_freqs.weight",
                      .dtype = DType::f32,
                      .shape = Shape{static_cast<int64_t>(divisors.size())},
                      .make = [divisors](int64_t, int64_t, std::span<std::byte> out) {
                        std::memcpy(out.data(), divisors.data(), out.size());
                      }});
  }

  void refuse_unused() const {
    const auto may_stay = [&](std::string_view name) {
      if (name == "lm_head.weight") return model_.has_tied_embeddings;
      if (name.ends_with(".rotary_emb.inv_freq")) return true;  // which config.json says again
      // Of activations and caches, which are not quantised by these scales here.
      for (const char* scale : {".input_scale", ".k_scale", ".v_scale"}) {
        if (name.ends_with(scale)) return true;
      }
      for (int layer = model_.kept_guessing_layers; layer < model_.guessing_layers; ++layer) {
        if (name.starts_with(hf(model_.layers + layer, ""))) return true;
      }
      return false;
    };
    const FolderTensor* unused = tensors_.first_unused(may_stay);
    if (unused == nullptr) return;
    throw Error(ErrorCode::unsupported,
                fmt::format("{} ({} of shape {}): the architecture '{}' has no use for it in this "
                            "build",
                            tensors_.label(*unused), unused->type, to_string(unused->shape),
                            model_.architecture));
  }

  std::shared_ptr<const FolderShards> shards_;
  FolderTensors tensors_;
  const FolderModel& model_;
  const StoredScheme& scheme_;
  std::vector<GgufPart> parts_;
};

}  // namespace

int guessing_layers_in(const FolderShards& shards, const FolderModel& model) {
  int layers = 0;
  while (layers < model.guessing_layers &&
         has_module(shards, layer_name(model.layers + layers, "eh_proj"))) {
    ++layers;
  }
  return layers;
}

std::vector<GgufPart> folder_tensors(std::shared_ptr<const FolderShards> shards,
                                     const FolderModel& model, const StoredScheme& scheme) {
  return FolderPlan(std::move(shards), model, scheme).run();
}

}  // namespace ridge::format
