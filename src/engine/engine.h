#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/device_options.h"
#include "base/clock.h"
#include "base/strong_id.h"
#include "engine/admission.h"
#include "engine/histogram.h"
#include "engine/request.h"
#include "tensor/dtype.h"

namespace ridge::backend {
class PreparedStore;
}  // namespace ridge::backend

namespace ridge::text {
class Tokenizer;
class ChatTemplate;
}  // namespace ridge::text

namespace ridge::engine {

class Residency;

using RequestId = StrongId<struct RequestTag, uint64_t>;

// A LoRA adapter that requests may name.
struct AdapterOptions {
  std::string name;
  std::filesystem::path path;  // as model::read_adapter
  float scale = 1;             // times the adapter's own
};

struct EngineOptions {
  std::string device = "auto";                               // as backend::open_device
  int threads = 0;                                           // 0: as many as this process may use
  std::string isa;                                           // "": the best that the machine has
  backend::Toggle pin_threads = backend::Toggle::automatic;  // as backend::DeviceOptions
  backend::Toggle huge_pages = backend::Toggle::automatic;
  std::optional<bool> mixed_precision;  // as model::ModelOptions
  std::optional<uint64_t> expert_bytes;  // as model::PagingOptions
  int context_tokens = 0;        // per sequence; 0: the model's own, at most 32768 by default
  uint64_t kv_cache_bytes = 0;   // 0: chosen from free memory and the context
  std::optional<DType> kv_dtype;  // as LoadedModel::kv_dtype; ranks keep float16 unless asked
  bool prefix_cache = true;      // as StepLoopOptions
  bool speculation = true;       // likewise
  bool batch_invariant = false;  // as backend::StepLimits: answers do not depend on other requests
  bool mtp = true;               // a model's layer for multi-token prediction guesses, if it has one
  std::filesystem::path draft_model;  // a small model of the same vocabulary that guesses; or ""
  std::vector<AdapterOptions> adapters;
  double itl_target_ms = 150;   // likewise
  uint64_t kv_spill_bytes = 0;  // of blocks that the prefix cache has no room for; 0: they are lost
  std::filesystem::path kv_spill_folder;  // "": in memory
  int max_sequences = 16;                 // running at once
  int max_queued = 256;                   // waiting at most; then queue_full
  int step_tokens = 512;                  // token budget of one step
  // Called while weights load, on the thread that calls `start`; may be empty.
  std::function<void(int64_t done_bytes, int64_t total_bytes)> load_progress;
  std::shared_ptr<backend::PreparedStore> prepared;  // as LoadOptions
};

// Of one adapter.
struct AdapterRequests {
  int running = 0;  // that were begun
  int waiting = 0;
};

struct EngineStats {
  bool is_loaded = true;    // its weights are in memory
  bool is_loading = false;  // so that what waits waits for the model, and not for a step
  int running = 0;
  int waiting = 0;
  int foreground = 0;    // requests that run or wait and are not background_priority's
  std::vector<AdapterRequests> adapters;  // by their number, as far as any has a request
  int block_tokens = 0;  // of one block of the KV cache
  int blocks_total = 0;
  int blocks_free = 0;     // those that only the prefix cache holds among them
  int blocks_cached = 0;   // that the prefix cache holds, others perhaps too
  int blocks_spilled = 0;  // kept in memory or on disk, outside of the device
  uint64_t prompt_tokens_total = 0;
  uint64_t generated_tokens_total = 0;
  uint64_t steps_total = 0;
  uint64_t finished_total = 0;
  uint64_t queried_tokens_total = 0;  // of prompts that began to be computed
  uint64_t cached_tokens_total = 0;   // of prompts, that were not computed again
  uint64_t preemptions_total = 0;
  uint64_t blocks_spilled_total = 0;   // whose content was kept outside of the device
  uint64_t blocks_restored_total = 0;  // of these, that came back to serve a request
  uint64_t drafts_total = 0;           // times that guesses for a choice were checked
  uint64_t draft_tokens_total = 0;     // those guesses
  uint64_t accepted_tokens_total = 0;  // those that were right
  uint64_t expert_held_bytes = 0;  // of experts that are held while others stay in the file
  uint64_t expert_hits_total = 0;  // as backend::ExpertCounters, likewise
  uint64_t expert_misses_total = 0;
  uint64_t expert_read_bytes_total = 0;
  std::array<uint64_t, finish_reasons> choices_by_reason{};  // ended ones, by FinishReason
  StepTokensHistogram step_tokens;                           // of each forward pass
  LatencyHistogram queue;                                    // submission to the first step
  LatencyHistogram first_token;                              // submission to the first token
  LatencyHistogram inter_token;  // between two steps that gave one choice tokens
  LatencyHistogram end_to_end;   // submission to the end

