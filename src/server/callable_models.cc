#include "server/callable_models.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/model_list.h"
#include "base/error.h"

namespace ridge::server {
namespace {

template <typename To, typename From>
std::optional<To> as(const std::optional<From>& value) {
  return value ? std::optional(static_cast<To>(*value)) : std::nullopt;
}

api::ServedModel serve(const platform::Endpoint& endpoint, const platform::EndpointVersion& version,
                       const api::ServedModel& model) {
  return api::serve_endpoint(model, {.name = endpoint.name,
                                     .version = version.number,
                                     .created_s = endpoint.created_at_ms / 1000,
                                     .system_prompt = version.system_prompt,
                                     .temperature = as<float>(version.temperature),
                                     .top_p = as<float>(version.top_p),
                                     .min_p = as<float>(version.min_p),
                                     .top_k = as<int>(version.top_k),
                                     .output_tokens = as<int>(version.max_tokens),
                                     .moderation_url = endpoint.moderation_url});
}

const platform::EndpointVersion& leading_version(const platform::Endpoint& endpoint) {
  const auto most =
      std::ranges::max_element(endpoint.shares, {}, &platform::EndpointShare::percent);
  RIDGE_ASSERT(most != endpoint.shares.end() && endpoint.find(most->version) != nullptr);
  return *endpoint.find(most->version);
}

}  // namespace

CallableModels::CallableModels(std::shared_ptr<const List> served,
                               std::shared_ptr<const List> visible,
                               std::shared_ptr<const platform::EndpointTable> endpoints,
                               std::shared_ptr<const platform::Principal> principal)
    : served_(std::move(served)),
      visible_(std::move(visible)),
      endpoints_(std::move(endpoints)),
      principal_(std::move(principal)) {}

bool CallableModels::may_use(const platform::Endpoint& endpoint) const {
  return !principal_ || principal_->rights.allows_model(endpoint.name);
}

const api::ServedModel* CallableModels::find(const std::string& name) const {
  const auto found = std::ranges::find(*served_, name, &api::ServedModel::name);
  return found == served_->end() ? nullptr : &*found;
}

const platform::Endpoint* CallableModels::find_endpoint(const std::string& name) const {
  const platform::Endpoint* endpoint = endpoints_ ? endpoints_->find(name) : nullptr;
  if (endpoint == nullptr || !may_use(*endpoint) || find(name) != nullptr) return nullptr;
  return endpoint;
}

void CallableModels::add_endpoints(List& list) const {
  if (!endpoints_) return;
  for (const platform::Endpoint& endpoint : endpoints_->endpoints) {
    if (!endpoint.is_enabled || find_endpoint(endpoint.name) == nullptr) continue;
    const platform::EndpointVersion& version = leading_version(endpoint);
    if (const api::ServedModel* model = find(version.model)) {
      list.push_back(serve(endpoint, version, *model));
    }
  }
}

CallableModels::List CallableModels::all() const {
  List list = *visible_;
  add_endpoints(list);
  return list;
}

bool CallableModels::has(const std::string& name) const {
  if (api::serves(*visible_, name)) return true;
  const platform::Endpoint* endpoint = find_endpoint(name);
  return endpoint != nullptr && endpoint->is_enabled &&
         find(leading_version(*endpoint).model) != nullptr;
}

std::shared_ptr<const CallableModels::List> CallableModels::for_request(
    const std::string& name, std::string_view caller,
    const std::function<std::string()>& beginning) const {
  const bool names_none = name.empty() && !visible_->empty();
  if (!endpoints_ || endpoints_->endpoints.empty() || names_none || api::serves(*visible_, name)) {
    return visible_;
  }
  auto list = std::make_shared<List>(*visible_);
  const platform::Endpoint* endpoint = find_endpoint(name);
  if (endpoint == nullptr) {  // it is not there, and an error may say what is
    add_endpoints(*list);
    const bool is_only_one = name.empty() && list->size() == 1;
    return is_only_one ? for_request(list->front().name, caller, beginning) : list;
  }
  if (!endpoint->is_enabled) {
    throw Error(ErrorCode::permission_denied, fmt::format("The endpoint '{}' is disabled.", name),
                "model");
  }
  const bool is_drawn = endpoint->shares.size() > 1;
  const platform::EndpointVersion& version =
      platform::choose_version(*endpoint, caller, is_drawn ? beginning() : std::string());
  const api::ServedModel* model = find(version.model);
  if (model == nullptr) {
    throw Error(ErrorCode::unavailable,
                fmt::format("The model behind the endpoint '{}' is not served here.", name),
                "model");
  }
  list->push_back(serve(*endpoint, version, *model));
  return list;
}

}  // namespace ridge::server
