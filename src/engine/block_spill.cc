#include "engine/block_spill.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/log.h"

namespace ridge::engine {

namespace {

class MemorySpill final : public kvcache::SpillStore {
 public:
  MemorySpill(StepRunner& runner, uint64_t blocks) : runner_(runner), blocks_(blocks) {}

  int64_t save(kvcache::BlockId block) override {
    if (saved_.size() >= blocks_) return -1;
    try {
      std::vector<std::byte> content(runner_.block_bytes());
      runner_.export_block(block, content);
      saved_.emplace(next_, std::move(content));
    } catch (const std::bad_alloc&) {
      return -1;
    }
    return next_++;
  }
  bool load(int64_t saved, kvcache::BlockId block) override {
    const auto found = saved_.find(saved);
    runner_.import_block(block, found->second);
    saved_.erase(found);
    return true;
  }
  void forget(int64_t saved) override { saved_.erase(saved); }

 private:
  StepRunner& runner_;
  const uint64_t blocks_;
  int64_t next_ = 0;
  std::map<int64_t, std::vector<std::byte>> saved_;
};

// Slots of one block each in a file that vanishes with the process.
class FileSpill final : public kvcache::SpillStore {
 public:
  FileSpill(StepRunner& runner, uint64_t blocks, const std::filesystem::path& folder)
      : runner_(runner), blocks_(blocks), content_(runner.block_bytes()) {
    file_ = FileDescriptor(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (file_.get() < 0) {
      throw Error(ErrorCode::io,
                  fmt::format("cannot make a file for spilled KV blocks in {}: {}; the folder must "
                              "exist, and its file system must allow files without a name",
                              folder.string(), std::generic_category().message(errno)));
    }
  }

  int64_t save(kvcache::BlockId block) override {
    if (free_.empty() && slots_ >= blocks_) return -1;
    const int64_t slot = free_.empty() ? static_cast<int64_t>(slots_) : free_.back();
    runner_.export_block(block, content_);
    if (!transfer(slot, [&](auto* bytes, size_t size, off_t offset) {
          return pwrite(file_.get(), bytes, size, offset);
        })) {
      return -1;
    }
    if (free_.empty()) {
      ++slots_;
    } else {
      free_.pop_back();
    }
    return slot;
  }
  bool load(int64_t saved, kvcache::BlockId block) override {
    const bool is_read = transfer(saved, [&](auto* bytes, size_t size, off_t offset) {
      return pread(file_.get(), bytes, size, offset);
    });
    if (is_read) runner_.import_block(block, content_);
    forget(saved);
    return is_read;
  }
  void forget(int64_t saved) override { free_.push_back(saved); }

 private:
  template <typename Call>
  bool transfer(int64_t slot, Call call) {
    size_t done = 0;
    while (done < content_.size()) {
      const auto offset = slot * static_cast<int64_t>(content_.size()) + static_cast<int64_t>(done);
      const ssize_t moved = call(content_.data() + done, content_.size() - done, offset);
      if (moved < 0 && errno == EINTR) continue;
      if (moved <= 0) {
        log::warning("a spilled KV block could not be kept or read: {}",
                     moved == 0 ? "the file is short" : std::generic_category().message(errno));
        return false;
      }
      done += static_cast<size_t>(moved);
    }
    return true;
  }

  StepRunner& runner_;
  const uint64_t blocks_;
  FileDescriptor file_;
  std::vector<std::byte> content_;
  uint64_t slots_ = 0;
  std::vector<int64_t> free_;
};

}  // namespace

std::unique_ptr<kvcache::SpillStore> open_spill(const SpillOptions& options, StepRunner& runner) {
  const uint64_t blocks = options.budget_bytes / runner.block_bytes();
  if (blocks == 0) return nullptr;
  if (options.folder.empty()) return std::make_unique<MemorySpill>(runner, blocks);
  return std::make_unique<FileSpill>(runner, blocks, options.folder);
}

}  // namespace ridge::engine
