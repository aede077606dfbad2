#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/served_model.h"
#include "platform/endpoints/endpoints.h"
#include "platform/identity/principal.h"

namespace ridge::server {

// What one caller may put in `model`, as of now: models, and the operator's endpoints. Both go by
// the list of models of the caller's key; who may use an endpoint need not have the model behind
// it. Of a model and an endpoint that have one name, as where a model came later, the model counts.
class CallableModels {
 public:
  using List = std::vector<api::ServedModel>;

  // `served`: all models of the server; `visible`: those of them that the caller may use. No
  // endpoints: null. No principal: who may use everything.
  CallableModels(std::shared_ptr<const List> served, std::shared_ptr<const List> visible,
                 std::shared_ptr<const platform::EndpointTable> endpoints,
                 std::shared_ptr<const platform::Principal> principal);

  // For lists: an endpoint that is disabled, or whose model is not served here, is left out. Of two
  // versions, the one with the larger share speaks.
  List all() const;
  // Whether it is in all().
  bool has(const std::string& name) const;

  // Among which api::find_model finds the one that a request names; where that is an endpoint's,
  // with the version that `caller` gets (platform::choose_version) and that model alone beside
  // those that are visible. Throws permission_denied for an endpoint that is disabled, unavailable
  // where its model is not served here.
  std::shared_ptr<const List> for_request(const std::string& name, std::string_view caller,
                                          const std::function<std::string()>& beginning) const;

 private:
  bool may_use(const platform::Endpoint& endpoint) const;
  const api::ServedModel* find(const std::string& name) const;  // of all models
  const platform::Endpoint* find_endpoint(const std::string& name) const;
  void add_endpoints(List& list) const;

  std::shared_ptr<const List> served_, visible_;  // never null
  std::shared_ptr<const platform::EndpointTable> endpoints_;
  std::shared_ptr<const platform::Principal> principal_;
};

}  // namespace ridge::server
