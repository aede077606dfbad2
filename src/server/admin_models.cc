// Models that are here or could be, and how they come here.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "api/fields.h"
#include "api/model_list.h"
#include "base/log.h"
#include "platform/model_removal.h"
#include "server/handler_route.h"
#include "server/measured_speed.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using api::Json;
using api::or_null;

constexpr std::size_t most_reference_bytes = 300;

// What is known of one name: by the catalog, by the store, by this server.
struct KnownModel {
  std::string name;
  std::optional<platform::CatalogChoice> choice;
  std::optional<platform::Manifest> manifest;
  const api::ServedModel* served = nullptr;

  int64_t bytes() const {
    if (manifest) return manifest->size_bytes();
    if (served != nullptr) return static_cast<int64_t>(served->engine->model_info().file_bytes);
    return choice ? choice->quantization->size_bytes : 0;
  }
};

// In the order of the catalog, behind it others of the store, then what is served of neither.
class KnownModels {
 public:
  KnownModels(const ModelSupply& supply, const ModelList& served) {
    for (const platform::CatalogModel& model : supply.catalog.models()) {
      for (const platform::CatalogQuantization& quantization : model.quantizations) {
        const platform::CatalogChoice choice{&model, &quantization};
        at(choice.name()).choice = choice;
      }
    }
    for (platform::Manifest& manifest : supply.store.list()) {
      at(manifest.name).manifest = std::move(manifest);
    }
    for (const api::ServedModel& model : served) at(model.name).served = &model;
  }

  const std::vector<KnownModel>& list() const { return models_; }

 private:
  KnownModel& at(const std::string& name) {
    const auto [place, is_new] = places_.try_emplace(name, models_.size());
    if (is_new) models_.push_back({.name = name});
    return models_[place->second];
  }

  std::vector<KnownModel> models_;
  std::map<std::string, std::size_t> places_;
};

// Downloads that have not ended, by the name that the model will have.
std::map<std::string, platform::DownloadStatus> downloads_under_way(const HandlerRequest& request) {
  std::map<std::string, platform::DownloadStatus> all;
  for (const platform::DownloadStatus& status : request.downloads().list()) {
    if (status.has_ended()) continue;
    const auto choice = request.supply().catalog.find(status.model);
    all.emplace(choice ? choice->name() : status.model, status);
  }
  return all;
}

// A model whose weights are in memory fits, whatever else has been loaded since.
void add_fit(Json& body, const KnownModel& known, bool is_loaded,
             const platform::MachineRoom& room) {
  const bool is_here = known.manifest.has_value() || known.served != nullptr;
  const platform::ModelFit fit = platform::fit_of(known.bytes(), is_here, room);
  body["fits"] = platform::name(is_loaded ? platform::Fit::yes : fit.fit);
  body["needs_bytes"] = fit.needs_bytes;
  body["why"] = is_loaded ? Json(nullptr) : or_null(fit.why);
}

Json json_of(const KnownModel& known, const platform::DownloadStatus* download,
             const platform::MachineRoom& room) {
  Json body = {{"name", known.name}};
  const platform::CatalogModel* const model = known.choice ? known.choice->model : nullptr;
  const engine::ModelInfo* const info =
      known.served != nullptr ? &known.served->engine->model_info() : nullptr;
  const bool is_loaded = info != nullptr && known.served->engine->stats().is_loaded;
  if (known.manifest) {
    body["title"] = or_null(known.manifest->title);
    body["quantization"] = or_null(known.manifest->quantization);
    body["license"] = or_null(known.manifest->license);
  } else if (model != nullptr) {
    body["title"] = model->title;
    body["quantization"] = known.choice->quantization->name;
    body["license"] = or_null(model->license);
  } else {
    body["title"] = or_null(info->name);
    body["quantization"] = or_null(info->quantization);
    body["license"] = nullptr;
  }
  body["parent"] = info != nullptr ? or_null(known.served->parent) : nullptr;
  body["is_default"] =
      model == nullptr || model->default_quantization == known.choice->quantization->name;
  body["parameters"] = info != nullptr    ? Json(info->parameters)
                       : model != nullptr ? Json(model->parameters)
                                          : Json(nullptr);
  body["bytes"] = known.bytes();
  body["bytes_are_exact"] =
      known.manifest || info != nullptr || known.choice->quantization->size_is_exact;
  body["context_length"] = info != nullptr    ? Json(info->context_tokens)
                           : model != nullptr ? Json(model->context_tokens)
                                              : Json(nullptr);
  body["capabilities"] =
      info != nullptr ? Json(api::capabilities_of(*known.served)) : Json(nullptr);
  body["state"] = known.served != nullptr ? "served"
                  : download != nullptr   ? "downloading"
                  : known.manifest        ? "stored"
                                          : "available";
  body["is_loaded"] = is_loaded;
  body["is_removable"] =
      download == nullptr &&
      (known.served != nullptr ? known.served->is_added : known.manifest.has_value());
  body["download"] = download != nullptr ? Json(download->id) : Json(nullptr);
  add_fit(body, known, is_loaded, room);
  body["tokens_per_second"] =
      known.served != nullptr ? measured_tokens_per_second(*known.served) : Json(nullptr);
  return body;
}

HandlerAnswer list_models(HandlerRequest& request) {
  const auto served = request.service.models.list();
  const KnownModels known(request.supply(), *served);
  const auto downloads = downloads_under_way(request);
  const platform::MachineRoom room = request.supply().room();
  Json data = Json::array();
  for (const KnownModel& model : known.list()) {
    const auto download = downloads.find(model.name);
    data.push_back(json_of(model, download == downloads.end() ? nullptr : &download->second, room));
  }
  return list_answer(std::move(data));
}

