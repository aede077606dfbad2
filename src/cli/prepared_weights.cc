#include "cli/prepared_weights.h"

#include <fmt/format.h>

#include <optional>
#include <regex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu_count.h"
#include "base/error.h"
#include "base/log.h"
#include "base/model_path.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "platform/prepared_cache.h"

namespace ridge::cli {
namespace {

using platform::PreparedCache;

// All parts of a split model, of which `path` is the first; else `path`.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  static const std::regex first_part(R"((.*-)00001(-of-)(\d{5})(\.gguf))");
  const std::string name = path.filename().string();
  std::smatch match;
  if (!std::regex_match(name, match, first_part)) return {path};
  std::vector<std::filesystem::path> files;
  const int parts = std::stoi(match[3]);
  for (int part = 1; part <= parts; ++part) {
    files.push_back(path.parent_path() / fmt::format("{}{:05}{}{:05}{}", match[1].str(), part,
                                                     match[2].str(), parts, match[4].str()));
  }
  return files;
}

class PreparedWeights final : public backend::PreparedStore {
 public:
  PreparedWeights(Context& context, const platform::ResolvedModel& model, int threads,
                  NoteKept note)
      : context_(context),
        cache_(context.store().prepared()),
        title_(model.digests.empty() ? std::filesystem::absolute(model.path).string() : model.name),
        files_(files_of(model.path)),
        threads_(threads > 0 ? threads : available_cpus()),
        note_kept_(note),
        digest_(model.digests.empty() ? digest_of_files() : platform::model_digest(model.digests)) {
  }

  ~PreparedWeights() override {
    if (writing_thread_.joinable()) writing_thread_.join();
    if (note_kept_ == NoteKept::at_the_end) tell_outcome();
  }

  void begin(std::string_view layout, uint64_t bytes) override {
    // The file was opened between the first look and this one.
    if (!files_.unchanged()) return warn("the model's file changes just now");
    const platform::PreparedIdentity identity = {digest_, std::string(layout)};
    try {
      found_ = cache_.open(identity, threads_);
    } catch (const Error& error) {
      warn(fmt::format("{}; the weights are prepared anew", error.message()));
      attempt([&] { cache_.discard(identity); });
    }
    identity_ = identity;
    if (found_) {
      context_.note(fmt::format("prepared weights: {} from {}", format_bytes(found_->size_bytes()),
                                cache_.path().string()));
      return;
    }
    attempt([&] { start_writing(static_cast<int64_t>(bytes)); });
  }

  std::span<const std::byte> find(std::string_view key) const override {
    return found_ ? found_->find(key) : std::span<const std::byte>();
  }

  void keep(std::string_view key, std::span<const std::byte> bytes) override {
    if (found_) is_incomplete_ = true;
    if (!writing_) return;
    attempt([&] { writing_->file->add(key, bytes); });
  }

  void finish() override {
    if (is_incomplete_) {
      warn("weights were missing among them; the next start prepares all anew");
      attempt([&] { cache_.discard(*identity_); });
    }
    if (!writing_) return;
    if (!files_.unchanged()) {
      writing_.reset();
      return warn("the model's file was changed meanwhile; nothing is kept");
    }
    // Syncing a gigabyte takes seconds that a first answer need not wait for.
    writing_thread_ = std::jthread([this] {
      attempt([&] { kept_bytes_ = writing_->file->finish(); });
      writing_.reset();
      if (note_kept_ == NoteKept::at_once) tell_outcome();
    });
  }

 private:
  platform::Digest digest_of_files() {
    ProgressBar progress(context_.terminal(), !context_.quiet && !context_.json);
    return cache_.digest_of(files_, [&](int64_t done_bytes, int64_t total_bytes) {
      progress.update("reading the model's digest", done_bytes, total_bytes);
      return !InterruptScope::requested();
    });
  }

  void start_writing(int64_t bytes) {
    writing_ = cache_.create({*identity_, title_}, bytes);
    context_.note(writing_ ? fmt::format("keeping prepared weights: {} in {}", format_bytes(bytes),
                                         cache_.path().string())
                           : "another process is keeping this model's prepared weights");
  }

  void tell_outcome() {
    if (kept_bytes_ == 0) return;
    context_.note(fmt::format("kept prepared weights: {}; 'ridge rm --prepared' removes them",
                              format_bytes(kept_bytes_)));
  }

  // Whatever the disk does, the model loads; what was written is given up.
  template <typename Action>
  void attempt(const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      writing_.reset();
      warn(fmt::format("{}; nothing is kept", error.message()));
    }
  }

  void warn(std::string_view what) const {
    log::warning("prepared weights of {}: {}", printable(title_), what);
  }

  Context& context_;
  const PreparedCache cache_;
  const std::string title_;
  const platform::FileWatch files_;
  const int threads_;
  const NoteKept note_kept_;
  const platform::Digest digest_;
  std::optional<platform::PreparedIdentity> identity_;
  std::optional<platform::PreparedFile> found_;
  bool is_incomplete_ = false;
  std::unique_ptr<PreparedCache::Writing> writing_;
  int64_t kept_bytes_ = 0;
  std::jthread writing_thread_;
};

}  // namespace

std::shared_ptr<backend::PreparedStore> prepared_store(Context& context,
                                                       const platform::ResolvedModel& model,
                                                       bool wanted, int threads, NoteKept note) {
  // Of a folder, weights are made as they are prepared, of files that the cache does not watch.
  if (!wanted || is_model_folder(model.path)) return nullptr;
  try {
    return std::make_shared<PreparedWeights>(context, model, threads, note);
  } catch (const platform::DiskError& error) {
    log::warning("prepared weights of {}: {}", printable(model.name), error.message());
    return nullptr;
  }
}

}  // namespace ridge::cli
