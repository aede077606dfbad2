#include "backend/cpu/placement.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "backend/cpu/caches.h"
#include "base/cpu_count.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

std::vector<int> allowed_processors() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) return processors;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &mask)) processors.push_back(i);
  }
  return processors;
}

// "0,64" or "0-1": begins with the core's first hardware thread.
bool is_first_of_core(int processor) {
  std::ifstream file(
      fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", processor));
  int first = processor;
  file >> first;
  return first == processor;
}

bool pins_automatically(int threads, size_t processors) {
  const std::vector<Cache> caches = data_caches();
  const bool takes_all = static_cast<size_t>(threads) == processors && threads == available_cpus();
  return takes_all && !caches.empty() && caches.back().processors < threads;
}

}  // namespace

std::vector<int> choose_processors(int threads, Toggle pin_threads) {
  if (pin_threads == Toggle::off) return {};
  std::vector<int> processors = allowed_processors();
  if (pin_threads == Toggle::automatic && !pins_automatically(threads, processors.size()))
    return {};
  if (processors.size() < static_cast<size_t>(threads)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("{} threads cannot be pinned to {} processors; use fewer threads, or "
                            "do not pin them",
                            threads, processors.size()),
                "pin-threads");
  }
  std::stable_partition(processors.begin(), processors.end(), &is_first_of_core);
  processors.resize(static_cast<size_t>(threads));
  return processors;
}

bool huge_pages_allowed_by(std::string_view enabled) {
  return enabled.find("[always]") != std::string_view::npos ||
         enabled.find("[madvise]") != std::string_view::npos;
}

bool huge_pages_available() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  std::getline(file, line);
  return huge_pages_allowed_by(line);
}

}  // namespace ridge::backend::cpu
