#include "platform/batch/batches.h"

#include <gmock/gmock.h>
#include <soci/soci.h>

#include <memory>
#include <string>
#include <vector>

#include "platform/identity/identity_fixture.h"
#include "platform/metering/ledger.h"
#include "platform/metering/meter.h"
#include "platform/throws.h"

namespace ridge::platform::batches_test {
namespace {

class BatchesTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!database_) return;
    files_ = std::make_unique<Files>(*database_, folder_ / "files", FileLimits{},
                                     [this] { return now_ms_; });
    batches_ = std::make_unique<Batches>(*database_, *files_, [this] { return now_ms_; });
  }
  std::string input(const std::string& project = "ours", const std::string& purpose = "batch",
                    std::optional<int64_t> lifetime_ms = {}) {
    return files_->add({project, "in.jsonl", purpose, lifetime_ms}, "lines").id;
  }
  Batch create(const std::string& project = "ours") {
    ++now_ms_;
    return batches_->create({.project_id = project,
                             .key_id = "key_1",
                             .endpoint = "/v1/completions",
                             .input_file_id = input(project),
                             .output_lifetime_ms = 5000,
                             .metadata = R"({"a":"b"})"});
  }
  Batch now(const Batch& batch) { return batches_->find(batch.project_id, batch.id); }
  std::vector<std::string> claim(const std::string& server, std::size_t most = 8) {
    std::vector<std::string> ids;
    for (const Batch& batch : batches_->claim(server, most)) ids.push_back(batch.id);
    return ids;
  }
  static BatchMark mark(const Batch& batch, int64_t line, bool is_error = false,
                        const std::string& server = "s1") {
    return {.batch_id = batch.id,
            .line = line,
            .server = server,
            .start = line * 10,
            .bytes = 10,
            .is_error = is_error};
  }
  // One that the server s1 runs.
  Batch running(int64_t total = 3) {
    const Batch batch = create();
    claim("s1");
    batches_->begin(batch.id, total);
    return batch;
  }

  std::unique_ptr<Files> files_;
  std::unique_ptr<Batches> batches_;
};
INSTANTIATE_ON_BOTH_DATABASES(BatchesTest);

TEST_P(BatchesTest, GoFromValidatingToCompleted) {
  const Batch made = create();
  EXPECT_THAT(made.id, testing::StartsWith("batch_"));
  EXPECT_EQ(made.expires_at_ms, now_ms_ + 24 * 3'600'000);
  EXPECT_EQ(now(made).status, BatchStatus::validating);
  EXPECT_EQ(now(made).metadata, R"({"a":"b"})");
  EXPECT_EQ(claim("s1"), std::vector{made.id});
  now_ms_ += 100;
  batches_->begin(made.id, 2);
  EXPECT_EQ(now(made).status, BatchStatus::in_progress);
  EXPECT_EQ(now(made).in_progress_at_ms, now_ms_);
  batches_->mark(mark(made, 1));
  batches_->mark(mark(made, 2, /*is_error=*/true));
  EXPECT_EQ(now(made).completed, 1);
  EXPECT_EQ(now(made).failed, 1);
  const Batch finalizing = batches_->begin_finalizing(made.id);
  EXPECT_EQ(finalizing.status, BatchStatus::finalizing);
  EXPECT_EQ(batches_->begin_finalizing(made.id).output_file_id, finalizing.output_file_id);
  EXPECT_NE(finalizing.output_file_id, finalizing.error_file_id);
  FileDraft output = files_->draft(finalizing.output_file_id);
  output.write("result");
  files_->keep(output);
  batches_->finish(finalizing, BatchStatus::completed, 6, 0);
  const Batch done = now(made);
  EXPECT_EQ(done.status, BatchStatus::completed);
  EXPECT_EQ(done.completed_at_ms, now_ms_);
  EXPECT_EQ(done.error_file_id, "");
  EXPECT_EQ(done.total, 2);
  const ClientFile file = files_->find("ours", done.output_file_id);
  EXPECT_EQ(file.purpose, "batch_output");
  EXPECT_EQ(file.name, made.id + "_output.jsonl");
  EXPECT_EQ(file.expires_at_ms, now_ms_ + 5000);
  EXPECT_TRUE(files_->open(file));
  EXPECT_THAT(batches_->marks(made.id), testing::IsEmpty());
  batches_->finish(finalizing, BatchStatus::expired, 6, 6);  // a second time changes nothing
  EXPECT_EQ(now(made).status, BatchStatus::completed);
  EXPECT_THAT(claim("s1"), testing::IsEmpty());
}

