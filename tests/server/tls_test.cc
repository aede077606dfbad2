#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/temporary_folder.h"
#include "platform/identity/authenticator.h"
#include "server/tls.h"
#include "server_under_test.h"

namespace ridge::server::tls_test {
namespace {

struct KeyPair {
  std::string certificate, key;  // files
};

// Of its own making, for localhost.
KeyPair make_pair(const TemporaryFolder& folder, const std::string& name,
                  const char* password = nullptr) {
  const KeyPair files{(folder / (name + ".crt")).string(), (folder / (name + ".key")).string()};
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), subject);
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  const auto write = [](const std::string& path, auto put) {
    std::FILE* file = std::fopen(path.c_str(), "w");
    EXPECT_EQ(put(file), 1) << path;
    std::fclose(file);
  };
  write(files.certificate,
        [&](std::FILE* file) { return PEM_write_X509(file, certificate.get()); });
  write(files.key, [&](std::FILE* file) {
    return PEM_write_PrivateKey(file, key.get(), password ? EVP_aes_256_cbc() : nullptr, nullptr, 0,
                                nullptr, const_cast<char*>(password));
  });
  return files;
}

class TlsFiles : public testing::Test {
 protected:
  std::string failure_of(const std::string& certificate, const std::string& key) {
    try {
      (void)load_tls(certificate, key);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return std::string(error.message());
    }
    return "";
  }
  TemporaryFolder folder_;
  const KeyPair pair_ = make_pair(folder_, "one");
};

TEST_F(TlsFiles, SayWhatIsWrongWithThem) {
  using testing::HasSubstr;
  EXPECT_EQ(failure_of(pair_.certificate, pair_.key), "");
  const std::string none = (folder_ / "none").string(), empty = (folder_ / "empty").string();
  std::ofstream(empty).close();
  EXPECT_THAT(failure_of(none, pair_.key), HasSubstr("--tls-cert: " + none + " cannot be read"));
  EXPECT_THAT(failure_of(pair_.certificate, none), HasSubstr("--tls-key: " + none));
  EXPECT_THAT(failure_of(folder_.path().string(), pair_.key), HasSubstr("is a folder"));
  for (const std::string& wrong : {empty, pair_.key}) {
    EXPECT_THAT(failure_of(wrong, pair_.key), HasSubstr("holds no certificate chain"));
  }
  for (const std::string& wrong : {empty, pair_.certificate}) {
    EXPECT_THAT(failure_of(pair_.certificate, wrong), HasSubstr("holds no private key"));
  }
  const KeyPair other = make_pair(folder_, "other"), locked = make_pair(folder_, "locked", "word");
  EXPECT_THAT(failure_of(pair_.certificate, other.key), HasSubstr("is not the key of"));
  EXPECT_THAT(failure_of(locked.certificate, locked.key), HasSubstr("encrypted"));
}

TEST_F(TlsFiles, GoTogether) {
  ServerOptions options{.port = 0, .no_auth = true};
  options.tls_certificate = pair_.certificate;
  EXPECT_THROW(Server(options, {}), Error);
  options.tls_key = pair_.key;
  EXPECT_THAT(Server(options, {}).url(), testing::StartsWith("https://127.0.0.1:"));
}

TEST_F(TlsFiles, LetOtherMachinesReachTheServer) {
  platform::Database database((folder_ / "platform.db").string());
  platform::Identity identity(database);
  const SteadyClock clock;
  const auto authenticator = std::make_shared<platform::Authenticator>(identity, clock, patient);
  ServerOptions options{.host = "0.0.0.0", .port = 0};
  EXPECT_THROW(Server(options, {}, authenticator), Error);
  options.tls_certificate = pair_.certificate;
  options.tls_key = pair_.key;
  EXPECT_NO_THROW(Server(options, {}, authenticator));
}

TEST_F(TlsFiles, EndWhoSaysNothingOrNoTls) {
  ServerOptions options;
  options.head_timeout = std::chrono::milliseconds(100);
  options.tls_certificate = pair_.certificate;
  options.tls_key = pair_.key;
  const ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("yes"); }, options);
  RawClient silent(under.port()), plain(under.port());
  EXPECT_TRUE(silent.is_closed());
  plain.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(plain.is_closed());
}

}  // namespace
}  // namespace ridge::server::tls_test
