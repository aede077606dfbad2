#include "backend/ascend/soc.h"

#include <string>

#include "base/error.h"

namespace ridge::backend::ascend {

namespace {

constexpr uint64_t gib = uint64_t{1} << 30;
constexpr uint64_t mib = uint64_t{1} << 20;

constexpr Soc table[] = {
    {"Ascend910B1", "910B1", 24, 48, 1850, 64 * gib, 192 * mib},
    {"Ascend910B2", "910B2", 24, 48, 1800, 64 * gib, 192 * mib},
    {"Ascend910B3", "910B3", 20, 40, 1800, 64 * gib, 192 * mib},
    {"Ascend910B4", "910B4", 20, 40, 1500, 32 * gib, 96 * mib},
    // One of the two dies of a 910C; each is a device of its own.
    {"Ascend910_9391", "910C", 24, 48, 1850, 64 * gib, 192 * mib},
};

}  // namespace

const Soc& find_soc(std::string_view name) {
  std::string known;
  for (const Soc& soc : table) {
    if (name == soc.name || name == soc.short_name) return soc;
    known += (known.empty() ? "" : ", ") + std::string(soc.short_name);
  }
  throw Error(ErrorCode::not_found,
              "no Ascend device is called \"" + std::string(name) + "\"; there are " + known);
}

const Soc& soc_of_chip(std::string_view name) {
  constexpr std::string_view dies_of_910c = "Ascend910_93";
  for (const Soc& soc : table) {
    if (name.starts_with(soc.name)) return soc;
    if (name.starts_with(dies_of_910c) && soc.name.starts_with(dies_of_910c)) return soc;
  }
  return find_soc(name);
}

}  // namespace ridge::backend::ascend
