#include "loadgen/length_distribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace ridge::loadgen {
namespace {

constexpr double largest_deviation = 5;
constexpr int medians_without_limit = 16;

template <typename Number>
bool read(std::string_view text, Number& value) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size();
}

bool read_tokens(std::string_view text, int& tokens) {
  return read(text, tokens) && tokens >= 1 && tokens <= LengthDistribution::largest_tokens;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t end; (end = text.find(separator)) != text.npos; text.remove_prefix(end + 1)) {
    parts.push_back(text.substr(0, end));
  }
  parts.push_back(text);
  return parts;
}

}  // namespace

LengthDistribution LengthDistribution::parse(std::string_view text, std::string_view option) {
  const auto refuse = [&] {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{} '{}' is no length in tokens; write 230, 100-400, or "
                             "lognormal:MEDIAN:DEVIATION[:MOST], each length 1 to {}",
                             option, text, largest_tokens));
  };
  LengthDistribution lengths;
  const std::vector<std::string_view> parts = split(text, ':');
  if (parts[0] == "lognormal") {
    lengths.kind_ = Kind::lognormal;
    if (parts.size() < 3 || parts.size() > 4 || !read_tokens(parts[1], lengths.median_) ||
        !read(parts[2], lengths.deviation_) || !(lengths.deviation_ >= 0) ||
        lengths.deviation_ > largest_deviation) {
      throw refuse();
    }
    lengths.most_ = static_cast<int>(
        std::min<int64_t>(largest_tokens, int64_t{medians_without_limit} * lengths.median_));
    if (parts.size() == 4 && !read_tokens(parts[3], lengths.most_)) throw refuse();
    return lengths;
  }
  const std::vector<std::string_view> ends = split(text, '-');
  if (ends.size() > 2 || !read_tokens(ends.front(), lengths.least_) ||
      !read_tokens(ends.back(), lengths.most_) || lengths.least_ > lengths.most_) {
    throw refuse();
  }
  return lengths;
}

int LengthDistribution::draw(Random& random) const {
  if (kind_ == Kind::uniform) return random.between(least_, most_);
  const double tokens = median_ * std::exp(deviation_ * random.normal());
  return static_cast<int>(std::clamp(std::round(tokens), 1.0, static_cast<double>(most_)));
}

int LengthDistribution::typical() const {
  return kind_ == Kind::uniform ? least_ + (most_ - least_) / 2 : median_;
}

}  // namespace ridge::loadgen
