#include "loadgen/target.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/url.h"

namespace ridge::loadgen {

using OrderedJson = nlohmann::ordered_json;

std::string Target::url() const {
  return base_url + (endpoint == Endpoint::chat ? "/chat/completions" : "/completions");
}

std::string base_url_of(std::string_view url) {
  std::string text = platform::Url::parse(url).to_string();
  while (text.ends_with('/')) text.pop_back();
  return text.ends_with("/v1") ? text : text + "/v1";
}

std::string request_body(const Target& target, std::string_view prompt, int output_tokens,
                         Delivery delivery) {
  OrderedJson body = {{"model", target.model}};
  if (target.endpoint == Endpoint::chat) {
    body["messages"] = OrderedJson::array({{{"role", "user"}, {"content", prompt}}});
  } else {
    body["prompt"] = prompt;
  }
  body["max_tokens"] = output_tokens;
  body["temperature"] = target.temperature;
  if (target.ignore_eos) body["ignore_eos"] = true;
  if (delivery == Delivery::stream) {
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
  }
  if (!target.extra_body.empty()) body.update(OrderedJson::parse(target.extra_body));
  return body.dump(-1, ' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace);
}

void check_extra_body(std::string_view text) {
  if (text.empty()) return;
  if (!OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false).is_object()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--extra-body '{}' is no JSON object, such as {{\"top_k\": 1}}", text));
  }
}

std::string first_model(std::string_view document) {
  const OrderedJson body = OrderedJson::parse(document, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object() || !body.contains("data") || !body["data"].is_array()) return {};
  for (const OrderedJson& model : body["data"]) {
    if (model.is_object() && model.contains("id") && model["id"].is_string()) return model["id"];
  }
  return {};
}

}  // namespace ridge::loadgen
