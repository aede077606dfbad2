#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "longest_wait.h"

namespace ridge::server {

// An HTTP server on loopback that takes what is posted, one connection at a time, and answers each
// with the status and the body that the test wants.
class ScriptedCollector {
 public:
  // The status of the answer to post number `index`, from 0.
  explicit ScriptedCollector(std::function<int(int index)> status, std::string answer = "{}")
      : status_(std::move(status)), answer_(std::move(answer)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedCollector() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  // The heads and bodies of the first `count` posts; fewer after longest_wait.
  std::vector<std::string> wait_for_posts(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, longest_wait, [&] { return posts_.size() >= count; });
    return posts_;
  }

 private:
  void serve() {
    while (true) {
      const int socket = ::accept(listener_, nullptr, nullptr);
      if (socket < 0) return;
      const std::string post = read(socket);
      int index;
      {
        std::lock_guard lock(mutex_);
        index = static_cast<int>(posts_.size());
        posts_.push_back(post);
      }
      changed_.notify_all();
      const std::string answer = "HTTP/1.1 " + std::to_string(status_(index)) +
                                 " .\r\nContent-Length: " + std::to_string(answer_.size()) +
                                 "\r\nConnection: close\r\n\r\n" + answer_;
      ::send(socket, answer.data(), answer.size(), MSG_NOSIGNAL);
      ::close(socket);
    }
  }

  static std::string read(int socket) {
    std::string text;
    std::size_t wanted = std::string::npos;
    while (text.size() < wanted) {
      char bytes[16384];
      const ssize_t count = ::recv(socket, bytes, sizeof bytes, 0);
      if (count <= 0) break;
      text.append(bytes, static_cast<std::size_t>(count));
      const std::size_t head = text.find("\r\n\r\n");
      const std::size_t length = text.find("Content-Length: ");
      if (head != std::string::npos && length < head) {
        wanted = head + 4 + std::stoul(text.substr(length + 16));
      }
    }
    return text;
  }

  const std::function<int(int)> status_;
  const std::string answer_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> posts_;
  std::thread thread_;
};

}  // namespace ridge::server
