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

}  // namespace

Feeds::Feeds(const std::shared_ptr<Hardware>& hardware, const Recording& recording)
    : inputs_(recording.inputs), limits_(recording.limits) {
  const auto& context = hardware->context();
  const size_t most_rows = row_limit(Rows::tokens);
  for (const Op& op : recording.ops) {
    if (const auto* lora = std::get_if<LoraLinear>(&op)) {
      adapters_ = std::max(adapters_, lora->adapters.size());
    }
    const auto* rope = std::get_if<Rope>(&op);
    const auto is_ours = [&](const RopeFeed& feed) { return is_same(feed.table, rope->table); };
    if (rope == nullptr || std::ranges::any_of(ropes_, is_ours)) continue;
    const std::vector<uint32_t> partners = rope_partners(rope->table);
    const auto bytes = std::as_bytes(std::span(partners));
    RopeFeed feed{rope->table, nullptr, std::make_unique<acl::DeviceMemory>(context, bytes.size())};
    acl::upload(*context, feed.partners->span(), bytes);
    feed.rotations = std::make_unique<Copied>(
        context, most_rows * 2 * partners.size() * sizeof(float));
    ropes_.push_back(std::move(feed));
  }
  if (!ropes_.empty()) {
    std::vector<int32_t> numbers(most_rows);
    std::iota(numbers.begin(), numbers.end(), 0);
    const auto bytes = std::as_bytes(std::span(numbers));
    numbers_ = std::make_unique<acl::DeviceMemory>(context, bytes.size());
    acl::upload(*context, numbers_->span(), bytes);
  }
  if (adapters_ == 0) return;
  for (const Rows rows : {Rows::tokens, Rows::outputs}) {
    masks_[static_cast<size_t>(rows)] =
        std::make_unique<Copied>(context, adapters_ * row_limit(rows) * sizeof(float));
  }
}

void Feeds::upload(acl::Stream& stream, const StepShape& shape) {
  const auto positions = ropes_.empty() ? std::span<const int32_t>()
                                        : integers_of(inputs_.positions, shape.tokens);
  for (const RopeFeed& feed : ropes_) {
    const size_t count = positions.size() * 4 * feed.table.inverse_frequencies.size();
    fill_rotations(feed.table, positions, feed.rotations->values<float>().first(count));
    stream.upload(feed.rotations->device.span(),
                  feed.rotations->host.span().first(count * sizeof(float)));
  }
  if (adapters_ == 0) return;
  for (const Rows rows : {Rows::tokens, Rows::outputs}) {
    fill_masks(rows, shape);
    const Copied& masks = *masks_[static_cast<size_t>(rows)];
    stream.upload(masks.device.span(), masks.host.span());
  }
}

void Feeds::fill_masks(Rows rows, const StepShape& shape) {
  const auto of_tokens = integers_of(inputs_.adapter_of_row, shape.tokens);
  const auto output_rows = integers_of(inputs_.output_rows, shape.outputs);
  const std::span<float> masks = masks_[static_cast<size_t>(rows)]->values<float>();
  std::ranges::fill(masks, 0.0f);
  const size_t count = static_cast<size_t>(rows == Rows::tokens ? shape.tokens : shape.outputs);
  for (size_t row = 0; row < count; ++row) {
    const size_t token = rows == Rows::tokens ? row : static_cast<size_t>(output_rows[row]);
    RIDGE_ASSERT(token < of_tokens.size());
    const int32_t adapter = of_tokens[token];
    if (adapter < 0 || static_cast<size_t>(adapter) >= adapters_) continue;
    masks[static_cast<size_t>(adapter) * row_limit(rows) + row] = 1.0f;
  }
}

Feeds::RopeTables Feeds::rope(const RopeTable& table) const {
  const auto feed = std::ranges::find_if(
      ropes_, [&](const RopeFeed& each) { return is_same(each.table, table); });
  RIDGE_ASSERT(feed != ropes_.end());
  return {feed->rotations->device.span(), feed->partners->span()};
}

acl::DeviceSpan Feeds::adapter_mask(Rows rows, size_t adapter) const {
  const size_t bytes = row_limit(rows) * sizeof(float);
  return masks_[static_cast<size_t>(rows)]->device.span().part(adapter * bytes, bytes);
}

}  // namespace ridge::backend::ascend
