#include "platform/downloads.h"

#include <future>

#include "throws.h"

namespace ridge::platform::downloads_test {
namespace {

// A hub that does what each test says, once for each pull.
class DownloadsTest : public testing::Test {
 protected:
  using Script = std::function<PullResult(const ModelReference&, const DownloadOptions&)>;

  Downloads& with(Script script) {
    downloads_.emplace(std::move(script),
                       [this](const Manifest& manifest) { pulled_.push_back(manifest.name); });
    return *downloads_;
  }

  static PullResult whole(const ModelReference& reference) {
    Manifest manifest{.name = reference.to_string()};
    manifest.files.push_back(
        {.file_name = "f", .digest = Digest::of("f"), .size_bytes = 10, .mtime_ns = 0, .inode = 0});
    return {manifest, false};
  }

  // Until it has ended; a test that hangs is ended by CTest.
  DownloadStatus ended(const std::string& id) {
    while (true) {
      const DownloadStatus status = downloads_->find(id);
      if (status.state != DownloadState::waiting && status.state != DownloadState::running) {
        return status;
      }
      std::this_thread::yield();
    }
  }

  std::vector<std::string> pulled_;
  std::optional<Downloads> downloads_;
};

TEST_F(DownloadsTest, TellHowFarTheyAreAndThatTheyHaveEnded) {
  std::promise<void> has_begun, may_end;
  Downloads& downloads = with([&](const ModelReference& reference, const DownloadOptions& options) {
    options.on_progress({.file_name = "a", .done_bytes = 3, .total_bytes = 4});
    options.on_progress({.file_name = "b", .done_bytes = 1, .total_bytes = 6});
    has_begun.set_value();
    may_end.get_future().wait();
    return whole(reference);
  });
  const std::string id = downloads.start("SmolLM2:135m").id;
  has_begun.get_future().wait();
  const DownloadStatus running = downloads.find(id);
  EXPECT_EQ(running.state, DownloadState::running);
  EXPECT_EQ(running.model, "smollm2:135m");
  EXPECT_EQ(running.bytes_done, 4);
  EXPECT_EQ(running.bytes_total, 10);
  EXPECT_EQ(downloads.start("smollm2:135m").id, id) << "the same model is not fetched twice";
  may_end.set_value();
  const DownloadStatus done = ended(id);
  EXPECT_EQ(done.state, DownloadState::finished);
  EXPECT_EQ(done.bytes_done, 10);
  EXPECT_GT(done.ended_at_ms, 0);
  EXPECT_THAT(pulled_, testing::ElementsAre("smollm2:135m"));
}

TEST_F(DownloadsTest, KeepWhyTheyFailed) {
  Downloads& downloads = with([](const ModelReference&, const DownloadOptions&) -> PullResult {
    throw Error(ErrorCode::unavailable, "the hub is away");
  });
  const DownloadStatus status = ended(downloads.start("smollm2:135m").id);
  EXPECT_EQ(status.state, DownloadState::failed);
  EXPECT_EQ(status.error, "the hub is away");
  EXPECT_THAT(pulled_, testing::IsEmpty());
}

TEST_F(DownloadsTest, StopWhenTheyAreCancelledWhetherTheyRunOrWait) {
  std::promise<void> has_begun;
  Downloads& downloads =
      with([&](const ModelReference&, const DownloadOptions& options) -> PullResult {
        has_begun.set_value();
        while (!options.is_cancelled()) std::this_thread::yield();
        throw Error(ErrorCode::cancelled, "stopped");
      });
  const std::string runs = downloads.start("a:1").id;
  const std::string waits = downloads.start("b:1").id;
  has_begun.get_future().wait();
  EXPECT_EQ(downloads.cancel(waits).state, DownloadState::cancelled);
  EXPECT_EQ(downloads.cancel(runs).state, DownloadState::cancelled);
  EXPECT_EQ(downloads.find(runs).error, "");
  std::vector<std::string> newest_first;
  for (const DownloadStatus& status : downloads.list()) newest_first.push_back(status.id);
  EXPECT_THAT(newest_first, testing::ElementsAre(waits, runs));
}

TEST_F(DownloadsTest, EndWithTheirOwner) {
  std::promise<void> has_begun;
  with([&](const ModelReference&, const DownloadOptions& options) -> PullResult {
    has_begun.set_value();
    while (!options.is_cancelled()) std::this_thread::yield();
    throw Error(ErrorCode::cancelled, "stopped");
  });
  downloads_->start("a:1");
  downloads_->start("b:1");
  has_begun.get_future().wait();
  downloads_.reset();  // would hang
}

TEST_F(DownloadsTest, AreBoundedAndNamedByReferences) {
  std::promise<void> may_end;
  const std::shared_future<void> end = may_end.get_future().share();
  Downloads& downloads = with([end](const ModelReference& reference, const DownloadOptions&) {
    end.wait();
    return whole(reference);
  });
  EXPECT_ERROR(downloads.start("./file.gguf"), invalid_argument, "is a path");
  EXPECT_ERROR(downloads.start("no model"), invalid_argument, "no model");
  EXPECT_ERROR(downloads.find("dl_none"), not_found, "dl_none");
  for (std::size_t i = 0; i < Downloads::most_waiting; ++i) {
    downloads.start("a:" + std::to_string(i));
  }
  EXPECT_ERROR(downloads.start("a:more"), queue_full, "downloads wait");
  may_end.set_value();
}

}  // namespace
}  // namespace ridge::platform::downloads_test
