#include "model/rank_share.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace ridge::model {

namespace {

using backend::RowRange;
using backend::WeightSource;
using backend::WeightUse;

// Of a matrix rows, of stacked matrices some of those, of a vector values: each lies in one piece.
TensorView part_of_view(const TensorView& view, int64_t first, int64_t count) {
  const size_t size = view.bytes.size() / static_cast<size_t>(view.shape[0]);
  Shape shape{count};
  if (view.shape.rank() == 2) shape = Shape{count, view.shape[1]};
  if (view.shape.rank() == 3) shape = Shape{count, view.shape[1], view.shape[2]};
  return {view.dtype, shape,
          view.bytes.subspan(static_cast<size_t>(first) * size, static_cast<size_t>(count) * size)};
}

std::vector<int> parts_of(const char* what, int extent, int ranks) {
  if (extent < ranks) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} ranks cannot share this model: its {} is {}; at most that many can",
                            ranks, what, extent),
                "ranks");
  }
  std::vector<int> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    parts.push_back(static_cast<int>(backend::rows_of_rank(extent, rank, ranks).count));
  }
  return parts;
}

}  // namespace

RankShare::RankShare(const ModelConfig& whole, Rank rank)
    : whole_(whole), rank_(rank), config_(whole) {
  RIDGE_ASSERT(rank.ranks >= 1 && rank.rank >= 0 && rank.rank < rank.ranks);
  const int ranks = rank.ranks;
  const int kv_heads = whole.kv_heads;
  if (ranks > kv_heads && (ranks % kv_heads != 0 || ranks > whole.heads)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} ranks cannot share the {} heads of this model, which has {} KV "
                            "heads: up to {} ranks can, or a multiple of {} up to {}",
                            ranks, whole.heads, kv_heads, kv_heads, kv_heads, whole.heads),
                "ranks");
  }
  for (int r = 0; r < ranks; ++r) attention_.push_back(heads_of(r).count * whole.value_dim);
  hidden_ = parts_of("hidden size", whole.hidden, ranks);
  vocab_ = parts_of("vocabulary", whole.vocab_size, ranks);
  if (!whole.experts || whole.experts->dense_layers > 0) {
    feed_forward_ = parts_of("feed-forward size", whole.feed_forward, ranks);
  }
  if (whole.experts) {
    expert_ = parts_of("experts' feed-forward size", whole.experts->feed_forward, ranks);
    if (const int shared = whole.experts->shared_feed_forward; shared > 0) {
      shared_ = parts_of("shared experts' feed-forward size", shared, ranks);
    }
  }
  const Heads own = heads_of(rank.rank);
  config_.heads = own.count;
  config_.kv_heads = own.kv_count;
  if (!is_whole()) config_.has_tied_embeddings = false;
}

RankShare::Heads RankShare::heads_of(int rank) const {
  const int ranks = rank_.ranks;
  const int kv_heads = whole_.kv_heads;
  const int group = whole_.heads / kv_heads;
  const auto begin = [](int extent, int part, int parts) { return extent * part / parts; };
  if (ranks <= kv_heads) {
    const int first = begin(kv_heads, rank, ranks);
    const int count = begin(kv_heads, rank + 1, ranks) - first;
    return {first * group, count * group, first, count};
  }
  const int sharing = ranks / kv_heads;  // one KV head
  const int kv_head = rank / sharing;
  const int first = begin(group, rank % sharing, sharing);
  return {kv_head * group + first, begin(group, rank % sharing + 1, sharing) - first, kv_head, 1};
}

void RankShare::cut(DecoderTensors& tensors) const {
  if (is_whole()) return;
  if (whole_.has_tied_embeddings) {
    // Rows are gathered from all of it, which lies in the file; the output head is its own.
    tensors.output = tensors.embedding;
    tensors.output->name = "output";
    tensors.output->use = WeightUse::linear;
    tensors.embedding.use = WeightUse::embedding;
  }
  cut_rows(*tensors.output);
  for (LayerTensors& layer : tensors.layers) cut(layer);
  if (tensors.guessing) {
    cut_rows(tensors.guessing->join);
    cut(tensors.guessing->layer);
    if (tensors.guessing->output) cut_rows(*tensors.guessing->output);
  }
  tensors.bytes = 0;
  for_each_source(tensors, [&](const WeightSource& each) { tensors.bytes += file_bytes(each); });
}

void RankShare::cut_rows(WeightSource& source) const {
  if (source.segments.front().shape.rank() == 3) {
    // Rows of each expert, which lie apart: the device cuts them.
    source.shard = {backend::Shard::Axis::rows, rank_.rank, rank_.ranks};
    return;
  }
  for (TensorView& segment : source.segments) {
    const RowRange part = backend::rows_of_rank(segment.shape[0], rank_.rank, rank_.ranks);
    segment = part_of_view(segment, part.first, part.count);
  }
}

void RankShare::cut(LayerTensors& layer) const {
  const Heads own = heads_of(rank_.rank);
  // Queries, keys and values, or their biases.
  const auto cut_heads = [&](WeightSource& source) {
    const int key = whole_.key_dim, value = whole_.value_dim;
    auto& s = source.segments;
    s[0] = part_of_view(s[0], int64_t{own.first} * key, int64_t{own.count} * key);
    s[1] = part_of_view(s[1], int64_t{own.first_kv} * key, int64_t{own.kv_count} * key);
    s[2] = part_of_view(s[2], int64_t{own.first_kv} * value, int64_t{own.kv_count} * value);
  };
  if (layer.latent) {
    cut(*layer.latent);
  } else {
    cut_heads(layer.qkv);
    if (layer.qkv_bias) cut_heads(*layer.qkv_bias);
  }
  for (WeightSource* each : {&layer.attention_output, &layer.gate_up, &layer.down}) cut_rows(*each);
  for (auto* each : {&layer.attention_output_bias, &layer.shared_gate_up, &layer.shared_down}) {
    if (*each) cut_rows(**each);
  }
  if (layer.sinks) {
    TensorView& sinks = layer.sinks->segments.front();
    sinks = part_of_view(sinks, own.first, own.count);
  }
  // A segment for each expert and matrix: a value for each of its rows.
  for (auto* each : {&layer.gate_up_bias, &layer.down_bias}) {
    if (!*each) continue;
    for (TensorView& segment : (*each)->segments) {
      segment.shape = Shape{segment.shape.elements()};
      const RowRange part = backend::rows_of_rank(segment.shape[0], rank_.rank, rank_.ranks);
      segment = part_of_view(segment, part.first, part.count);
    }
  }
}

void RankShare::cut(LatentTensors& latent) const {
  const Heads own = heads_of(rank_.rank);
  // A segment for each head's part without RoPE, then for each head's rotary part.
  std::vector<TensorView> query;
  for (const int first : {own.first, whole_.heads + own.first}) {
    for (int head = first; head < first + own.count; ++head) {
      query.push_back(latent.query.segments[static_cast<size_t>(head)]);
    }
  }
  latent.query.segments = std::move(query);
  for (WeightSource* each : {&latent.key_up, &latent.value_up}) {
    each->segments[0] = part_of_view(each->segments[0], own.first, own.count);
  }
}

}  // namespace ridge::model
