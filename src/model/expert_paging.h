#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "backend/device.h"
#include "format/gguf.h"
#include "model/config.h"
#include "model/decoder_tensors.h"

namespace ridge::model {

struct PagingOptions {
  // Memory for experts; without it, all are held where the model fits in the free memory, and else
  // half of what the other weights leave of it is for them.
  std::optional<uint64_t> expert_bytes;
  uint64_t free_bytes = 0;  // 0: what the system says (base/machine_memory.h)
};

// A model of experts that do not all stay in memory.
struct PagedExperts {
  bool is_chosen = false;  // by who uses it, and not because the model does not fit
  int experts = 0;         // of a layer
  int held = 0;            // of these, at once
  int used = 0;            // by a token
  uint64_t expert_bytes = 0;  // of memory, for one expert of each layer
  uint64_t held_bytes = 0;    // likewise, for those held
  uint64_t dense_bytes = 0;  // of memory for all other weights
  uint64_t file_bytes = 0;   // of all experts in the file
  uint64_t token_bytes = 0;  // that a token reads of the file where none of its experts is held
  double read_bytes_per_second = 0;  // of the file, measured; 0: not known
  double packed_bytes_per_second = 0;  // that the device lays out of what was read; likewise

  // That a token reads where all experts are used alike.
  double even_token_bytes() const {
    return static_cast<double>(token_bytes) * (experts - held) / experts;
  }
  // How many tokens a second the slower of the two leaves, as they go on side by side. 0 where
  // neither speed is known.
  double even_tokens_per_second() const;
};

// For who starts the model: what is held, what a token reads, and what speed that leaves.
std::string summary(const PagedExperts& paged);

// Decides whether experts are paged, and marks their sources so. nullopt: all weights are held. The
// file must outlive the weights. Throws out_of_memory, naming the first tensor of those that every
// token needs that does not fit, or where the memory asked for is not there; unsupported where
// memory for experts was given and the device pages none.
std::optional<PagedExperts> page_experts(const format::GgufFile& file,
                                         backend::Device& device, const ModelConfig& config,
                                         const PagingOptions& options, DecoderTensors& tensors);

}  // namespace ridge::model