// Before it is done, so that nothing is done unrecorded. A server that asks for no key may have no
// database.
void record(const HandlerRequest& request, std::string_view action, const std::string& subject) {
  if (request.service.authenticator == nullptr && !request.service.platform.identity) return;
  request.identity().record_event(request.caller.actor, action, subject);
}

[[noreturn]] void refuse_removal(const std::string& name, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' cannot be removed: {}", name, why),
              "id");
}

// The name of one that has a share for the model; empty where there is none.
std::string endpoint_of(const HandlerRequest& request, const std::string& model) {
  const auto& directory = request.service.platform.endpoint_directory;
  if (directory == nullptr) return {};
  const auto table = directory->table();
  for (const platform::Endpoint& endpoint : table->endpoints) {
    const bool sends = std::ranges::any_of(endpoint.shares, [&](const auto& share) {
      return endpoint.find(share.version)->model == model;
    });
    if (sends) return endpoint.name;
  }
  return {};
}

// Whether requests, or the operator's endpoints, would miss it.
void check_is_unused(const HandlerRequest& request, const api::ServedModel& model) {
  if (!model.is_added) {
    refuse_removal(model.name,
                   "this server was started with it; start it without, and then use "
                   "'ridge rm' or this again");
  }
  if (const auto endpoint = endpoint_of(request, model.name); !endpoint.empty()) {
    refuse_removal(model.name, fmt::format("the endpoint '{}' sends requests to it", endpoint));
  }
  const engine::EngineStats stats = model.engine->stats();
  if (stats.running + stats.waiting > 0 || stats.is_loading) {
    refuse_removal(model.name, "requests are being answered by it; try again when they have ended");
  }
}

// No request finds it any more, and its weights leave the memory. What began meanwhile still holds
// the engine, and ends in order where the weights are loaded.
void stop_serving(const HandlerRequest& request, const api::ServedModel& model) {
  request.service.models.remove(model.name);
  model.engine->keep_loaded({}, engine::WhoAsks::administrator);
  log::info("{} is served no more", model.name);
}

HandlerAnswer delete_model(HandlerRequest& request) {
  const std::string& name = request.argument;
  const auto served = request.service.models.list();
  const auto model = std::ranges::find(*served, name, &api::ServedModel::name);
  const bool is_served = model != served->end();
  platform::Store& store = request.supply().store;
  const bool is_stored = store.find(name).has_value();
  if (!is_served && !is_stored) {
    throw Error(ErrorCode::not_found, fmt::format("there is no model '{}' on this machine", name),
                "id");
  }
  if (downloads_under_way(request).contains(name)) {
    refuse_removal(name, "it is being pulled; cancel that download first");
  }
  if (is_served) check_is_unused(request, *model);
  record(request, "model.remove", name);
  if (is_served) stop_serving(request, *model);
  const int64_t freed_bytes = is_stored ? platform::remove_model(store, name) : 0;
  return json_answer({{"name", name}, {"freed_bytes", freed_bytes}});
}

Json json_of(const platform::DownloadStatus& status) {
  return {{"id", status.id},
          {"model", status.model},
          {"name", or_null(status.name)},
          {"state", platform::name(status.state)},
          {"bytes_done", status.bytes_done},
          {"bytes_total", status.bytes_total > 0 ? Json(status.bytes_total) : Json(nullptr)},
          {"note", or_null(status.note)},
          {"error", or_null(status.error)},
          {"started_at_ms", status.started_at_ms},
          {"ended_at_ms", status.has_ended() ? Json(status.ended_at_ms) : Json(nullptr)}};
}

HandlerAnswer list_downloads(HandlerRequest& request) {
  Json data = Json::array();
  for (const platform::DownloadStatus& status : request.downloads().list()) {
    data.push_back(json_of(status));
  }
  return list_answer(std::move(data));
}

HandlerAnswer start_download(HandlerRequest& request) {
  const Json body = request.json();
  const std::string model = api::Fields(body, "").required_string("model", most_reference_bytes);
  platform::Downloads& downloads = request.downloads();
  const platform::ModelReference reference = platform::Downloads::check(model);
  if (reference.kind == platform::ReferenceKind::catalog &&
      !request.supply().store.find(reference.name)) {
    (void)request.supply().catalog.get(reference.name);
  }
  record(request, "download.start", reference.to_string());
  return json_answer(json_of(downloads.start(model)), 201);
}

HandlerAnswer show_download(HandlerRequest& request) {
  return json_answer(json_of(request.downloads().find(request.argument)));
}

HandlerAnswer cancel_download(HandlerRequest& request) {
  platform::Downloads& downloads = request.downloads();
  const platform::DownloadStatus status = downloads.find(request.argument);
  if (!status.has_ended()) {
    record(request, "download.cancel", status.model);
    downloads.cancel(status.id);
  }
  return no_content();
}

constexpr HandlerRoute models_table[] = {
    {"GET", "/api/v1/models", viewer_access, list_models},
    {"DELETE", "/api/v1/models/{id}", admin_access, delete_model},
    {"GET", "/api/v1/downloads", admin_access, list_downloads},
    {"POST", "/api/v1/downloads", admin_access, start_download},
    {"GET", "/api/v1/downloads/{id}", admin_access, show_download},
    {"DELETE", "/api/v1/downloads/{id}", admin_access, cancel_download},
};

}  // namespace

std::span<const HandlerRoute> model_routes() { return models_table; }

}  // namespace ridge::server
