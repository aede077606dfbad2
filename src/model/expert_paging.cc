#include "model/expert_paging.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/error.h"
#include "base/machine_memory.h"

namespace ridge::model {

namespace {

using backend::WeightSource;
using backend::WeightUse;

std::string gigabytes(uint64_t bytes) {
  return bytes < 1'000'000'000 ? fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6)
                               : fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

std::vector<WeightSource*> expert_sources(DecoderTensors& tensors) {
  std::vector<WeightSource*> sources;
  const auto add = [&](LayerTensors& layer) {
    if (!layer.router) return;
    sources.push_back(&layer.gate_up);
    sources.push_back(&layer.down);
  };
  for (LayerTensors& layer : tensors.layers) add(layer);
  if (tensors.guessing) add(tensors.guessing->layer);
  return sources;
}

// Of memory that a weight takes beside the file.
uint64_t memory_bytes(const backend::Device& device, const WeightSource& source) {
  uint64_t elements = 0;
  for (const TensorView& segment : source.segments) {
    elements += static_cast<uint64_t>(segment.shape.elements());
  }
  if (source.transposed || has_use(source.use, WeightUse::vector)) return elements * sizeof(float);
  return device.prepared_bytes(source);
}

// Of all weights that no expert has. Throws out_of_memory, naming the first that is too much.
uint64_t dense_bytes(const backend::Device& device, const DecoderTensors& tensors,
                     const std::vector<WeightSource*>& experts, uint64_t free_bytes) {
  uint64_t bytes = 0;
  for_each_source(tensors, [&](const WeightSource& source) {
    if (std::ranges::find(experts, &source) != experts.end()) return;
    const uint64_t own = memory_bytes(device, source);
    bytes += own;
    if (bytes <= free_bytes) return;
    throw Error(ErrorCode::out_of_memory,
                fmt::format("{} does not fit in memory: with the weights before it, it takes {}, and {} "
                            "are free. Experts can stay in the file, but this is read for each token",
                            source.name, gigabytes(bytes), gigabytes(free_bytes)));
  });
  return bytes;
}

// Some megabytes from places all over the experts, read as experts are: asked for all at once, and
// then laid out. What the system had of them in memory is given up before, so that it is the disk
// that is measured.
void measure_speeds(const format::GgufFile& file, const std::vector<WeightSource*>& experts,
                    backend::Device& device, PagedExperts& paged) {
  constexpr size_t pieces = 24;
  constexpr uint64_t most_bytes = 2 << 20;
  std::vector<TensorView> views;
  uint64_t bytes = 0;
  for (size_t i = 0; i < pieces; ++i) {
    const WeightSource& source = *experts[i * experts.size() / pieces];
    const TensorView& segment = source.segments[i % source.segments.size()];
    const auto row = static_cast<int64_t>(row_bytes(segment.dtype, segment.shape.columns()));
    const int64_t rows =
        std::clamp<int64_t>(static_cast<int64_t>(most_bytes) / row, 1, segment.shape.rows());
    // Another place in each weight.
    const int64_t first = (segment.shape.rows() - rows) * static_cast<int64_t>(i % 7) / 7;
    views.push_back({segment.dtype, Shape{rows, segment.shape.columns()},
                     segment.bytes.subspan(static_cast<size_t>(first * row),
                                           static_cast<size_t>(rows * row))});
    bytes += views.back().bytes.size();
  }
  for (const TensorView& view : views) file.advise(view, format::Access::forget);
  const auto start = std::chrono::steady_clock::now();
  for (const TensorView& view : views) file.advise(view, format::Access::will_need);
  for (const TensorView& view : views) {
    file.ready(view);
    const volatile std::byte* bytes = view.bytes.data();
    for (size_t at = 0; at < view.bytes.size(); at += 4096) static_cast<void>(bytes[at]);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (seconds > 0) paged.read_bytes_per_second = static_cast<double>(bytes) / seconds;
  paged.packed_bytes_per_second = device.measure_paging(views);
  for (const TensorView& view : views) file.advise(view, format::Access::done);
}

}  // namespace

double PagedExperts::even_tokens_per_second() const {
  double slower = read_bytes_per_second;
  if (slower <= 0 || (packed_bytes_per_second > 0 && packed_bytes_per_second < slower)) {
    slower = packed_bytes_per_second;
  }
  return even_token_bytes() > 0 ? slower / even_token_bytes() : 0;
}

std::string summary(const PagedExperts& paged) {
  std::string text = fmt::format(
      "{} of {} experts of each layer are held in {}, beside {} of other weights; the others are read "
      "from the file ({} of experts) when they are used. A token reads {} at most, {} where all are "
      "used alike",
      paged.held, paged.experts, gigabytes(paged.held_bytes), gigabytes(paged.dense_bytes),
      gigabytes(paged.file_bytes), gigabytes(paged.token_bytes),
      gigabytes(static_cast<uint64_t>(paged.even_token_bytes())));
  if (paged.read_bytes_per_second <= 0) return text;
  text += fmt::format(
      ": about {:.2g} tokens/s at the {}/s that the file was just read with",
      paged.even_tokens_per_second(),
      gigabytes(static_cast<uint64_t>(paged.read_bytes_per_second)));
  if (paged.packed_bytes_per_second > 0) {
    text += fmt::format(" and the {}/s that this device lays out what it reads with",
                        gigabytes(static_cast<uint64_t>(paged.packed_bytes_per_second)));
  }
  const bool reading_bounds = paged.packed_bytes_per_second <= 0 ||
                              paged.packed_bytes_per_second > paged.read_bytes_per_second;
  if (reading_bounds) text += "; more where the system still has parts of the file in memory";
  return text;
}

std::optional<PagedExperts> page_experts(const format::GgufFile& file,
                                         backend::Device& device, const ModelConfig& config,
                                         const PagingOptions& options, DecoderTensors& tensors) {
  const std::vector<WeightSource*> experts = expert_sources(tensors);
  if (experts.empty()) return std::nullopt;
  if (!device.pages_experts()) {
    if (!options.expert_bytes) return std::nullopt;
    throw Error(ErrorCode::unsupported,
                fmt::format("memory for experts was set, but {} does not page them; cpu does",
                            device.info().name),
                "expert-memory-mib");
  }
  const uint64_t free_bytes = options.free_bytes > 0 ? options.free_bytes : available_memory_bytes();
  uint64_t all_bytes = 0;  // of memory for all experts
  PagedExperts paged{.is_chosen = options.expert_bytes.has_value(),
                     .experts = config.experts->router.experts,
                     .used = config.experts->router.top_k};
  for (const WeightSource* source : experts) {
    all_bytes += device.prepared_bytes(*source);
    paged.file_bytes += file_bytes(*source);
  }
  paged.dense_bytes = dense_bytes(device, tensors, experts, free_bytes);
  const uint64_t room_bytes = free_bytes - paged.dense_bytes;
  if (!options.expert_bytes && all_bytes <= room_bytes) return std::nullopt;
  // The other half is for the KV cache, activations, and the pages through which experts are read.
  const uint64_t budget_bytes = options.expert_bytes.value_or(room_bytes / 2);
  const auto experts_of_layer = static_cast<uint64_t>(paged.experts);
  paged.expert_bytes = all_bytes / experts_of_layer;
  const uint64_t held = std::min(experts_of_layer, budget_bytes / paged.expert_bytes);
  if (held * paged.expert_bytes > room_bytes) {
    throw Error(ErrorCode::out_of_memory,
                fmt::format("memory for experts was set to {}, but beside the {} of the other weights "
                            "only {} are free",
                            gigabytes(budget_bytes), gigabytes(paged.dense_bytes),
                            gigabytes(room_bytes)),
                "expert-memory-mib");
  }
  if (held == experts_of_layer) return std::nullopt;
  paged.held = static_cast<int>(held);
  paged.held_bytes = held * paged.expert_bytes;
  paged.token_bytes = paged.file_bytes / experts_of_layer * static_cast<uint64_t>(paged.used);
  for (WeightSource* source : experts) {
    // Around a place that is read lie other experts, of which nobody has asked.
    for (const TensorView& segment : source->segments) file.advise(segment, format::Access::random);
    source->paging = backend::ExpertPaging{
        .held = paged.held,
        .will_read = [&file](const TensorView& rows) { file.advise(rows, format::Access::will_need); },
        .fetch = [&file](const TensorView& rows) { file.ready(rows); },
        .release = [&file](const TensorView& rows) { file.advise(rows, format::Access::done); }};
  }
  measure_speeds(file, experts, device, paged);
  return paged;
}

}  // namespace ridge::model
