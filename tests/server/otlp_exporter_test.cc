#include "server/otlp_exporter.h"

#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "api/json_text.h"
#include "api/recorded.h"
#include "base/error.h"
#include "base/log.h"
#include "scripted_collector.h"

namespace ridge::server::otlp_exporter_test {
namespace {

using namespace std::chrono_literals;

OtlpOptions quick(const std::string& url) {
  OtlpOptions options{.url = url};
  options.delay = 1ms;
  options.retry.first_pause = 1ms;
  return options;
}

int spans_in(const std::string& post) {
  const auto body = api::Json::parse(post.substr(post.find("\r\n\r\n") + 4));
  return static_cast<int>(body["resourceSpans"][0]["scopeSpans"][0]["spans"].size());
}

TEST(OtlpExporter, PostsWhatItIsGiven) {
  ScriptedCollector collector([](int) { return 200; });
  {
    OtlpExporter exporter(quick(collector.url()));
    exporter.push(api::answered("a"));
    const auto posts = collector.wait_for_posts(1);
    ASSERT_EQ(posts.size(), 1u);
    EXPECT_TRUE(posts[0].starts_with("POST /v1/traces HTTP/1.1\r\n")) << posts[0];
    EXPECT_NE(posts[0].find("Content-Type: application/json\r\n"), std::string::npos);
    EXPECT_EQ(spans_in(posts[0]), 4);
  }
}

TEST(OtlpExporter, TakesAPathAsItIs) {
  ScriptedCollector collector([](int) { return 200; });
  OtlpExporter exporter(quick(collector.url() + "/otlp"));
  exporter.push(api::answered("a"));
  EXPECT_TRUE(collector.wait_for_posts(1).at(0).starts_with("POST /otlp HTTP/1.1\r\n"));
}

TEST(OtlpExporter, SendsWhatIsLeftAtTheEndTogether) {
  ScriptedCollector collector([](int) { return 200; });
  {
    OtlpOptions options = quick(collector.url());
    options.delay = 1h;
    options.farewell = 10s;
    OtlpExporter exporter(options);
    for (int i = 0; i < 5; ++i) exporter.push(api::answered("a"));
  }
  const auto posts = collector.wait_for_posts(1);
  ASSERT_EQ(posts.size(), 1u);
  EXPECT_EQ(spans_in(posts[0]), 20);
}

TEST(OtlpExporter, TriesAgainWhereTheCollectorIsBusy) {
  log::set_level(log::Level::error);
  ScriptedCollector collector([](int index) { return index < 2 ? 503 : 200; });
  OtlpExporter exporter(quick(collector.url()));
  exporter.push(api::answered("a"));
  const auto posts = collector.wait_for_posts(3);
  ASSERT_EQ(posts.size(), 3u);
  EXPECT_EQ(posts[0], posts[2]) << "the same once more: the collector tells spans by their ids";
  while (exporter.counts().exported < 1) std::this_thread::yield();
  EXPECT_EQ(exporter.counts().failed, 0u);
}

TEST(OtlpExporter, GivesUpOnWhatIsRefused) {
  log::set_level(log::Level::error);
  ScriptedCollector collector([](int index) { return index == 0 ? 400 : 200; });
  OtlpExporter exporter(quick(collector.url()));
  exporter.push(api::answered("a"));
  while (exporter.counts().failed < 1) std::this_thread::yield();
  exporter.push(api::answered("b"));
  while (exporter.counts().exported < 1) std::this_thread::yield();
  EXPECT_EQ(collector.wait_for_posts(2).size(), 2u) << "no second try of the first";
}

TEST(OtlpExporter, CountsTheSpansThatTheCollectorDidNotKeep) {
  log::set_level(log::Level::error);
  ScriptedCollector collector(
      [](int) { return 200; },
      R"({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}})");
  OtlpExporter exporter(quick(collector.url()));
  exporter.push(api::answered("a"));
  while (exporter.counts().exported < 1) std::this_thread::yield();
  exporter.push(api::answered("b"));
  while (exporter.counts().exported < 2) std::this_thread::yield();
  EXPECT_EQ(exporter.counts().rejected_spans, 6u);
  EXPECT_EQ(exporter.counts().failed, 0u) << "the request was taken, and is not sent again";
  EXPECT_EQ(collector.wait_for_posts(2).size(), 2u);
}

TEST(OtlpExporter, DropsWhatItHasNoRoomForAndKeepsNobodyWaiting) {
  log::set_level(log::Level::error);
  std::promise<void> release;
  auto released = release.get_future().share();
  // Answers nothing until the test is over.
  ScriptedCollector collector([released](int) {
    released.wait();
    return 200;
  });
  OtlpOptions options = quick(collector.url());
  options.max_waiting = 3;
  options.max_batch = 1;
  {
    OtlpExporter exporter(options);
    exporter.push(api::answered("a"));
    ASSERT_EQ(collector.wait_for_posts(1).size(), 1u);
    for (int i = 0; i < 100; ++i) exporter.push(api::answered("a"));
    EXPECT_EQ(exporter.counts().dropped, 97u);
    release.set_value();
    while (exporter.counts().exported < 4) std::this_thread::yield();
  }
}

TEST(OtlpExporter, RefusesWhatIsNoUrl) {
  for (const char* url : {"127.0.0.1:4318", "ftp://127.0.0.1/", "http://"}) {
    EXPECT_THROW(OtlpExporter({.url = url}), Error) << url;
  }
}

}  // namespace
}  // namespace ridge::server::otlp_exporter_test
