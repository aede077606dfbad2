#include "cli/context.h"

#include <cstdio>
#include <cstdlib>

namespace ridge::cli {

const platform::Catalog& Context::catalog() {
  if (!catalog_) {
    std::string file = catalog_file;
    if (file.empty()) {
      const char* named = std::getenv("RIDGE_CATALOG");
      if (named != nullptr) file = named;
    }
    catalog_ = file.empty() ? platform::Catalog::built_in() : platform::Catalog::load(file);
  }
  return *catalog_;
}

platform::Store& Context::store() {
  if (!store_) {
    store_.emplace(home.empty() ? platform::Store::default_root() : std::filesystem::path(home));
  }
  return *store_;
}

void Context::print(std::string_view text) const {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

void Context::note(std::string_view text) const {
  if (quiet || json) return;
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fputc('\n', stderr);
}

}  // namespace ridge::cli
