#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <mutex>
#include <string>

namespace ridge::server {

// TLS 1.2 and 1.3 with a certificate chain and its key, both PEM files. Throws invalid_argument,
// naming the option and the file, for what cannot be read, is no certificate or key, is encrypted,
// or does not belong together.
std::shared_ptr<boost::asio::ssl::context> load_tls(const std::string& certificate,
                                                    const std::string& key);

// The one for connections from now on. Called from any thread.
class TlsContext {
 public:
  using Shared = std::shared_ptr<boost::asio::ssl::context>;

  // Throws as load_tls().
  TlsContext(std::string certificate, std::string key);
  Shared get() const;
  // Reads the files anew; where that throws, what was there stays.
  void reload();
  // Logs what is wrong with what works all the same: a key that others can read, a certificate
  // that is not valid now.
  void warn() const;

 private:
  const std::string certificate_, key_;
  mutable std::mutex mutex_;
  Shared context_;
};

}  // namespace ridge::server