TEST_P(BatchesTest, AreOneProjectsAlone) {
  const Batch batch = create();
  EXPECT_ERROR(batches_->find("theirs", batch.id), not_found, batch.id);
  EXPECT_ERROR(batches_->cancel("theirs", batch.id), not_found, batch.id);
  EXPECT_THAT(batches_->list("theirs", "", 9).batches, testing::IsEmpty());
  EXPECT_ERROR(batches_->list("theirs", batch.id, 9), not_found, batch.id);
  Batch wanted{
      .project_id = "theirs", .endpoint = "/v1/completions", .input_file_id = batch.input_file_id};
  EXPECT_ERROR(batches_->create(wanted), not_found, batch.input_file_id);
}

TEST_P(BatchesTest, AreListedTheNewestFirst) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(create().id);
  const BatchPage first = batches_->list("ours", "", 2);
  EXPECT_TRUE(first.has_more);
  EXPECT_EQ(first.batches[0].id, ids[2]);
  const BatchPage second = batches_->list("ours", first.batches[1].id, 2);
  EXPECT_FALSE(second.has_more);
  ASSERT_EQ(second.batches.size(), 1u);
  EXPECT_EQ(second.batches[0].id, ids[0]);
}

TEST_P(BatchesTest, NeedAnInputOfTheirPurpose) {
  Batch wanted{.project_id = "ours", .input_file_id = input("ours", "evals")};
  EXPECT_ERROR(batches_->create(wanted), invalid_argument, "'evals'");
  for (int64_t i = 0; i < Batches::most_open; ++i) create();
  EXPECT_ERROR(create(), invalid_argument, "which is the most");
}

TEST_P(BatchesTest, ALineCountsOnce) {
  const Batch batch = running();
  batches_->mark(mark(batch, 2));
  BatchMark again = mark(batch, 2, /*is_error=*/true);
  again.start = 777;
  batches_->mark(again);
  ASSERT_EQ(batches_->marks(batch.id).size(), 1u);
  EXPECT_EQ(batches_->marks(batch.id)[0].start, 20);
  EXPECT_FALSE(batches_->marks(batch.id)[0].is_error);
  EXPECT_EQ(now(batch).completed, 1);
  EXPECT_EQ(now(batch).failed, 0);
}

TEST_P(BatchesTest, AreOneServersUntilItsLeaseHasEnded) {
  const Batch batch = running();
  EXPECT_THAT(claim("s2"), testing::IsEmpty());
  now_ms_ += Batches::lease_ms / 2;
  EXPECT_EQ(claim("s1"), std::vector{batch.id}) << "and it is renewed";
  now_ms_ += Batches::lease_ms - 1;
  EXPECT_THAT(claim("s2"), testing::IsEmpty());
  now_ms_ += 1;
  EXPECT_EQ(claim("s2"), std::vector{batch.id});
  EXPECT_THAT(claim("s1"), testing::IsEmpty());
  batches_->mark(mark(batch, 1));  // of the one that was stopped for too long
  EXPECT_THAT(batches_->marks(batch.id), testing::IsEmpty());
  batches_->mark(mark(batch, 1, false, "s2"));
  EXPECT_EQ(batches_->marks(batch.id).size(), 1u);
}

TEST_P(BatchesTest, OfServersWithOtherFilesAreLeftToThem) {
  create();
  Files elsewhere(*database_, folder_ / "elsewhere", {}, [this] { return now_ms_; });
  Batches other(*database_, elsewhere, [this] { return now_ms_; });
  EXPECT_THAT(other.claim("s2", 8), testing::IsEmpty());
}

