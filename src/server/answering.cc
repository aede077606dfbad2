#include "server/answering.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "api/conversation_beginning.h"
#include "api/error_body.h"
#include "base/log.h"
#include "platform/database/database_error.h"

namespace ridge::server {
namespace {

// As OpenTelemetry's conventions name what is done; "" for what no engine works on.
std::string_view operation_of(Route route) {
  switch (route) {
    case Route::chat_completions:
    case Route::messages:
    case Route::responses:
    case Route::ollama_chat:
      return "chat";
    case Route::completions:
    case Route::ollama_generate:
      return "text_completion";
    case Route::embeddings:
    case Route::ollama_embed:
    case Route::ollama_embeddings:
      return "embeddings";
    case Route::rerank:
      return "rerank";
    case Route::score:
      return "score";
    default:
      return "";
  }
}

bool makes_text(Route route) {
  return route != Route::embeddings && route != Route::ollama_embed &&
         route != Route::ollama_embeddings && route != Route::rerank && route != Route::score &&
         route != Route::detokenize;
}

// "" where there is none; what is no name is refused when the body is read.
std::string asked_model(Route route, const api::Json& body, const CallableModels& models) {
  const auto member = [&](const char* name) {
    const bool is_there = body.is_object() && body.contains(name) && body[name].is_string();
    return is_there ? body[name].get<std::string>() : std::string();
  };
  std::string name = member("model");
  if (route == Route::ollama_show && name.empty()) name = member("name");
  const bool is_ollama = route == Route::ollama_show || route == Route::ollama_chat ||
                         route == Route::ollama_generate || route == Route::ollama_embed ||
                         route == Route::ollama_embeddings;
  constexpr std::string_view latest = ":latest";  // as api::find_ollama_model has it
  if (is_ollama && name.ends_with(latest) && !models.has(name)) {
    name.resize(name.size() - latest.size());
  }
  return name;
}

}  // namespace

Error error_of(const std::exception_ptr& failure, std::string_view request_id) {
  try {
    std::rethrow_exception(failure);
  } catch (const platform::DatabaseError& error) {
    log::error("request {} failed: {}", request_id, error.message());
    return Error(error.code(), fmt::format("{}; the log has the reason under request {}",
                                           error.for_strangers().message(), request_id));
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& other) {
    return Error(ErrorCode::internal, other.what());
  }
}

Answering::Answering(Service& service, asio::any_io_executor executor)
    : service_(service), executor_(std::move(executor)), news_timer_(executor_) {}

asio::awaitable<void> Answering::send_error(const Error& error, int retry_after_s) {
  const int status = api::status_of(error, exchange_.error_style);
  if (!api::is_public(error.code()))
    log::error("request {} failed: {}", exchange_.id, error.message());
  exchange_.status = status;
  exchange_.error = ridge::name(error.code());
  end_record();
  const std::string body = api::error_body(error, exchange_.id, exchange_.error_style);
  co_await send_failure(status, body, retry_after_s * int64_t{1000},
                        error.code() == ErrorCode::timed_out);
}

void Answering::set_principal(std::shared_ptr<const platform::Principal> principal) {
  if (!principal->rights.models.empty()) {
    ModelList allowed;
    std::ranges::copy_if(
        *exchange_.models, std::back_inserter(allowed),
        [&](const api::ServedModel& model) { return principal->rights.allows_model(model.name); });
    exchange_.models = std::make_shared<const ModelList>(std::move(allowed));
  }
  exchange_.principal = std::move(principal);
}

bool Answering::is_administrator() const {
  return !exchange_.principal || exchange_.principal->rights.has(platform::Scope::admin);
}

CallableModels Answering::callable_models() const {
  const auto& directory = service_.platform.endpoint_directory;
  return {service_.models.list(), exchange_.models, directory ? directory->table() : nullptr,
          exchange_.principal};
}

std::shared_ptr<const CallableModels::List> Answering::models_for(const api::Json& body) const {
  const CallableModels models = callable_models();
  const std::string& caller =
      exchange_.principal ? exchange_.principal->key_id : exchange_.group;
  const auto find_response = [&](const std::string& id) {
    return service_.responses.find(exchange_.group, id);
  };
  // Vectors of two models cannot be compared, so that who asks for them always asks one.
  const auto beginning = [&] {
    return makes_text(exchange_.route.route) ? api::conversation_beginning(body, find_response)
                                             : std::string();
  };
  return models.for_request(asked_model(exchange_.route.route, body, models), caller, beginning);
}

const std::vector<api::ServedModel>& Answering::visible_models() const {
  return *exchange_.models;
}

bool Answering::may_use(const std::string& model) const {
  return !exchange_.principal || exchange_.principal->rights.allows_model(model);
}

void Answering::begin_record() {
  const std::string_view operation = operation_of(exchange_.route.route);
  if (operation.empty()) return;
  const platform::Principal* const principal = exchange_.principal.get();
  std::string project, key;
  if (principal != nullptr) {
    project = principal->project_name;
    key = principal->is_session ? principal->user_name : principal->key_name;
  }
  exchange_.record = std::make_shared<api::RequestRecord>(
      api::RequestRecord::Origin{.id = exchange_.id,
                                 .group = exchange_.group,
                                 .project = std::move(project),
                                 .key = std::move(key),
                                 .endpoint = name(exchange_.route),
                                 .operation = operation,
                                 .context = exchange_.context,
                                 .arrived = exchange_.started_at,
                                 .arrived_at = exchange_.started_at_wall});
  service_.records.add(exchange_.record);
}

// No engine had to work for it.
void Answering::drop_record() {
  if (exchange_.record) service_.records.remove(exchange_.record);
  exchange_.record = nullptr;
}

void Answering::record_requests(Prepared& prepared) {
  std::vector<engine::Request>& requests = prepared.requests;
  if (!exchange_.record || requests.empty()) return;
  const engine::Request& first = requests.front();
  int64_t prompt_tokens = 0;
  for (const engine::Request& request : requests) {
    prompt_tokens += static_cast<int64_t>(request.prompt_tokens.size());
  }
  exchange_.record->prepared(prepared.model->name, prepared.answer_id,
                             {.prompts = static_cast<int>(requests.size()),
                              .choices = first.choices,
                              .max_tokens = first.max_tokens,
                              .prompt_tokens = prompt_tokens,
                              .sampling = first.sampling,
                              .streams = prepared.answer->streams()});
  for (engine::Request& request : requests) request.trace = exchange_.record->add_trace();
}

// Before the client knows of the end, so that whoever asks then is told of it.
void Answering::end_record() {
  const auto record = std::move(exchange_.record);
  if (!record) return;
  if (exchange_.status == 0) {  // nobody was there to be told anything
    exchange_.status = http_status(ErrorCode::cancelled);
    exchange_.error = ridge::name(ErrorCode::cancelled);
  }
  record->ended(exchange_.status, exchange_.error, exchange_.usage, service_.clock.now());
  service_.gen_ai_metrics.observe(*record);
  if (service_.exporter && exchange_.context.sampled) service_.exporter->push(record);
}

}  // namespace ridge::server
