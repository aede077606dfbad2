#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "loadgen/workload.h"

namespace ridge::loadgen {

enum class Endpoint { chat, completions };

// The server under load, and what is sent with each request.
struct Target {
  std::string base_url;  // ends with "/v1"
  Endpoint endpoint = Endpoint::chat;
  std::string model;
  double temperature = 0;
  bool ignore_eos = false;
  std::string extra_body;  // a JSON object whose members go into each request; empty: none

  std::string url() const;
  std::string models_url() const { return base_url + "/models"; }
};

// "http://host:8080", with or without a path that ends with /v1, as Target::base_url. Throws
// invalid_argument as platform::Url::parse.
std::string base_url_of(std::string_view url);

// The body of one request. Where it streams, it asks for the usage at the end, and where not, for
// one document.
enum class Delivery { stream, document };
std::string request_body(const Target& target, std::string_view prompt, int output_tokens,
                         Delivery delivery);

// Throws invalid_argument unless `text` is empty or a JSON object.
void check_extra_body(std::string_view text);

// The first model of what /v1/models answers; empty where it names none.
std::string first_model(std::string_view document);

}  // namespace ridge::loadgen