TEST_P(BatchesTest, OfEachProjectTheOldestIsTakenFirst) {
  std::vector<std::string> ours;
  for (int i = 0; i < 3; ++i) ours.push_back(create().id);
  const std::string theirs = create("theirs").id;
  EXPECT_EQ(claim("s1", 2), (std::vector{ours[0], theirs}));
  EXPECT_THAT(claim("s1", 8), testing::UnorderedElementsAre(ours[0], theirs, ours[1]));
}

TEST_P(BatchesTest, AreCancelledWhileTheyAreOpen) {
  const Batch batch = running();
  now_ms_ += 5;
  EXPECT_EQ(batches_->cancel("ours", batch.id).status, BatchStatus::cancelling);
  EXPECT_EQ(now(batch).cancelling_at_ms, now_ms_);
  now_ms_ += 5;
  EXPECT_EQ(batches_->cancel("ours", batch.id).cancelling_at_ms, now_ms_ - 5) << "a second time";
  EXPECT_EQ(batches_->begin_finalizing(batch.id).status, BatchStatus::cancelling);
  batches_->finish(now(batch), BatchStatus::cancelled, 0, 0);
  EXPECT_EQ(now(batch).status, BatchStatus::cancelled);
  EXPECT_EQ(now(batch).cancelled_at_ms, now_ms_);
  EXPECT_ERROR(batches_->cancel("ours", batch.id), invalid_argument, "it is cancelled");
}

TEST_P(BatchesTest, FailWithWhatIsWrong) {
  const Batch batch = create();
  claim("s1");
  batches_->fail(batch.id, {{.code = "a", .message = "b \xff", .line = 3}, {.code = "c"}});
  const Batch failed = now(batch);
  EXPECT_EQ(failed.status, BatchStatus::failed);
  EXPECT_EQ(failed.failed_at_ms, now_ms_);
  ASSERT_EQ(failed.errors.size(), 2u);
  EXPECT_EQ(failed.errors[0].line, 3);
  EXPECT_EQ(failed.errors[0].message, "b \xEF\xBF\xBD");
}

TEST_P(BatchesTest, SayWhatTheyWaitFor) {
  const Batch batch = running();
  batches_->set_waiting(batch.id, "insufficient_quota", "the allowance is used up");
  EXPECT_EQ(now(batch).waits_code, "insufficient_quota");
  batches_->set_waiting(batch.id, "", "");
  EXPECT_EQ(now(batch).waits_code, "");
}

TEST_P(BatchesTest, KeepTheirInputUntilTheyHaveEnded) {
  const std::string file = input("ours", "batch", 1000);
  const Batch batch = batches_->create({.project_id = "ours", .input_file_id = file});
  EXPECT_ERROR(files_->remove("ours", file), invalid_argument, batch.id);
  now_ms_ += 2000;
  EXPECT_EQ(files_->sweep(), 0);
  EXPECT_TRUE(files_->open_bytes(file));
  batches_->fail(batch.id, {});
  EXPECT_EQ(files_->sweep(), 1);
  EXPECT_ERROR(files_->open_bytes(file), not_found, file);
}

TEST_P(BatchesTest, AreForgottenAfterNinetyDays) {
  const Batch open = running(), ended = create();
  batches_->fail(ended.id, {});
  now_ms_ += Batches::kept_ms;
  EXPECT_EQ(batches_->sweep(), 0);
  now_ms_ += 1;
  EXPECT_EQ(batches_->sweep(), 1);
  EXPECT_ERROR(now(ended), not_found, ended.id);
  EXPECT_EQ(now(open).id, open.id);
}

