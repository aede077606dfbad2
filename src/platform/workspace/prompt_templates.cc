#include "platform/workspace/prompt_templates.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/trimmed.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

constexpr std::size_t most_variable_bytes = 64;

bool is_variable(std::string_view name) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && name.size() <= most_variable_bytes && is_letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

void check_text(const std::string& text) {
  const bool is_good = !text.empty() && text.size() <= PromptTemplates::most_text_bytes &&
                       text.find('\0') == std::string::npos && rows::is_utf8(text);
  if (is_good) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the text must be 1 to {} bytes of UTF-8 without the character U+0000",
                          PromptTemplates::most_text_bytes),
              "text");
}

Error no_template(const std::string& id) {
  return Error(ErrorCode::not_found,
               fmt::format("there is no template '{}' in this project", id.substr(0, 100)));
}

void check_is_free(soci::session& session, const std::string& project_id, const std::string& name,
                   const std::string& own_id) {
  std::string other;
  session << "SELECT id FROM prompt_templates WHERE project_id = :project AND name = :name AND "
             "id <> :id",
      soci::use(project_id), soci::use(name), soci::use(own_id), soci::into(other);
  if (!session.got_data()) return;
  throw Error(ErrorCode::already_exists,
              fmt::format("this project has a template '{}' already", name), "name");
}

void record(soci::session& session, int64_t at_ms, std::string_view actor, std::string_view action,
            const PromptTemplate& changed) {
  rows::record_event(session, at_ms, actor, action, changed.id,
                     nlohmann::json({{"name", changed.name}}).dump());
}

}  // namespace

std::vector<std::string> PromptTemplate::variables() const {
  std::vector<std::string> names;
  std::string_view rest = text;
  while (true) {
    const std::size_t open = rest.find("{{");
    if (open == std::string_view::npos) return names;
    rest.remove_prefix(open + 2);
    const std::size_t close = rest.find("}}");
    if (close == std::string_view::npos) return names;
    // Of "{{{{name}}", the braces next to the name count.
    std::string_view inside = rest.substr(0, close);
    if (const std::size_t last = inside.rfind("{{"); last != std::string_view::npos) {
      inside.remove_prefix(last + 2);
    }
    const std::string name(trimmed(inside, " "));
    if (is_variable(name) && std::ranges::find(names, name) == names.end()) names.push_back(name);
    rest.remove_prefix(close + 2);
  }
}

PromptTemplates::PromptTemplates(Database& database, Identity::NowMs now_ms)
    : database_(database), now_ms_(Identity::clock_of(database, std::move(now_ms))) {}

std::vector<PromptTemplate> PromptTemplates::list(const std::string& project_id) {
  return database_.read([&](soci::session& session) {
    std::vector<PromptTemplate> templates;
    PromptTemplate row;
    soci::statement select =
        (session.prepare << "SELECT id, name, text, created_at_ms, updated_at_ms FROM "
                            "prompt_templates WHERE project_id = :project ORDER BY name",
         soci::use(project_id), soci::into(row.id), soci::into(row.name), soci::into(row.text),
         soci::into(row.created_at_ms), soci::into(row.updated_at_ms));
    select.execute();
    while (select.fetch()) templates.push_back(row);
    return templates;
  });
}

PromptTemplate PromptTemplates::create(const std::string& project_id, const std::string& name,
                                       const std::string& text, std::string_view actor) {
  rows::check_name(name, "a template");
  check_text(text);
  PromptTemplate made{.id = new_id("tpl_"), .name = name, .text = text};
  database_.write([&](soci::session& session) {
    check_is_free(session, project_id, name, made.id);
    int64_t templates = 0;
    session << "SELECT COUNT(*) FROM prompt_templates WHERE project_id = :project",
        soci::use(project_id), soci::into(templates);
    if (templates >= most_of_project) {
      throw Error(ErrorCode::payload_too_large,
                  fmt::format("this project has {} templates, which is the most; delete one first",
                              templates));
    }
    made.created_at_ms = made.updated_at_ms = now_ms_();
    session << "INSERT INTO prompt_templates (id, project_id, name, text, created_at_ms, "
               "updated_at_ms) VALUES (:id, :project, :name, :text, :made, :changed)",
        soci::use(made.id), soci::use(project_id), soci::use(name), soci::use(text),
        soci::use(made.created_at_ms), soci::use(made.updated_at_ms);
    record(session, made.created_at_ms, actor, "template.create", made);
  });
  return made;
}

PromptTemplate PromptTemplates::change(const std::string& project_id, const std::string& id,
                                       const std::string& name, const std::string& text,
                                       std::string_view actor) {
  rows::check_name(name, "a template");
  check_text(text);
  PromptTemplate changed{.id = id, .name = name, .text = text};
  database_.write([&](soci::session& session) {
    session << "SELECT created_at_ms FROM prompt_templates WHERE project_id = :project AND "
               "id = :id",
        soci::use(project_id), soci::use(id), soci::into(changed.created_at_ms);
    if (!session.got_data()) throw no_template(id);
    check_is_free(session, project_id, name, id);
    changed.updated_at_ms = now_ms_();
    session << "UPDATE prompt_templates SET name = :name, text = :text, updated_at_ms = :at "
               "WHERE id = :id",
        soci::use(name), soci::use(text), soci::use(changed.updated_at_ms), soci::use(id);
    record(session, changed.updated_at_ms, actor, "template.change", changed);
  });
  return changed;
}

void PromptTemplates::remove(const std::string& project_id, const std::string& id,
                             std::string_view actor) {
  database_.write([&](soci::session& session) {
    PromptTemplate gone{.id = id};
    session << "SELECT name FROM prompt_templates WHERE project_id = :project AND id = :id",
        soci::use(project_id), soci::use(id), soci::into(gone.name);
    if (!session.got_data()) throw no_template(id);
    session << "DELETE FROM prompt_templates WHERE id = :id", soci::use(id);
    record(session, now_ms_(), actor, "template.delete", gone);
  });
}

}  // namespace ridge::platform
