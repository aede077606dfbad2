// Batches on a server with a scripted engine: what their lines become, and when they run.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <soci/soci.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/comes_true.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "platform/metering/limits.h"
#include "platform/metering/meter.h"
#include "platform/metering/usage.h"
#include "server/batch_input.h"
#include "server_under_test.h"

namespace ridge::server::batches_test {
namespace {

using Json = nlohmann::json;
using platform::BatchStatus;
using testing::HasSubstr;

constexpr const char* completions = "/v1/completions";

std::string line(const std::string& id, const std::string& body,
                 const std::string& url = completions) {
  return fmt::format(R"({{"custom_id":"{}","method":"POST","url":"{}","body":{}}})", id, url,
                     body) +
         "\n";
}

std::string ask(const std::string& prompt, int max_tokens = 9) {
  return fmt::format(R"({{"model":"m","prompt":"{}","max_tokens":{}}})", prompt, max_tokens);
}

class Batches : public testing::Test {
 protected:
  std::unique_ptr<ServerUnderTest> serve(ScriptedEngine::Script script,
                                         ServerOptions options = {}) {
    return std::make_unique<ServerUnderTest>(
        std::move(script), options, authenticator_, meter_,
        PlatformAccess{.database = {std::shared_ptr<void>(), &database_},
                       .identity = {std::shared_ptr<void>(), &identity_},
                       .files = files_,
                       .batches = batches_});
  }
  platform::Batch create(const std::string& input, const std::string& endpoint = completions) {
    const std::string file = files_->add({project_, "in.jsonl", "batch", {}}, input).id;
    return batches_->create({.project_id = project_,
                             .key_id = key_.key.id,
                             .endpoint = endpoint,
                             .input_file_id = file,
                             .output_lifetime_ms = 3'600'000});
  }
  platform::Batch now(const platform::Batch& batch) {
    return batches_->find(batch.project_id, batch.id);
  }
  platform::Batch end_of(const platform::Batch& batch) {
    EXPECT_TRUE(comes_true([&] { return platform::has_ended(now(batch).status); }))
        << platform::name(now(batch).status) << now(batch).waits_message;
    return now(batch);
  }
  std::vector<Json> lines_of(const std::string& file_id) {
    if (file_id.empty()) return {};
    const platform::ClientFile file = files_->find(project_, file_id);
    std::string bytes(static_cast<std::size_t>(file.bytes), '\0');
    platform::read_from_disk(files_->open(file).get(), bytes);
    std::vector<Json> lines;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t end = bytes.find('\n', at);
      lines.push_back(Json::parse(bytes.substr(at, end - at)));
      at = end + 1;
    }
    return lines;
  }
  int64_t number(const std::string& query) {
    return database_.read([&](soci::session& session) {
      int64_t value = -1;
      session << query, soci::into(value);
      return value;
    });
  }
  void limit(platform::LimitKind kind, std::optional<int64_t> most) {
    platform::Limits(database_).set({"default"}, "", kind, most, "test");
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  SteadyClock clock_;
  std::shared_ptr<platform::Authenticator> authenticator_ =
      std::make_shared<platform::Authenticator>(identity_, clock_, patient);
  std::shared_ptr<platform::Meter> meter_ = std::make_shared<platform::Meter>(
      platform::Ledger(database_, "server-1"), platform::MeterOptions{.spool = folder_ / "spool"});
  std::shared_ptr<platform::Files> files_ =
      std::make_shared<platform::Files>(database_, folder_ / "files");
  std::shared_ptr<platform::Batches> batches_ =
      std::make_shared<platform::Batches>(database_, *files_);
  platform::CreatedKey key_ = identity_.create_key({.name = "k"}, "test");
  std::string project_ = identity_.projects().front().id;
};

TEST_F(Batches, AnswerEachLineAsARequestIsAnswered) {
  const auto under = serve([](ScriptedEngine::Part& part) {
    if (part.request().embedding) return part.embed({1, 2});
    part.say("yes");
  });
  const std::pair<const char*, std::string> asks[] = {
      {"/v1/completions", ask("a")},
      {"/v1/chat/completions", R"({"model":"m","messages":[{"role":"user","content":"a"}]})"},
      {"/v1/responses", R"({"model":"m","input":"a"})"},
      {"/v1/embeddings", R"({"model":"m","input":"a"})"}};
  for (const auto& [endpoint, body] : asks) {
    const auto made = create(line("one", body, endpoint) + "\n" + line("two", "{}", endpoint) +
                                 line("three", body, endpoint),
                             endpoint);
    const auto batch = end_of(made);
    EXPECT_EQ(batch.status, BatchStatus::completed);
    EXPECT_EQ(batch.total, 3);
    EXPECT_EQ(batch.completed, 2);
    EXPECT_EQ(batch.failed, 1);
    const auto output = lines_of(batch.output_file_id), errors = lines_of(batch.error_file_id);
    ASSERT_EQ(output.size(), 2u) << endpoint;
    EXPECT_EQ(output[0]["custom_id"], "one") << "in the order of the input";
    EXPECT_EQ(output[1]["custom_id"], "three");
    EXPECT_EQ(output[0]["error"], nullptr);
    EXPECT_EQ(output[0]["response"]["status_code"], 200);
    RawClient client(under->port());
    Json same = Json::parse(
        client.ask(post(endpoint, body, "x-api-key: " + key_.text.text() + "\r\n")).body);
    Json answer = output[0]["response"]["body"];
    for (const char* part : {"id", "created", "created_at", "output", "completed_at"}) {
      same.erase(part);
      answer.erase(part);
    }
    EXPECT_EQ(answer, same) << endpoint;
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_EQ(errors[0]["custom_id"], "two");
    EXPECT_EQ(errors[0]["response"]["status_code"], 400);
    EXPECT_THAT(errors[0]["response"]["body"]["error"]["message"].get<std::string>(),
                HasSubstr("missing"));
    const std::string of_endpoint =
        fmt::format(" FROM usage_records WHERE endpoint = '{}'", endpoint);
    EXPECT_EQ(number("SELECT COUNT(*)" + of_endpoint), 3) << "two lines, and the one request";
    const std::string id = output[0]["response"]["request_id"];
    EXPECT_EQ(number("SELECT COUNT(*)" + of_endpoint + " AND request_id = '" + id + "'"), 1);
  }
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
  // Which goes once the batch has ended.
  EXPECT_TRUE(comes_true([&] { return std::filesystem::is_empty(folder_ / "files/results"); }));
}

TEST_F(Batches, RunWhileNothingElseDoesAndStandBehindIt) {
  std::mutex mutex;
  std::vector<std::string> order;
  std::vector<int> priorities;
  const auto under = serve([&](ScriptedEngine::Part& part) {
    if (part.request().priority == 0) part.wait_for_go();
    const std::lock_guard lock(mutex);
    order.push_back(part.request().group);
    priorities.push_back(part.request().priority);
    part.say("yes");
  });
  RawClient client(under->port());
  client.send(post(completions, ask("a"), "x-api-key: " + key_.text.text() + "\r\n"));
  ASSERT_TRUE(comes_true([&] { return under->engine->submitted() == 1; }));
  const auto batch = create(line("one", ask("a")));
  ASSERT_TRUE(comes_true([&] { return now(batch).status == BatchStatus::in_progress; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(under->engine->submitted(), 1) << "the line is not even begun";
  under->engine->go();
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(end_of(batch).status, BatchStatus::completed);
  const std::lock_guard lock(mutex);
  EXPECT_EQ(priorities, (std::vector{0, engine::background_priority}));
  EXPECT_EQ(order, (std::vector{project_, project_})) << "a batch shares its project's turns";
}

TEST_F(Batches, AreRefusedWithTheLinesThatAreWrong) {
  const auto under = serve([](ScriptedEngine::Part& part) { part.say("yes"); });
  const auto batch =
      end_of(create(line("one", ask("a")) + "{\n" + line("one", ask("a")) +
                    line("x", ask("a"), "/v1/embeddings") +
                    R"({"custom_id":"y","method":"GET","url":"/v1/completions","body":{}})"
                    "\n" +
                    line("z", R"({"stream":true})") +
                    R"({"custom_id":7})"
                    "\n" +
                    std::string(9 << 20, 'x') + "\n"));
  EXPECT_EQ(batch.status, BatchStatus::failed);
  std::vector<std::pair<int64_t, std::string>> errors;
  for (const auto& error : batch.errors) errors.emplace_back(error.line, error.code);
  EXPECT_THAT(errors,
              testing::ElementsAre(
                  testing::Pair(2, "invalid_json_line"), testing::Pair(3, "duplicate_custom_id"),
                  testing::Pair(4, "mismatched_url"), testing::Pair(5, "invalid_method"),
                  testing::Pair(6, "invalid_body"), testing::Pair(7, "invalid_custom_id"),
                  testing::Pair(8, "line_too_long")));
  const auto empty = end_of(create("\n \r\n"));
  ASSERT_EQ(empty.errors.size(), 1u);
  EXPECT_EQ(empty.errors[0].code, "empty_file");
  EXPECT_EQ(under->engine->submitted(), 0);
}

TEST_F(Batches, KeepWhatIsDoneWhenTheyAreCancelled) {
  ServerOptions options;
  options.batch_lines = 1;
  const auto under = serve(
      [](ScriptedEngine::Part& part) {
        part.say("yes");
        if (part.request().max_tokens == 2) part.wait_for_cancel();
      },
      options);
  const auto batch =
      create(line("one", ask("a")) + line("two", ask("a", 2)) + line("three", ask("a")));
  ASSERT_TRUE(comes_true([&] { return under->engine->submitted() == 2; }));
  batches_->cancel(project_, batch.id);
  const auto ended = end_of(batch);
  EXPECT_EQ(ended.status, BatchStatus::cancelled);
  EXPECT_EQ(ended.completed, 1);
  EXPECT_EQ(lines_of(ended.output_file_id)[0]["custom_id"], "one");
  const auto errors = lines_of(ended.error_file_id);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_EQ(errors[0]["custom_id"], "two");
  EXPECT_EQ(errors[0]["response"], nullptr);
  EXPECT_EQ(errors[0]["error"]["code"], "batch_cancelled");
  EXPECT_EQ(number("SELECT COUNT(*) FROM reservations"), 0);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'cancelled'"), 1)
      << "what the second line has used counts";
}

TEST_F(Batches, ExpireWithWhatIsDone) {
  ServerOptions options;
  options.batch_lines = 1;
  const auto under = serve(
      [](ScriptedEngine::Part& part) {
        part.say("yes");
        if (part.request().max_tokens == 2) part.wait_for_cancel();
      },
      options);
  const auto batch = create(line("one", ask("a")) + line("two", ask("a", 2)));
  ASSERT_TRUE(comes_true([&] { return under->engine->submitted() == 2; }));
  database_.write(
      [](soci::session& session) { session << "UPDATE batches SET expires_at_ms = 1"; });
  const auto ended = end_of(batch);
  EXPECT_EQ(ended.status, BatchStatus::expired);
  EXPECT_GT(ended.expired_at_ms, 0);
  EXPECT_EQ(lines_of(ended.output_file_id).size(), 1u);
  EXPECT_EQ(lines_of(ended.error_file_id)[0]["error"]["code"], "batch_expired");
}

TEST_F(Batches, WaitWhereAnAllowanceIsSpentAndSaySo) {
  const auto under = serve([](ScriptedEngine::Part& part) { part.say("yes"); });
  limit(platform::LimitKind::tokens_per_day,
        25);  // two lines of at most ten, and what is left of one
  std::string input;
  for (int i = 0; i < 30; ++i) input += line(std::to_string(i), ask("a"));
  const auto batch = create(input);
  // A line that was admitted before may end meanwhile, and then the batch waits no more for a moment.
  auto waiting = now(batch);
  ASSERT_TRUE(comes_true([&] {
    waiting = now(batch);
    return waiting.waits_code == "insufficient_quota";
  }));
  EXPECT_THAT(waiting.waits_message, HasSubstr("is used up"));
  EXPECT_EQ(waiting.status, BatchStatus::in_progress);
  EXPECT_EQ(waiting.failed, 0);
  EXPECT_LE(
      number("SELECT CAST(COALESCE(SUM(prompt_tokens + completion_tokens), 0) AS BIGINT) FROM "
             "usage_records"),
      25);
  limit(platform::LimitKind::tokens_per_day, std::nullopt);
  const auto ended = end_of(batch);
  EXPECT_EQ(ended.completed, 30);
  EXPECT_EQ(ended.waits_code, "");
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records"), 30) << "what waited cost nothing";
}

TEST_F(Batches, ALimitThatWouldNeverAllowALineIsItsResult) {
  const auto under = serve([](ScriptedEngine::Part& part) { part.say("yes"); });
  limit(platform::LimitKind::tokens_per_minute, 20);
  const auto ended = end_of(create(line("one", ask("a", 100))));
  EXPECT_EQ(ended.status, BatchStatus::completed);
  EXPECT_EQ(lines_of(ended.error_file_id)[0]["response"]["status_code"], 400);
}

TEST_F(Batches, EndWithTheKeyThatMadeThem) {
  ServerOptions options;
  options.batch_lines = 1;
  const auto under = serve([](ScriptedEngine::Part& part) { part.wait_for_go(); }, options);
  const auto batch = create(line("one", ask("a")) + line("two", ask("a")));
  ASSERT_TRUE(comes_true([&] { return under->engine->submitted() == 1; }));
  identity_.revoke_keys({"k"}, "test");
  // The line that runs was begun before; the next one is not, once it was asked for again.
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  under->engine->go();
  const auto ended = end_of(batch);
  EXPECT_EQ(ended.status, BatchStatus::cancelled);
  const auto errors = lines_of(ended.error_file_id);
  ASSERT_FALSE(errors.empty());
  EXPECT_THAT(errors.back()["error"]["message"].get<std::string>(), HasSubstr("revoked"));
}

TEST_F(Batches, SeeTheModelsOfTheirKeyAlone) {
  const auto narrow = identity_.create_key({.name = "n", .rights = {.models = {"other"}}}, "test");
  key_ = narrow;
  const auto under = serve([](ScriptedEngine::Part& part) { part.say("yes"); });
  const auto ended = end_of(create(line("one", ask("a"))));
  EXPECT_EQ(lines_of(ended.error_file_id)[0]["response"]["status_code"], 404);
  EXPECT_EQ(under->engine->submitted(), 0);
}

TEST_F(Batches, GoOnAfterARestartAndAnswerEachLineOnce) {
  std::string input;
  for (int i = 0; i < 40; ++i) input += line(std::to_string(i), ask("a"));
  ServerOptions options;
  options.batch_lines = 4;
  options.drain_timeout = std::chrono::milliseconds(100);
  std::atomic<int> begun = 0;
  auto under = serve(
      [&](ScriptedEngine::Part& part) {
        if (++begun > 12) return part.wait_for_go();  // which does not come: they are cut off
        part.say("yes");
      },
      options);
  const auto batch = create(input);
  ASSERT_TRUE(comes_true([&] { return now(batch).completed >= 5; }));
  under->stop();
  under = nullptr;
  const int64_t before = now(batch).completed;
  EXPECT_LT(before, 40);
  under = serve([](ScriptedEngine::Part& part) { part.say("yes"); }, options);
  const auto ended = end_of(batch);
  EXPECT_EQ(ended.completed, 40);
  const auto output = lines_of(ended.output_file_id);
  ASSERT_EQ(output.size(), 40u);
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(output[i]["custom_id"], std::to_string(i));
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'stop'"), 40);
}

TEST_F(Batches, RunWithoutKeysWhereNobodyIsAsked) {
  ServerUnderTest under(
      [](ScriptedEngine::Part& part) { part.say("yes"); }, {}, nullptr, nullptr,
      PlatformAccess{
          .identity = {std::shared_ptr<void>(), &identity_}, .files = files_, .batches = batches_});
  const auto not_ours = create(line("one", ask("a")));
  key_.key.id.clear();
  const auto ended = end_of(create(line("one", ask("a")) + line("two", "{}")));
  EXPECT_EQ(ended.status, BatchStatus::completed);
  EXPECT_EQ(ended.completed, 1);
  EXPECT_EQ(ended.failed, 1);
  EXPECT_EQ(lines_of(ended.output_file_id).size(), 1u);
  EXPECT_EQ(now(not_ours).completed, 0) << "what a key has made is for a server that counts";
  RawClient client(under.port());
  EXPECT_EQ(client.ask(get("/v1/batches/" + ended.id)).status, 200)
      << "the project is the default one";
  const auto tells = [&](const std::string& line) {
    return comes_true(
        [&] { return client.ask(get("/metrics")).body.find(line + "\n") != std::string::npos; });
  };
  EXPECT_TRUE(tells("ridge:batch_jobs_total{status=\"completed\"} 1"));
  EXPECT_TRUE(tells("ridge:batch_jobs_total{status=\"expired\"} 0"));
  EXPECT_TRUE(tells("ridge:batch_requests_total{result=\"completed\"} 1"));
  EXPECT_TRUE(tells("ridge:batch_requests_total{result=\"failed\"} 1"));
  EXPECT_TRUE(tells("ridge:batch_jobs{status=\"in_progress\"} 1")) << "that of the key";
  EXPECT_TRUE(tells("ridge:batch_requests_waiting 1"));
}

TEST_F(Batches, AreMadeAndSeenOverHttp) {
  ServerOptions options;
  options.batch_lines = 0;
  const auto under = serve([](ScriptedEngine::Part& part) { part.say("yes"); }, options);
  RawClient client(under->port());
  const std::string key = "x-api-key: " + key_.text.text() + "\r\n";
  const auto ask_for = [&](const std::string& body) {
    return client.ask(post("/v1/batches", body, key));
  };
  const std::string file = files_->add({project_, "a", "batch", {}}, line("one", ask("a"))).id;
  const std::string good = fmt::format(
      R"("input_file_id":"{}","endpoint":"/v1/completions","completion_window":"24h")", file);
  const RawResponse made = ask_for("{" + good + R"(,"metadata":{"a":"b"}})");
  ASSERT_EQ(made.status, 200) << made.body;
  const Json batch = Json::parse(made.body);
  EXPECT_EQ(batch["status"], "validating");
  EXPECT_EQ(batch["metadata"]["a"], "b");
  EXPECT_EQ(batch["expires_at"], batch["created_at"].get<int64_t>() + 24 * 3600);
  EXPECT_EQ(batch["output_file_id"], nullptr);
  const std::string path = "/v1/batches/" + batch["id"].get<std::string>();
  EXPECT_EQ(Json::parse(client.ask(get(path, key)).body), batch);
  EXPECT_EQ(Json::parse(client.ask(get("/v1/batches", key)).body)["data"][0], batch);
  EXPECT_EQ(Json::parse(client.ask(post(path + "/cancel", "", key)).body)["status"], "cancelling");
  EXPECT_EQ(client.ask(post("/v1/batches/none/cancel", "", key)).status, 404);
  const auto refuse = [&](const std::string& body, const char* text) {
    const RawResponse refused = ask_for(body);
    EXPECT_EQ(refused.status, 400) << body;
    EXPECT_THAT(refused.body, HasSubstr(text));
  };
  refuse("{}", "input_file_id");
  refuse(R"({"input_file_id":"f","endpoint":"/v1/files","completion_window":"24h"})", "/v1/embed");
  refuse(R"({"input_file_id":"f","endpoint":"/v1/completions","completion_window":"1h"})", "24h");
  refuse("{" + good + R"(,"metadata":{"a":1}})", "metadata");
  refuse("{" + good + R"(,"output_expires_after":{"anchor":"created_at","seconds":1}})", "seconds");
  EXPECT_EQ(
      ask_for(R"({"input_file_id":"f","endpoint":"/v1/completions","completion_window":"24h"})")
          .status,
      404);
}

TEST(InputLines, AreReadWithLittleMemoryWhateverTheirLength) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::string(static_cast<std::size_t>(i % 300), 'x') + "\n";
  text += "last";
  folder.write("in", text);
  const auto open = [&] {
    return platform::Folder::open_path(folder.path()).open("in", 0 /*O_RDONLY*/);
  };
  InputLines lines(open(), 1000);
  int64_t count = 0;
  while (const auto next = lines.next()) {
    ++count;
    const bool is_last = next->number == 5001;
    EXPECT_EQ(next->text.size(), is_last ? 4u : static_cast<std::size_t>((next->number - 1) % 300));
  }
  EXPECT_EQ(count, 5001 - 17) << "blank ones are left out";
  InputLines shorter(open(), 100);
  int64_t too_long = 0;
  while (const auto next = shorter.next()) too_long += next->text.empty();
  EXPECT_EQ(too_long, 16 * 199 + 99);
}

}  // namespace
}  // namespace ridge::server::batches_test