// The mark and what it cost are one transaction.
class BatchMarksTest : public BatchesTest {
 protected:
  void SetUp() override {
    BatchesTest::SetUp();
    if (!database_) return;
    batch_ = running();
    ledger_ = std::make_unique<Ledger>(*database_, "s1");
  }
  void reserve(const std::string& id) {
    const std::vector<Reservation> wish = {
        {.id = id, .project_id = "ours", .key_id = "key_1", .model = "m"}};
    ASSERT_FALSE(ledger_->commit({}, wish)[0].refusal);
  }
  Settlement settlement(const std::string& id, int64_t line) {
    Settlement made{.id = id, .completion_tokens = 5, .finish_reason = "stop"};
    made.mark = mark(batch_, line);
    return made;
  }

  Batch batch_;
  std::unique_ptr<Ledger> ledger_;
};
INSTANTIATE_ON_BOTH_DATABASES(BatchMarksTest);

TEST_P(BatchMarksTest, ComeWithTheSettlement) {
  reserve("a");
  const std::vector<Settlement> settlements = {settlement("a", 1)};
  ledger_->commit(settlements, {});
  EXPECT_EQ(batches_->marks(batch_.id).size(), 1u);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records"), 1);
  ledger_->commit(settlements, {});  // as from a spool
  EXPECT_EQ(now(batch_).completed, 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records"), 1);
}

TEST_P(BatchMarksTest, ALineThatACrashCutOffIsFailedOnceAndDoneOnce) {
  reserve("a");
  EXPECT_EQ(ledger_->settle_own(), 1);  // the next start
  reserve("b");
  ledger_->commit(std::vector<Settlement>{settlement("b", 1)}, {});
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'failed'"), 1);
  EXPECT_EQ(number("SELECT COUNT(*) FROM usage_records WHERE finish_reason = 'stop'"), 1);
  EXPECT_EQ(batches_->marks(batch_.id).size(), 1u);
}

TEST_P(BatchMarksTest, WaitInTheSpoolWhileTheDatabaseIsAway) {
  Spool spool(folder_ / "spool", 1 << 20);
  spool.append(settlement("a", 7));
  spool.append({.id = "b", .finish_reason = "stop"});
  const std::vector<Settlement> read = spool.read();
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].mark.batch_id, batch_.id);
  EXPECT_EQ(read[0].mark.line, 7);
  EXPECT_EQ(read[0].mark.server, "s1");
  EXPECT_EQ(read[0].mark.start, 70);
  EXPECT_EQ(read[0].mark.bytes, 10);
  EXPECT_EQ(read[1].mark.batch_id, "");
  // One of a program that knew no batches.
  folder_.write("spool", R"({"id":"c","prompt_tokens":1,"cached_tokens":0,"completion_tokens":2,)"
                         R"("reasoning_tokens":0,"ttft_ms":0.0,"duration_ms":0.0,)"
                         R"("finish_reason":"stop","is_void":false})"
                         "\n");
  EXPECT_EQ(Spool(folder_ / "spool", 1 << 20).read().size(), 1u);
}

TEST_P(BatchesTest, AreInTheAuditLogWithTheirFiles) {
  const std::string file =
      files_
          ->add({.project_id = "ours", .name = "a.jsonl", .purpose = "batch", .actor = "key:ci"},
                "x")
          .id;
  const Batch batch = batches_->create(
      {.project_id = "ours", .endpoint = "/v1/completions", .input_file_id = file}, "key:ci");
  batches_->cancel("ours", batch.id, "user:ann");
  batches_->cancel("ours", batch.id, "user:ann");  // changes nothing
  batches_->begin(batch.id, 0);
  batches_->finish(batch, BatchStatus::cancelled, 0, 0);
  files_->remove("ours", file, "user:ann");
  std::vector<std::string> told;
  for (const AuditEvent& event : identity_->audit_events(4)) {
    told.push_back(event.actor + " " + event.action + " " + event.subject);
  }
  EXPECT_THAT(told, testing::ElementsAre(
                        "user:ann file.delete " + file, "user:ann batch.cancel " + batch.id,
                        "key:ci batch.create " + batch.id, "key:ci file.create " + file));
}

}  // namespace
}  // namespace ridge::platform::batches_test
