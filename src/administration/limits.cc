// Limits and prices.
#include "platform/metering/limits.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "administration/fields.h"
#include "administration/records_json.h"

namespace ridge::administration {
namespace {

using platform::LimitKind;

constexpr double micros_in_one = 1e6;

LimitKind kind_of(const api::Fields& fields) {
  const std::string text = fields.required_string("kind", 100);
  const auto kind = platform::limit_kind_named(text);
  if (!kind) refuse_choice("kind", text, platform::limit_kind_names());
  return *kind;
}

// Nullopt takes the limit away. An absent one is refused, or a body that lacks it would.
std::optional<int64_t> most_of(const Json& body, const api::Fields& fields) {
  if (!body.contains("most")) api::refuse_missing("most");
  return fields.integer("most", 0, platform::Limits::largest_limit);
}

std::optional<int64_t> micros_of(const api::Fields& fields, std::string_view member) {
  constexpr double most =
      static_cast<double>(platform::Limits::largest_price_micros) / micros_in_one;
  const auto money = fields.number(member, 0, most);
  return money ? std::optional<int64_t>(std::llround(*money * micros_in_one)) : std::nullopt;
}

int64_t required_micros(const api::Fields& fields, std::string_view member) {
  const auto micros = micros_of(fields, member);
  if (!micros) api::refuse_missing(fields.path_of(member));
  return *micros;
}

// Nullopt where the body takes the price away: {"model", "price": null}.
std::optional<platform::Price> price_of(const Json& body, const api::Fields& fields) {
  if (body.contains("price")) {
    if (fields.find("price") == nullptr) return std::nullopt;
    api::refuse_field("price", body["price"],
                      "null, which takes the price away; a price is 'prompt', 'cached' and "
                      "'completion'");
  }
  platform::Price price{.prompt_micros = required_micros(fields, "prompt"),
                        .completion_micros = required_micros(fields, "completion")};
  price.cached_micros = micros_of(fields, "cached").value_or(price.prompt_micros);
  price.free_tokens =
      fields.integer("free_tokens_per_month", 0, platform::Limits::largest_limit).value_or(0);
  if (price.cached_micros > price.prompt_micros) {
    api::refuse("cached",
                "'cached' is above 'prompt'; cached prompt tokens cannot cost more than others, or "
                "what was reserved for a prompt would not do");
  }
  return price;
}

}  // namespace

Answer list_limits(const Call& call) {
  Json data = Json::array();
  for (const auto& each : platform::Limits(call.database).list()) data.push_back(json_of(each));
  return list_answer(std::move(data));
}

Answer set_limit(const Call& call) {
  const api::Fields fields(call.body, "");
  platform::NamedLimit wanted;
  wanted.project = name_field(fields, "project").value_or("");
  wanted.key = name_field(fields, "key").value_or("");
  wanted.user = name_field(fields, "user").value_or("");
  wanted.limit.model = name_field(fields, "model").value_or("");
  wanted.limit.kind = kind_of(fields);
  const auto most = most_of(call.body, fields);
  platform::Limits(call.database)
      .set({wanted.project, wanted.key, wanted.user}, wanted.limit.model, wanted.limit.kind, most,
           call.caller.actor);
  Json json = json_of(wanted);
  json["most"] = most ? Json(*most) : Json(nullptr);
  return json_answer(json);
}

Answer list_prices(const Call& call) {
  Json data = Json::array();
  for (const auto& each : platform::Limits(call.database).prices()) data.push_back(json_of(each));
  return list_answer(std::move(data));
}

Answer set_price(const Call& call) {
  const api::Fields fields(call.body, "");
  const std::string model = required_name(fields, "model");
  const auto price = price_of(call.body, fields);
  const std::string kept_as = model == any_model ? "" : model;
  platform::Limits(call.database).set_price(kept_as, price, call.caller.actor);
  if (!price) return json_answer({{"model", model}, {"price", nullptr}});
  return json_answer(json_of(platform::ModelPrice{kept_as, *price}));
}

}  // namespace ridge::administration
