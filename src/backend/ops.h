#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "backend/device.h"
#include "backend/precision.h"

// Every op of the contract, as plain data. T is the step's tokens, R its outputs, S its sequences.
// Values are row-major [rows, columns]; a column slice keeps its parent's row stride.
namespace ridge::backend {

// Which count of StepShape gives a value its rows.
enum class Rows : uint8_t { tokens, outputs };

// A column range of a recorded activation.
struct Value {
  int storage = -1;  // index into Recording::storages
  int column = 0;    // first column
  int columns = 0;

  bool valid() const { return storage >= 0; }
  // Columns [first, first + count) of this value.
  Value slice(int first, int count) const { return {storage, column + first, count}; }
};

// Storage of one activation, [rows, columns].
struct Storage {
  Rows rows = Rows::tokens;
  int columns = 0;
  DType dtype = DType::f32;
};

// Device buffers of fixed address that the engine fills before each replay; all int32.
struct StepBuffers {
  Buffer* token_ids = nullptr;        // [T]
  Buffer* positions = nullptr;        // [T], from 0 within each sequence
  Buffer* slots = nullptr;            // [T], where the token's key and value go
  Buffer* query_starts = nullptr;     // [S + 1], first token of each sequence; the last is T
  Buffer* context_lengths = nullptr;  // [S], tokens in the cache once this step's are stored
  Buffer* block_tables = nullptr;     // [S, max_blocks_per_sequence], block numbers in order
  Buffer* output_rows = nullptr;      // [R], token rows in ascending order
  Buffer* adapter_of_row = nullptr;   // [T], -1 for none
  Buffer* block_copies = nullptr;     // [copies, 2], from and to
};

struct StepLimits {
  int tokens = 0;
  int sequences = 0;
  int outputs = 0;
  int blocks_per_sequence = 0;
  int block_copies = 0;
  // What a step computes for a token depends, to the last bit, on the token's own sequence alone: not
  // on what else is in the step, nor on the chunks in which its context was computed.
  bool batch_invariant = false;
};

// out[t] = table[ids[t]], dequantised.
struct Embed {
  const Weight* table;  // [vocab, H]
  Value out;            // [T, H]
};

// out = x / sqrt(mean(x²) + eps) · weight. Zhang & Sennrich 2019. Where the weight has D of x's H
// columns, each run of D is normed by itself, as Qwen3 norms the heads of queries and keys.
struct RmsNorm {
  Value x;               // [rows, H]
  const Weight* weight;  // [D], D divides H
  float eps;
  Value out;  // [rows, H]
};

// residual += x; out = rms_norm(residual).
struct AddRmsNorm {
  Value x;         // [rows, H]
  Value residual;  // [rows, H], updated
  const Weight* weight;
  float eps;
  Value out;
};

// Per row: scale = max|x| / 127, codes = round(x / scale) to nearest even.
struct QuantizeRows {
  Value x;       // [rows, K]
  Value codes;   // [rows, K] i8
  Value scales;  // [rows, 1] f32
};

// out = x Wᵀ + bias.
struct Linear {
  Value x;  // [rows, K]
  const Weight* weight;
  const Weight* bias;  // [N] or nullptr
  Precision precision;
  Value out;  // [rows, N]
};

// For each head h: out[:, h] = x[:, h] W[h]ᵀ; W is prepared with rank 3.
struct HeadLinear {
  Value x;  // [T, heads · K]
  const Weight* weight;
  Precision precision;
  Value out;  // [T, heads · N]
};

struct Adapter {
  const Weight* down = nullptr;  // A[r, K]; nullptr: this adapter leaves the linear as it is
  const Weight* up = nullptr;    // B[N, r]
  float scale = 1.0f;            // alpha / r
};

// out[i] += scale · B(A x[i]) for the adapter of row i, which for rows of outputs is that of the
// token row they were gathered from. Hu et al. 2021.
struct LoraLinear {
  Value x;  // [rows, K]
  std::vector<Adapter> adapters;
  Value out;  // [rows, N], updated
};

enum class Activation : uint8_t {
  silu,         // SwiGLU: silu(gate) · up
  gelu_tanh,    // GeGLU, tanh form
  swiglu_oai,   // gpt-oss: gate ≤ 7, up in [-7, 7]; gate · σ(1.702 gate) · (up + 1)
};

// x holds gate in its first F columns and up in the rest; or `groups` such runs of 2F columns, as
// an expert_linear of merged gate and up gives them for each token's experts.
struct GatedActivation {
  Value x;  // [T, groups · 2F]
  Activation kind;
  int groups;
  Value out;  // [T, groups · F]
};

enum class RopePairs : uint8_t {
  interleaved,  // (2i, 2i + 1), as GGUF's llama files
  neox,         // (i, i + dim/2), as GGUF's qwen2 files
};

// Angle of pair i at position p: p · inverse_frequencies[i]; sin and cos times `magnitude`.
// Llama 3 and YaRN scaling are in the frequencies (see model/rope.h).
struct RopeTable {
  std::vector<float> inverse_frequencies;  // [rotary_dim / 2]
  float magnitude = 1.0f;
  RopePairs pairs = RopePairs::neox;
};

// Rotates the first rotary_dim dimensions of every head of q and k in place.
struct Rope {
  Value q;  // [T, heads · head_dim]
  Value k;  // [T, kv_heads · head_dim]; may be invalid
  int head_dim;
  RopeTable table;
};

// cache[slots[t]] = k[t], v[t], rounded to the cache's dtype.
struct StoreKv {
  Value k;  // [T, kv_heads · key_dim]
  Value v;  // [T, kv_heads · value_dim]
  KvCache* cache;
  int layer;
};

// cache[slots[t]] = latent[t], rotary_key[t].
struct StoreLatent {
  Value latent;      // [T, value_dim]
  Value rotary_key;  // [T, key_dim]
  KvCache* cache;
  int layer;
};

// Causal attention of each sequence's tokens over its cached context, this step's included.
// score = scale · q·k, soft-capped, masked outside the window, softmax with optional sinks.
struct Attention {
  Value q;  // [T, heads · key_dim]
  KvCache* cache;
  int layer;
  int heads;
  float scale;
  int window = 0;                 // keys seen, the token itself included; 0: all
  float soft_cap = 0.0f;          // c · tanh(score / c); 0: none
  const Weight* sinks = nullptr;  // [heads] logits that only add to the softmax's sum
  Value out;                      // [T, heads · value_dim]
};

// score = scale · (q_latent·c + q_rope·k_rope); out = Σ p c. DeepSeek-V2, arXiv 2405.04434.
struct MlaAttention {
  Value q_latent;  // [T, heads · value_dim]
  Value q_rope;    // [T, heads · key_dim]
  KvCache* cache;
  int layer;
  int heads;
  float scale;
  Value out;  // [T, heads · value_dim]
};

struct Router {
  enum class Scoring : uint8_t { softmax, sigmoid };
  Scoring scoring = Scoring::softmax;
  int experts = 0;
  int top_k = 0;
  int groups = 1;        // experts are split into equal groups, of which the best are kept: of sigmoids
  int top_groups = 1;    // by the sum of their two best scores (V3), of softmaxes by their best (V2)
  bool normalize = false;
  float scale = 1.0f;
  const Weight* selection_bias = nullptr;  // [experts]; steers the choice, not the weights
};

// The experts of each token and their weights. DeepSeek-V3, arXiv 2412.19437, equations 12 to 16.
struct Route {
  Value logits;  // [T, experts]
  Router router;
  Value ids;      // [T, top_k] i32
  Value weights;  // [T, top_k] f32
};

// For every token t and choice j with e = ids[t, j]: out[t, j] = W[e] x_j + b[e], where x_j is x[t]
// (x has K columns) or x[t, j] (top_k · K columns). With `weights`, Σ_j weights[t, j] · out is
// stored instead, [T, N].
struct ExpertLinear {
  Value x;
  const Weight* weight;  // [E, N, K]
  Value ids;             // [T, top_k] i32
  Value weights;         // [T, top_k], may be invalid
  const Weight* bias;    // [E · N] or nullptr
  Precision precision;
  Value out;  // [T, top_k · N] or [T, N]
};

struct Add {
  Value a;
  Value b;
  Value out;  // a + b
};

struct Scale {
  Value x;
  float factor;
  Value out;
};

// out[r] = x[output_rows[r]].
struct GatherRows {
  Value x;    // [T, H]
  Value out;  // [R, H]
};

// For each pair of StepBuffers::block_copies: cache[to] = cache[from], all layers.
struct CopyBlocks {
  KvCache* cache;
};

// The k largest logits of each row, descending; ties to the smaller id.
struct TopK {
  Value logits;  // [R, V]
  int k;
  Value values;  // [R, k]
  Value ids;     // [R, k] i32
};

// ids[r] = the largest logit (greedy). Device sampling under temperature comes with the devices that
// need it; on a CPU, rows come to the host.
struct Sample {
  Value logits;  // [R, V]
  Value ids;     // [R, 1] i32
};

enum class Reduction : uint8_t { all_reduce, all_gather, all_to_all };

// Over the ranks of the device's communicator; identity on one rank.
struct Communicate {
  Reduction kind;
  Value x;
  Value out;
  // all_gather: columns of each rank's part. x holds `groups` runs of this rank's, and out as many
  // runs of all ranks' parts side by side.
  std::vector<int> columns_of_rank;
  int groups = 1;
};

using Op = std::variant<Embed, RmsNorm, AddRmsNorm, QuantizeRows, Linear, HeadLinear, LoraLinear,
                        GatedActivation, Rope, StoreKv, StoreLatent, Attention, MlaAttention, Route,
                        ExpertLinear, Add, Scale, GatherRows, CopyBlocks, TopK, Sample, Communicate>;

// As in DESIGN: "rms_norm".
std::string_view name(const Op& op);

// The calls of one step in order, ready for Device::compile.
struct Recording {
  StepLimits limits;
  StepBuffers inputs;
  std::vector<Storage> storages;
  std::vector<Op> ops;
  std::vector<Value> given;  // that the host fills before a run
  std::vector<Value> outputs;
};

}  // namespace ridge::backend
