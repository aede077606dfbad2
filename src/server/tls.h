#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>

namespace ridge::server {

// TLS 1.2 and 1.3 with a certificate chain and its key, both PEM files. Throws invalid_argument,
// naming the option and the file, for what cannot be read, is no certificate or key, is encrypted,
// or does not belong together.
std::shared_ptr<boost::asio::ssl::context> load_tls(const std::string& certificate,
                                                    const std::string& key);

// Logs what is wrong with what works all the same: a key that others can read, a certificate that
// is not valid now.
void warn_of_tls(boost::asio::ssl::context& context, const std::string& certificate,
                 const std::string& key);

}  // namespace ridge::server
