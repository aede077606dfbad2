// What people keep: their chats, and the prompt templates of their projects.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "api/fields.h"
#include "base/error.h"
#include "platform/workspace/chats.h"
#include "platform/workspace/prompt_templates.h"
#include "server/handler_route.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using api::Json;
using platform::Chats;
using platform::PromptTemplates;

constexpr std::size_t most_messages = 10'000;
// What is kept may be larger in a client's JSON, which escapes more than it has to.
constexpr std::size_t most_chat_body_bytes = 2 * Chats::most_messages_bytes;
constexpr std::size_t most_template_body_bytes = 8 * PromptTemplates::most_text_bytes;

// Whose chats are meant.
const std::string& owner(const HandlerRequest& request) {
  if (request.service.authenticator == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                "this server asks nobody who they are (--no-auth), so that it cannot tell whose "
                "chats it would keep");
  }
  if (request.caller.user_id.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "chats are kept for people, and this API key belongs to no user; sign in, or use a "
                "key that was made with 'ridge key create NAME --user USER'");
  }
  return request.caller.user_id;
}

Json json_of(const platform::ChatSummary& chat) {
  return {{"id", chat.id},
          {"title", chat.title},
          {"bytes", chat.bytes},
          {"created_at_ms", chat.created_at_ms},
          {"updated_at_ms", chat.updated_at_ms}};
}

HandlerAnswer list_chats(HandlerRequest& request) {
  const std::string& user = owner(request);
  Json data = Json::array();
  for (const auto& chat : Chats(request.database()).list(user)) data.push_back(json_of(chat));
  return list_answer(std::move(data));
}

HandlerAnswer show_chat(HandlerRequest& request) {
  const std::string& user = owner(request);
  const platform::Chat chat = Chats(request.database()).get(user, request.argument);
  Json body = json_of(chat);
  body["messages"] = api::parse_json(chat.messages);
  return json_answer(body);
}

// The messages are the client's own, and come back as they are.
std::string messages_of(const api::Fields& fields) {
  const Json* const messages = fields.array("messages", most_messages);
  if (messages == nullptr) api::refuse_missing("messages");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    if (!message.is_object()) {
      api::refuse_field(fmt::format("messages[{}]", i), message, "an object");
    }
  }
  return api::to_text(*messages);
}

HandlerAnswer put_chat(HandlerRequest& request) {
  const std::string& user = owner(request);
  const Json body = request.json();
  const api::Fields fields(body, "");
  const std::string title = fields.string("title", Chats::most_title_bytes).value_or("");
  return json_answer(
      json_of(Chats(request.database()).put(user, request.argument, title, messages_of(fields))));
}

HandlerAnswer delete_chat(HandlerRequest& request) {
  const std::string& user = owner(request);
  Chats(request.database()).remove(user, request.argument);
  return no_content();
}

Json json_of(const platform::PromptTemplate& prompt) {
  return {{"id", prompt.id},
          {"name", prompt.name},
          {"text", prompt.text},
          {"variables", prompt.variables()},
          {"created_at_ms", prompt.created_at_ms},
          {"updated_at_ms", prompt.updated_at_ms}};
}

HandlerAnswer list_templates(HandlerRequest& request) {
  const std::string project = request.project();
  Json data = Json::array();
  for (const auto& each : PromptTemplates(request.database()).list(project)) {
    data.push_back(json_of(each));
  }
  return list_answer(std::move(data));
}

struct TemplateFields {
  explicit TemplateFields(const Json& body)
      : name(api::Fields(body, "").required_string("name", platform::Identity::most_name_bytes)),
        text(api::Fields(body, "").required_string("text", PromptTemplates::most_text_bytes)) {}
  std::string name, text;
};

HandlerAnswer create_template(HandlerRequest& request) {
  const TemplateFields wanted(request.json());
  const std::string project = request.project();
  return json_answer(json_of(PromptTemplates(request.database())
                                 .create(project, wanted.name, wanted.text, request.caller.actor)),
                     201);
}

HandlerAnswer change_template(HandlerRequest& request) {
  const TemplateFields wanted(request.json());
  const std::string project = request.project();
  return json_answer(json_of(
      PromptTemplates(request.database())
          .change(project, request.argument, wanted.name, wanted.text, request.caller.actor)));
}

HandlerAnswer delete_template(HandlerRequest& request) {
  const std::string project = request.project();
  PromptTemplates(request.database()).remove(project, request.argument, request.caller.actor);
  return no_content();
}

constexpr HandlerRoute workspace_table[] = {
    {"GET", "/api/v1/chats", developer_access, list_chats},
    {"GET", "/api/v1/chats/{id}", developer_access, show_chat},
    {"PUT", "/api/v1/chats/{id}", developer_access, put_chat, most_chat_body_bytes},
    {"DELETE", "/api/v1/chats/{id}", developer_access, delete_chat},
    {"GET", "/api/v1/templates", developer_access, list_templates},
    {"POST", "/api/v1/templates", developer_access, create_template, most_template_body_bytes},
    {"PUT", "/api/v1/templates/{id}", developer_access, change_template, most_template_body_bytes},
    {"DELETE", "/api/v1/templates/{id}", developer_access, delete_template},
};

}  // namespace

std::span<const HandlerRoute> workspace_routes() { return workspace_table; }

}  // namespace ridge::server
