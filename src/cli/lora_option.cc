#include "cli/lora_option.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "base/error.h"

namespace ridge::cli {
namespace {

constexpr size_t name_bytes_max = 256;

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ErrorCode::invalid_argument, fmt::format("--lora: {}", reason));
}

float parse_scale(std::string_view text) {
  float scale = 0;
  const auto [rest, failure] = std::from_chars(text.data(), text.data() + text.size(), scale);
  if (failure != std::errc() || rest != text.data() + text.size() || !std::isfinite(scale)) {
    refuse(fmt::format("the scale '{}' is no number", text));
  }
  return scale;
}

// Takes ",scale=S" and ",base=MODEL" off the end of the text; a path may have commas of its own.
void take_settings(std::string_view& text, LoraChoice& choice, bool takes_base) {
  while (true) {
    const size_t comma = text.rfind(',');
    if (comma == std::string_view::npos) return;
    const std::string_view last = text.substr(comma + 1);
    if (last.starts_with("scale=")) {
      choice.scale = parse_scale(last.substr(6));
    } else if (takes_base && last.starts_with("base=")) {
      choice.base = last.substr(5);
      if (choice.base.empty()) refuse(fmt::format("'{}' names no base", text));
    } else {
      return;
    }
    text = text.substr(0, comma);
  }
}

void check_name(const std::string& name) {
  const bool is_plain = std::ranges::none_of(name, [](char letter) {
    return static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f;
  });
  if (name.empty() || name.size() > name_bytes_max || !is_plain) {
    refuse(
        fmt::format("a name must have 1 to {} bytes, and no control characters", name_bytes_max));
  }
}

}  // namespace

LoraChoice parse_lora(std::string_view text) {
  LoraChoice choice;
  take_settings(text, choice, /*takes_base=*/false);
  choice.path = text;
  if (choice.path.empty()) refuse("no path was given; PATH[,scale=S] is expected");
  return choice;
}

LoraChoice parse_named_lora(std::string_view text) {
  LoraChoice choice;
  const std::string whole(text);
  take_settings(text, choice, /*takes_base=*/true);
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals + 1 == text.size()) {
    refuse(fmt::format("'{}' is not NAME=PATH[,scale=S][,base=MODEL]", whole));
  }
  choice.name = text.substr(0, equals);
  choice.path = text.substr(equals + 1);
  check_name(choice.name);
  return choice;
}

void settle_bases(std::vector<LoraChoice>& adapters, const std::vector<std::string>& models) {
  std::set<std::string> names(models.begin(), models.end());
  for (LoraChoice& adapter : adapters) {
    if (!names.insert(adapter.name).second) {
      refuse(fmt::format("two models or adapters would be served as '{}'", adapter.name));
    }
    if (adapter.base.empty() && models.size() == 1) adapter.base = models.front();
    if (adapter.base.empty()) {
      refuse(fmt::format("which model does '{}' change? Add ,base=MODEL, which may be {}",
                         adapter.name, fmt::join(models, ", ")));
    }
    if (std::ranges::find(models, adapter.base) == models.end()) {
      refuse(fmt::format("the base '{}' of '{}' is none of the models that are served: {}",
                         adapter.base, adapter.name, fmt::join(models, ", ")));
    }
  }
}

}  // namespace ridge::cli
