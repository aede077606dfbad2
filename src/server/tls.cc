#include "server/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "base/error.h"
#include "base/log.h"

namespace ridge::server {
namespace {

namespace ssl = boost::asio::ssl;

// For TLS 1.2: forward secrecy and authenticated encryption alone. Those of 1.3 all have both.
constexpr const char* ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

Error bad(std::string_view option, const std::string& file, const std::string& what) {
  return Error(ErrorCode::invalid_argument, fmt::format("{}: {} {}", option, file, what),
               std::string(option.substr(2)));
}

void check_readable(std::string_view option, const std::string& file) {
  const std::ifstream stream(file);
  struct stat about {};
  const int failure = stream ? 0 : errno;
  if (!stream) throw bad(option, file, fmt::format("cannot be read: {}", std::strerror(failure)));
  if (::stat(file.c_str(), &about) == 0 && S_ISDIR(about.st_mode)) {
    throw bad(option, file, "is a folder");
  }
}

void warn_of_readers(const std::string& key) {
  struct stat about {};
  if (::stat(key.c_str(), &about) != 0 || (about.st_mode & S_IROTH) == 0) return;
  log::warning("everybody on this machine can read the key {}: chmod o-r {}", key, key);
}

void warn_of_dates(SSL_CTX* context, const std::string& file) {
  const X509* certificate = SSL_CTX_get0_certificate(context);
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    log::warning("the certificate {} has expired, and clients will refuse it", file);
  } else if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    log::warning("the certificate {} is not valid yet, and clients will refuse it", file);
  }
}

// Of what clients offer, what this server speaks; who offers something else goes on without.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_bytes,
                    const unsigned char* offered, unsigned offered_bytes, void*) {
  static constexpr unsigned char ours[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* found = nullptr;
  const int result =
      SSL_select_next_proto(&found, chosen_bytes, ours, sizeof ours, offered, offered_bytes);
  *chosen = found;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

// Nobody is there to type one.
int refuse_password(char*, int, int, void*) { return -1; }

}  // namespace

std::shared_ptr<ssl::context> load_tls(const std::string& certificate, const std::string& key) {
  constexpr std::string_view certificate_option = "--tls-cert", key_option = "--tls-key";
  check_readable(certificate_option, certificate);
  check_readable(key_option, key);
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(
      native, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);  // idle connections are many
  SSL_CTX_set_default_passwd_cb(native, refuse_password);
  SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
  if (SSL_CTX_set_cipher_list(native, ciphers) != 1) {
    throw Error(ErrorCode::internal, "OpenSSL has none of the ciphers that are wanted");
  }
  if (SSL_CTX_use_certificate_chain_file(native, certificate.c_str()) != 1) {
    throw bad(certificate_option, certificate,
              "holds no certificate chain in PEM, the server's own certificate first");
  }
  ERR_clear_error();
  if (SSL_CTX_use_PrivateKey_file(native, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    const unsigned long failure = ERR_get_error();
    if (ERR_GET_REASON(failure) == X509_R_KEY_VALUES_MISMATCH) {
      throw bad(key_option, key, fmt::format("is not the key of the certificate {}", certificate));
    }
    throw bad(key_option, key, "holds no private key in PEM, or one that is encrypted");
  }
  if (SSL_CTX_check_private_key(native) != 1) {
    throw bad(key_option, key, fmt::format("is not the key of the certificate {}", certificate));
  }
  return context;
}

TlsContext::TlsContext(std::string certificate, std::string key)
    : certificate_(std::move(certificate)),
      key_(std::move(key)),
      context_(load_tls(certificate_, key_)) {}

TlsContext::Shared TlsContext::get() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

void TlsContext::reload() {
  Shared fresh = load_tls(certificate_, key_);
  {
    const std::lock_guard lock(mutex_);
    context_.swap(fresh);
  }
  warn();
}

void TlsContext::warn() const {
  warn_of_readers(key_);
  warn_of_dates(get()->native_handle(), certificate_);
}

}  // namespace ridge::server
