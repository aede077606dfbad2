#include "backend/ascend/device/feeds.h"

#include <algorithm>
#include <numeric>

#include "backend/ascend/layouts.h"
#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

bool is_same(const RopeTable& a, const RopeTable& b) {
  return a.inverse_frequencies == b.inverse_frequencies && a.magnitude == b.magnitude &&
         a.pairs == b.pairs;
}

std::span<const int32_t> mirrored(Buffer* buffer, int count) {
  if (count == 0) return {};
  RIDGE_ASSERT(buffer != nullptr && buffer->size_bytes() >= count * sizeof(int32_t));
  const HostMirror& mirror = static_cast<InputBuffer*>(buffer)->mirror();
  return {reinterpret_cast<const int32_t*>(mirror.span().data()), static_cast<size_t>(count)};
}

size_t row_limit_of(Rows rows, const StepLimits& limits) {
  return static_cast<size_t>(std::max(1, rows == Rows::tokens ? limits.tokens : limits.outputs));
}

}  // namespace

Feeds::Feeds(const std::shared_ptr<Hardware>& hardware, const Recording& recording)
    : inputs_(recording.inputs), limits_(recording.limits) {
  const auto& context = hardware->context();
  for (const Op& op : recording.ops) {
    if (const auto* lora = std::get_if<LoraLinear>(&op)) {
      adapters_ = std::max(adapters_, lora->adapters.size());
    }
    const auto* rope = std::get_if<Rope>(&op);
    const auto is_ours = [&](const RopeFeed& feed) { return is_same(feed.table, rope->table); };
    if (rope == nullptr || std::ranges::any_of(ropes_, is_ours)) continue;
    const RopeLayout layout = lay_out_rope(rope->table, std::span<const int32_t>());
    const auto partners = std::as_bytes(std::span(layout.partners));
    RopeFeed feed{rope->table, nullptr,
                  std::make_unique<acl::DeviceMemory>(context, partners.size())};
    acl::upload(*context, feed.partners->span(), partners);
    feed.rotations = std::make_unique<Copied>(
        context, row_limit_of(Rows::tokens, limits_) * 2 * layout.partners.size() * sizeof(float));
    ropes_.push_back(std::move(feed));
  }
  if (!ropes_.empty()) {
    std::vector<int32_t> numbers(row_limit_of(Rows::tokens, limits_));
    std::iota(numbers.begin(), numbers.end(), 0);
    const auto bytes = std::as_bytes(std::span(numbers));
    numbers_ = std::make_unique<acl::DeviceMemory>(context, bytes.size());
    acl::upload(*context, numbers_->span(), bytes);
  }
  if (adapters_ == 0) return;
  for (const Rows rows : {Rows::tokens, Rows::outputs}) {
    masks_[static_cast<size_t>(rows)] =
        std::make_unique<Copied>(context, adapters_ * row_limit_of(rows, limits_) * sizeof(float));
  }
}

void Feeds::upload(acl::Stream& stream, const StepShape& shape) {
  const auto positions = ropes_.empty() ? std::span<const int32_t>()
                                        : mirrored(inputs_.positions, shape.tokens);
  for (const RopeFeed& feed : ropes_) {
    const RopeLayout layout = lay_out_rope(feed.table, positions);
    std::ranges::copy(layout.rotations, feed.rotations->values<float>().begin());
    const size_t bytes = layout.rotations.size() * sizeof(float);
    stream.upload(feed.rotations->device.span(), feed.rotations->host.span().first(bytes));
  }
  if (adapters_ == 0) return;
  for (const Rows rows : {Rows::tokens, Rows::outputs}) {
    fill_masks(rows, shape);
    const Copied& masks = *masks_[static_cast<size_t>(rows)];
    stream.upload(masks.device.span(), masks.host.span());
  }
}

void Feeds::fill_masks(Rows rows, const StepShape& shape) {
  const auto of_tokens = mirrored(inputs_.adapter_of_row, shape.tokens);
  const auto output_rows = mirrored(inputs_.output_rows, shape.outputs);
  const std::span<float> masks = masks_[static_cast<size_t>(rows)]->values<float>();
  std::ranges::fill(masks, 0.0f);
  const size_t count = static_cast<size_t>(rows == Rows::tokens ? shape.tokens : shape.outputs);
  for (size_t row = 0; row < count; ++row) {
    const size_t token = rows == Rows::tokens ? row : static_cast<size_t>(output_rows[row]);
    RIDGE_ASSERT(token < of_tokens.size());
    const int32_t adapter = of_tokens[token];
    if (adapter < 0 || static_cast<size_t>(adapter) >= adapters_) continue;
    masks[static_cast<size_t>(adapter) * row_limit_of(rows, limits_) + row] = 1.0f;
  }
}

Feeds::RopeTables Feeds::rope(const RopeTable& table) const {
  const auto feed = std::ranges::find_if(
      ropes_, [&](const RopeFeed& each) { return is_same(each.table, table); });
  RIDGE_ASSERT(feed != ropes_.end());
  return {feed->rotations->device.span(), feed->partners->span()};
}

acl::DeviceSpan Feeds::adapter_mask(Rows rows, size_t adapter) const {
  const size_t bytes = row_limit_of(rows, limits_) * sizeof(float);
  return masks_[static_cast<size_t>(rows)]->device.span().part(adapter * bytes, bytes);
}

}  // namespace ridge::backend::ascend
