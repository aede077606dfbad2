#include "platform/link_local.h"

#include <cstdlib>

#include "platform/http_client.h"
#include "platform/throws.h"

namespace ridge::platform::link_local_test {
namespace {

TEST(LinkLocal, AreTheAddressesThatCloudsKeepTheirSecretsAt) {
  for (const char* address : {"169.254.0.0", "169.254.169.254", "169.254.255.255", "fe80::1",
                              "fe80::1%eth0", "febf::1", "[fe80::1]", "::ffff:169.254.169.254",
                              "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "100.100.100.200"}) {
    EXPECT_TRUE(is_link_local(address)) << address;
  }
  for (const char* address :
       {"127.0.0.1", "10.0.0.1", "169.253.255.255", "169.255.0.1", "::1", "fd00::1", "fec0::1",
        "::ffff:10.0.0.1", "100.100.100.201", "example.org", ""}) {
    EXPECT_FALSE(is_link_local(address)) << address;
  }
}

HttpRequest quick(const std::string& url) {
  HttpRequest request{.url = url};
  request.most = std::chrono::seconds(5);
  return request;
}

TEST(HttpClient, GoesToNoLinkLocalAddress) {
  for (const char* url :
       {"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://2852039166/",
        "http://0xa9fea9fe/", "http://[::ffff:a9fe:a9fe]/"}) {
    EXPECT_ERROR(HttpClient().send_for_text(quick(url), 100), io, "link-local");
    EXPECT_ERROR(HttpClient().ask(quick(url), 100), io, "link-local");
  }
}

TEST(HttpClient, GoesToNoNameThatResolvesToALinkLocalAddress) {
  setenv("no_proxy", "*", /*overwrite=*/1);  // one would resolve names itself
  HttpLimits limits;
  limits.resolves = {"hub.example:80:169.254.169.254", "other.example:80:127.0.0.1"};
  EXPECT_ERROR(HttpClient(limits).send_for_text(quick("http://hub.example/x"), 100), io,
               "link-local");
  EXPECT_ERROR(HttpClient(limits).send_for_text(quick("http://other.example:1/x"), 100), io, "");
}

TEST(HttpClient, LeavesWhereItGoesToThePersonWhoAsks) {
  HttpRequest request = quick("http://169.254.169.254:1/");
  request.most = std::chrono::milliseconds(200);
  request.refuses_address = nullptr;
  std::string failure;  // if any: some networks answer there
  try {
    HttpClient().ask(request, 100);
  } catch (const Error& error) {
    failure = error.what();
  }
  EXPECT_THAT(failure, testing::Not(testing::HasSubstr("link-local")));
}

}  // namespace
}  // namespace ridge::platform::link_local_test
