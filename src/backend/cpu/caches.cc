#include "backend/cpu/caches.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace ridge::backend::cpu {

namespace {

std::string read_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

// "32768K" → bytes; 0 for what is no size.
uint64_t parse_size(const std::string& text) {
  std::istringstream stream(text);
  uint64_t number = 0;
  if (!(stream >> number)) return 0;
  const char unit = stream.peek() == EOF ? ' ' : static_cast<char>(stream.get());
  return unit == 'K' ? number << 10 : unit == 'M' ? number << 20 : number;
}

// "0-3,8" → 5.
int count_processors(const std::string& list) {
  int count = 0;
  std::istringstream ranges(list);
  for (std::string range; std::getline(ranges, range, ',');) {
    std::istringstream stream(range);
    int first = 0, last = 0;
    if (!(stream >> first)) continue;
    last = first;
    if (stream.get() == '-') stream >> last;
    count += std::max(0, last - first + 1);
  }
  return std::max(count, 1);
}

std::vector<Cache> caches_of_sysfs(int processor) {
  std::vector<Cache> caches;
  for (int index = 0;; ++index) {
    const std::string folder =
        fmt::format("/sys/devices/system/cpu/cpu{}/cache/index{}/", processor, index);
    const std::string type = read_word(folder + "type");
    if (type.empty()) return caches;
    const uint64_t bytes = parse_size(read_word(folder + "size"));
    const auto level = static_cast<int>(parse_size(read_word(folder + "level")));
    if (type == "Instruction" || bytes == 0 || level < 1) continue;
    caches.push_back({level, bytes, count_processors(read_word(folder + "shared_cpu_list"))});
  }
}

std::vector<Cache> caches_of_sysconf() {
  std::vector<Cache> caches;
#ifdef _SC_LEVEL1_DCACHE_SIZE
  const int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
  for (int i = 0; i < 3; ++i) {
    const long bytes = sysconf(names[i]);
    if (bytes > 0) caches.push_back({i + 1, static_cast<uint64_t>(bytes), 1});
  }
#endif
  return caches;
}

}  // namespace

std::vector<Cache> data_caches() {
  std::vector<Cache> caches = caches_of_sysfs(std::max(0, sched_getcpu()));
  if (caches.empty()) caches = caches_of_sysconf();
  std::sort(caches.begin(), caches.end(),
            [](const Cache& a, const Cache& b) { return a.level < b.level; });
  return caches;
}

}  // namespace ridge::backend::cpu