  // Of the request's adapter, if it has one; null otherwise.
  AdapterRequests* of_adapter(const Request& request) {
    if (request.adapter < 0) return nullptr;
    const auto number = static_cast<size_t>(request.adapter);
    if (adapters.size() <= number) adapters.resize(number + 1);
    return &adapters[number];
  }
  // Counts one that no loop has taken over yet.
  void add_waiting(const Request& request) {
    ++waiting;
    foreground += is_foreground(request);
    if (AdapterRequests* const adapter = of_adapter(request)) ++adapter->waiting;
  }
};

struct AdapterInfo {
  std::string name;
  uint64_t bytes = 0;  // of its weights
  float scale = 1;
};

struct ModelInfo {
  std::string architecture;  // "llama"
  std::string name;          // as the file says
  uint64_t parameters = 0;
  uint64_t file_bytes = 0;
  int context_tokens = 0;  // what this engine serves
  int trained_context_tokens = 0;
  int vocab_size = 0;
  int hidden_size = 0;       // of a hidden state, and so of an embedding
  std::string quantization;  // "Q4_K_M", as the file says; "" where that is not known
  double load_ms = 0;
  std::vector<AdapterInfo> adapters;  // as EngineOptions
};

// Whose wish something is that all who use a model notice.
enum class WhoAsks : uint8_t { administrator, caller };

// One loaded model on one device, serving many requests from a thread of its own.
// All methods may be called from any thread.
class Engine {
 public:
  // Loads the file and its adapters, and starts. Throws invalid_file, unsupported, out_of_memory.
  static std::unique_ptr<Engine> start(const std::filesystem::path& model,
                                       const EngineOptions& options);
  // The same, but the weights are loaded when a request comes and unloaded as the residency
  // decides. Reads the text side at once, and throws what can be known from it. Without
  // kv_cache_bytes, the cache holds two full contexts.
  static std::unique_ptr<Engine> on_demand(const std::filesystem::path& model,
                                           const EngineOptions& options, Residency& residency,
                                           bool is_pinned);
  virtual ~Engine() = default;

  virtual const ModelInfo& model_info() const = 0;
  virtual const text::Tokenizer& tokenizer() const = 0;
  virtual const text::ChatTemplate& chat_template() const = 0;

  // Checks the request (invalid_argument, context_length), then queues it (queue_full, unavailable
  // while draining). After a throw the listener is never called.
  virtual RequestId submit(Request request, RequestListener listener) = 0;
  // The request ends as cancelled and frees its blocks within two steps; unknown ids are ignored.
  virtual void cancel(RequestId id) = 0;

  // "Answer now": thinking that goes on is ended as a spent budget ends it; unknown ids are
  // ignored.
  virtual void end_thinking(RequestId id) = 0;

  // How long the weights stay in memory from their last use on, where they come and go: none
  // unloads them as soon as they are idle, a negative time keeps them until others need the room.
  // A caller's wish moves within what is set for all (ResidencyOptions::sleep_after): it keeps them
  // no longer, lets them go no sooner than after a minute of it, and undoes no administrator's,
  // which holds until they are unloaded. Without effect on an engine that is loaded for good.
  virtual void keep_loaded(Clock::Duration /*unused_for*/, WhoAsks /*who*/) {}

  virtual EngineStats stats() const = 0;
  // What counts towards the line that `submit` refuses to make longer. Where nothing is submitted,
  // it only grows shorter.
  virtual WaitingCounts waiting() const { return {}; }
  // Admits no more; returns when all requests have ended or the deadline has passed,
  // cancelling the rest.
  virtual void drain(Clock::Duration deadline) = 0;
};

}  // namespace ridge::engine
