#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "longest_wait.h"

namespace ridge::server {

struct RawResponse {
  int status = 0;
  std::string head;
  std::string body;                            // chunks joined
  std::map<std::string, std::string> headers;  // names in lower case
  bool is_whole = false;                       // the body's own end was seen

  bool has(const std::string& name, std::string_view value) const {
    const auto found = headers.find(name);
    return found != headers.end() && found->second == value;
  }
};

// A client that sends exactly the bytes that a test wants, and waits for each piece of an answer
// for longest_wait.
class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer_bytes = 0) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer_bytes > 0) {
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes,
                 sizeof receive_buffer_bytes);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  RawClient& send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) break;  // the server has closed: what it said is still to be read
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return *this;
  }

  // False at the end of the connection or the deadline.
  bool receive() {
    pollfd ready{socket_, POLLIN, 0};
    constexpr std::chrono::milliseconds most = longest_wait;
    if (::poll(&ready, 1, static_cast<int>(most.count())) <= 0) {
      timed_out_ = true;
      return false;
    }
    char bytes[16384];
    const ssize_t count = ::recv(socket_, bytes, sizeof bytes, 0);
    if (count <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(count));
    return true;
  }

  // Whether anything has come that was not received yet, without waiting.
  bool has_news() {
    pollfd ready{socket_, POLLIN, 0};
    return ::poll(&ready, 1, 0) > 0;
  }

  // Whether `text` came, without taking it.
  bool wait_for(std::string_view text) {
    while (buffer_.find(text) == std::string::npos) {
      if (!receive()) return false;
    }
    return true;
  }

  // Nothing more but the end of the connection.
  bool is_closed() {
    while (receive()) {
    }
    return !timed_out_;
  }

  // Takes one response. `has_body` false for the answer to HEAD.
  RawResponse read(bool has_body = true) {
    RawResponse response;
    if (!wait_for("\r\n\r\n")) return response;
    const size_t end = buffer_.find("\r\n\r\n");
    response.head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    parse_head(response);
    if (response.status == 100) return read(has_body);
    if (!has_body || response.status == 204) {
      response.is_whole = true;
    } else if (response.has("transfer-encoding", "chunked")) {
      read_chunks(response);
    } else if (response.headers.contains("content-length")) {
      const size_t bytes = std::stoul(response.headers.at("content-length"));
      while (buffer_.size() < bytes && receive()) {
      }
      response.is_whole = buffer_.size() >= bytes;
      response.body = take(std::min(bytes, buffer_.size()));
    } else {
      while (receive()) {
      }
      response.is_whole = !timed_out_;
      response.body = take(buffer_.size());
    }
    return response;
  }

  RawResponse ask(std::string_view bytes) {
    send(bytes);
    return read(!bytes.starts_with("HEAD"));
  }

 private:
  std::string take(size_t bytes) {
    std::string taken = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return taken;
  }

  static void parse_head(RawResponse& response) {
    response.status = std::stoi(response.head.substr(response.head.find(' ')));
    size_t at = response.head.find("\r\n") + 2;
    while (at < response.head.size()) {
      const size_t end = response.head.find("\r\n", at);
      const std::string line = response.head.substr(at, end - at);
      at = end + 2;
      std::string name = line.substr(0, line.find(": "));
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      response.headers[name] = line.substr(line.find(": ") + 2);
    }
  }

  void read_chunks(RawResponse& response) {
    while (true) {
      if (!wait_for("\r\n")) return;
      const size_t end = buffer_.find("\r\n");
      const size_t bytes = std::stoul(buffer_.substr(0, end), nullptr, 16);
      while (buffer_.size() < end + 2 + bytes + 2) {
        if (!receive()) return;
      }
      response.body += buffer_.substr(end + 2, bytes);
      buffer_.erase(0, end + 2 + bytes + 2);
      if (bytes > 0) continue;
      response.is_whole = true;
      return;
    }
  }

  int socket_ = -1;
  std::string buffer_;
  bool timed_out_ = false;
};

inline std::string get(const std::string& target, const std::string& more_headers = "") {
  return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + more_headers + "\r\n";
}

inline std::string post(const std::string& target, const std::string& body,
                        const std::string& more_headers = "") {
  return "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         more_headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace ridge::server
