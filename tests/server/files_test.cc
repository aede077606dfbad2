// Files over HTTP: how they are received and sent, and who sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "base/temporary_folder.h"
#include "server_under_test.h"

namespace ridge::server::files_test {
namespace {

using Json = nlohmann::json;

std::string form(const std::string& content, const std::string& more = "",
                 const std::string& purpose = "batch") {
  return "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n" + purpose + "\r\n" +
         more +
         "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n" +
         content + "\r\n--b--\r\n";
}

std::string field(const std::string& name, const std::string& value) {
  return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n";
}

std::string upload(const std::string& body, const std::string& more = "") {
  return "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
         "boundary=b\r\n" +
         more + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string remove(const std::string& target) {
  return "DELETE " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
}

class FileRoutes : public testing::Test {
 protected:
  std::unique_ptr<ServerUnderTest> serve(platform::FileLimits limits = {},
                                         ServerOptions options = {}) {
    files_ = std::make_shared<platform::Files>(database_, folder_ / "files", limits);
    options.max_body_bytes = 64 << 10;
    return std::make_unique<ServerUnderTest>(
        [](ScriptedEngine::Part& part) { part.say("yes"); }, options, nullptr, nullptr,
        PlatformAccess{.identity = {std::shared_ptr<void>(), &identity_}, .files = files_});
  }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  std::shared_ptr<platform::Files> files_;
};

TEST_F(FileRoutes, GiveBackWhatWasSentHoweverLarge) {
  const auto under = serve();
  RawClient client(under->port());
  std::string content;
  while (content.size() < (5u << 20) + 17) content += "a line of some bytes, one of many\n";
  const RawResponse made = client.ask(upload(form(content)));
  ASSERT_EQ(made.status, 200) << made.body;
  const Json file = Json::parse(made.body);
  EXPECT_EQ(file["object"], "file");
  EXPECT_EQ(file["bytes"], content.size());
  EXPECT_EQ(file["filename"], "a.jsonl");
  EXPECT_EQ(file["status"], "processed");
  EXPECT_EQ(file["expires_at"], file["created_at"].get<int64_t>() + 30 * 24 * 3600);
  const std::string path = "/v1/files/" + file["id"].get<std::string>();
  EXPECT_EQ(Json::parse(client.ask(get(path)).body), file);
  const RawResponse sent = client.ask(get(path + "/content"));
  EXPECT_TRUE(sent.is_whole);
  EXPECT_TRUE(sent.body == content);
  EXPECT_TRUE(sent.has("content-type", "application/octet-stream"));
  EXPECT_TRUE(sent.has("content-disposition", "attachment"));
  client.send("HEAD " + path + "/content HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const RawResponse head = client.read(/*has_body=*/false);
  EXPECT_EQ(head.headers.at("content-length"), std::to_string(content.size()));
  EXPECT_EQ(Json::parse(client.ask(remove(path)).body)["deleted"], true);
  EXPECT_EQ(client.ask(get(path)).status, 404);
  EXPECT_EQ(client.ask(get(path + "/content")).status, 404);
}

TEST_F(FileRoutes, ReadChunkedFormsAndThoseThatAskFirst) {
  const auto under = serve();
  RawClient client(under->port());
  const std::string body = form("x");
  client.send(
      "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
      "boundary=b\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(client.wait_for("100 Continue"));
  for (const char letter : body) client.send(std::string("1\r\n") + letter + "\r\n");
  client.send("0\r\n\r\n");
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(client.ask(get("/health")).status, 200) << "the next request begins where it ended";
}

TEST_F(FileRoutes, RefuseWhatIsTooLargeAsSoonAsItIsKnown) {
  const auto under = serve({.most_file_bytes = 1000});
  const std::string much(200'000, 'x');
  RawClient client(under->port());
  const RawResponse refused = client.ask(upload(form(much)));
  EXPECT_EQ(refused.status, 413);
  RawClient chunks(under->port());
  chunks.send(
      "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
      "boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" +
      much + "\r\n");
  EXPECT_EQ(chunks.read().status, 413);
  RawClient just(under->port());
  const RawResponse over = just.ask(upload(form(std::string(1001, 'x'))));
  EXPECT_EQ(over.status, 413);
  EXPECT_THAT(over.body, testing::HasSubstr("1001 bytes, and a file may have 1000"));
  EXPECT_EQ(just.ask(upload(form(std::string(1000, 'x')))).status, 200);
  EXPECT_EQ(just.ask(post("/v1/completions", std::string(70'000, ' '))).status, 413)
      << "other routes keep their limit";
}

TEST_F(FileRoutes, EndUploadsThatAreTooSlowAltogether) {
  ServerOptions options;
  options.body_timeout = std::chrono::milliseconds(400);  // which each piece of it keeps
  options.least_upload_bytes_per_s = 100 << 20;
  const auto under = serve({}, options);
  RawClient client(under->port());
  client.send(
      "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
      "boundary=b\r\nContent-Length: 100000000\r\n\r\n");
  const std::string piece(1'100'000, 'x');
  // Not on and on once it is refused, or the connection is reset before that is read.
  for (int i = 0; i < 10 && !client.has_news(); ++i) {
    client.send(piece);
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
  }
  EXPECT_EQ(client.read().status, 408);
}

// A deadline that passes between two reads of one piece holds for the next of them: the time is up
// when the second piece begins, of which some is there, and no more comes.
TEST_F(FileRoutes, EndUploadsWhoseTimeIsUpWhileBytesCome) {
  ServerOptions options;
  options.body_timeout = std::chrono::milliseconds(1);
  options.least_upload_bytes_per_s = int64_t{1} << 40;
  const auto under = serve({}, options);
  for (int round = 0; round < 20; ++round) {
    RawClient client(under->port());
    client.send(
        "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
        "boundary=b\r\nContent-Length: 100000000\r\n\r\n" +
        std::string(1'500'000, 'x'));
    ASSERT_EQ(client.read().status, 408) << round;
  }
}

TEST_F(FileRoutes, SayWhatIsWrongWithAForm) {
  const auto under = serve();
  RawClient client(under->port());
  const auto expect = [&](const std::string& request, const char* text) {
    const RawResponse refused = client.ask(request);
    EXPECT_EQ(refused.status, 400) << text;
    EXPECT_THAT(refused.body, testing::HasSubstr(text));
  };
  expect(post("/v1/files", "{}"), "multipart/form-data");
  expect(upload(""), "multipart/form-data");
  expect(upload(form("x", "", "cake")), "it must be one of batch, fine-tune");
  expect(upload(field("purpose", "batch") + "--b--"), "must have one 'file'");
  expect(upload(field("file", "x") + form("x", field("purpose", "batch"))), "'purpose' must stand");
  expect(upload(form("x", field("expires_after[seconds]", "7200"))), "'created_at'");
  const std::string anchor = field("expires_after[anchor]", "created_at");
  expect(upload(form("x", anchor)), "'seconds'");
  expect(upload(form("x", anchor + field("expires_after[seconds]", "60"))), "3600 to 2592000");
  const RawResponse made =
      client.ask(upload(form("x", anchor + field("expires_after[seconds]", "7200"))));
  const Json file = Json::parse(made.body);
  EXPECT_EQ(file["expires_at"], file["created_at"].get<int64_t>() + 7200);
  const Json kept = Json::parse(client.ask(upload(form("x", "", "fine-tune"))).body);
  EXPECT_EQ(kept["expires_at"], nullptr);
}

TEST_F(FileRoutes, ListFilesPageByPage) {
  const auto under = serve();
  RawClient client(under->port());
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(Json::parse(client.ask(upload(form("x"))).body)["id"]);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  Json list = Json::parse(client.ask(get("/v1/files?limit=2")).body);
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["has_more"], true);
  EXPECT_EQ(list["first_id"], ids[2]);
  list = Json::parse(
      client.ask(get("/v1/files?limit=2&after=" + list["last_id"].get<std::string>())).body);
  ASSERT_EQ(list["data"].size(), 1u);
  EXPECT_EQ(list["data"][0]["id"], ids[0]);
  EXPECT_EQ(Json::parse(client.ask(get("/v1/files?purpose=evals")).body)["data"].size(), 0u);
  EXPECT_EQ(client.ask(get("/v1/files?limit=0")).status, 400);
  EXPECT_EQ(client.ask(get("/v1/files?order=up")).status, 400);
}

TEST_F(FileRoutes, WithoutAFolderAreUnavailable) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("yes"); });
  RawClient client(under.port());
  EXPECT_EQ(client.ask(get("/v1/files")).status, 503);
  EXPECT_EQ(client.ask(upload(form("x"))).status, 503);
}

}  // namespace
}  // namespace ridge::server::files_test
